"""What tests of commands share: a small fit, which is trained once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lightning_emerge.cli import main

SMOKE = str(Path(__file__).parents[2] / "configs" / "smoke.yaml")
SMALL = [
    *("--data.image_size", "16", "--model.network.init_args.image_size", "16", "--trainer.limit_train_batches", "3"),
    *("--model.network.init_args.plan", "[1]", "--data.bank_exemplars", "3", "--trainer.enable_progress_bar", "false"),
    *("--trainer.enable_model_summary", "false"),
]


@pytest.fixture(scope="session")
def _fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("fitted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        main(["fit", "--config", SMOKE, *SMALL, "--trainer.max_epochs", "1"])
    return home


@pytest.fixture
def fitted(_fitted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder is one in which a fit of one epoch has left `runs/smoke/version_0`."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(_fitted, tmp_path, dirs_exist_ok=True)
