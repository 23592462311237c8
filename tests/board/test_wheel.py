"""What is installed: the tab's files, small, the entry point that TensorBoard looks for, and the configurations."""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
from children import run_group

ROOT = Path(__file__).parents[2]
WEB = ROOT / "lightning_emerge" / "board" / "web"
CONFIGS = ROOT / "configs"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A wheel of this checkout, unpacked as an installation would."""
    folder = tmp_path_factory.mktemp("wheel")
    left_out = shutil.ignore_patterns(
        ".*", "build", "dist", "*.egg-info", "__pycache__", "docs", "tests", "runs", "shared"
    )
    shutil.copytree(ROOT, folder / "source", ignore=left_out, symlinks=True)
    code = "import setuptools.build_meta as made; print(made.build_wheel('..'))"
    run_group([sys.executable, "-c", code], cwd=folder / "source", check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(folder / "installed")
    return folder / "installed"


@pytest.mark.slow
def test_the_wheel_holds_the_tab(installed):
    package, (about,) = installed / "lightning_emerge", installed.glob("*.dist-info")
    assert (package / "__init__.pyi").is_file(), "the public names are read from it"
    assert {path.name for path in (package / "board/web").iterdir()} == {path.name for path in WEB.iterdir()}
    said = (about / "entry_points.txt").read_text()
    assert "[tensorboard_plugins]\nemerge = lightning_emerge.board.loader:EmergeLoader" in said


@pytest.mark.slow
def test_the_wheel_holds_the_configurations_once(installed):
    found = {path.relative_to(installed).as_posix(): path.read_bytes() for path in installed.rglob("*.yaml")}
    ours = {path.relative_to(CONFIGS).as_posix(): path.read_bytes() for path in CONFIGS.rglob("*.yaml")}
    assert found == {f"lightning_emerge/configs/{name}": content for name, content in ours.items()}


@pytest.mark.slow
def test_a_fit_by_name_runs_from_what_is_installed_in_an_empty_folder(installed, tmp_path):
    few = ["--trainer.max_steps", "2", "--trainer.limit_val_batches", "0", "--data.bank_exemplars", "2"]
    few += ["--model.network.init_args.width", "2", "--model.network.init_args.head", "[8, 8]"]
    quiet = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]
    command = [sys.executable, "-P", "-m", "lightning_emerge", "fit", "--config", "vgg5", *few, *quiet]
    done = run_group(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(installed)})
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs/vgg5/version_0"
    assert "Trained   2 optimizer steps" in done.stdout, done.stdout
    assert (run / "config.yaml").is_file()
    assert {"rdm", "kernels", "bank_accuracy"} <= {path.name for path in (run / "records.zarr").iterdir()}
    where = "import lightning_emerge.cli.shipped as s; print(s.HOME, s.HOME.is_symlink())"
    told = run_group([sys.executable, "-P", "-c", where], env={**os.environ, "PYTHONPATH": str(installed)})
    assert told.stdout.split() == [str(installed / "lightning_emerge/configs"), "False"]
