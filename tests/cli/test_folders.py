"""Folders of runs: each run has its own from before anything is written there, and its path is literal."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any

import pytest
import yaml
from children import started
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

import lightning_emerge as le
from lightning_emerge.cli import main
from lightning_emerge.cli.folders import claim_version, lock_run

SMOKE = str(Path(__file__).parents[2] / "configs" / "smoke.yaml")
SMALL = [
    *("--data.image_size", "16", "--model.network.init_args.image_size", "16", "--trainer.limit_train_batches", "3"),
    *("--model.network.init_args.plan", "[1]", "--data.bank_exemplars", "3", "--trainer.enable_progress_bar", "false"),
    *("--trainer.enable_model_summary", "false", "--trainer.max_epochs", "1"),
]


def command(name: str, *arguments: str) -> None:
    main([name, "--config", SMOKE, *SMALL, *arguments])


@pytest.mark.parametrize("kind", [TensorBoardLogger, CSVLogger])
def test_loggers_that_number_their_runs_at_once_get_folders_of_their_own(kind, tmp_path):
    loggers = [kind(tmp_path, name="smoke") for _ in range(3)]
    assert [logger.version for logger in loggers] == [0, 0, 0]  # as each of them would have it
    for logger in loggers:
        claim_version(logger)
    assert [logger.version for logger in loggers] == [0, 1, 2]
    assert sorted(os.listdir(tmp_path / "smoke")) == ["version_0", "version_1", "version_2"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fit", "predict"])
def test_three_that_are_started_at_once_get_folders_of_their_own(name, tmp_path):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    begin = [sys.executable, "-m", "lightning_emerge", name, "--config", SMOKE, *SMALL]
    settings: dict[str, Any] = {"cwd": tmp_path, "stdout": PIPE, "stderr": STDOUT, "text": True, "ready": True}
    with ExitStack() as all_:
        runs = [
            all_.enter_context(started([*begin, "--seed_everything", str(seed)], environment, **settings))
            for seed in (1, 2, 3)
        ]
        said = [run.communicate(timeout=200)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], said
    folders = sorted((tmp_path / "runs/smoke").glob("version_*"))
    assert [folder.name for folder in folders] == ["version_0", "version_1", "version_2"]
    seeds = [yaml.safe_load((folder / "config.yaml").read_text())["seed_everything"] for folder in folders]
    assert sorted(seeds) == [1, 2, 3]
    for folder, seed in zip(folders, seeds, strict=True):
        (own,) = [text for text in said if f"runs/smoke/{folder.name}" in text]
        assert f"Seed set to {seed}" in own
        if name == "fit":
            assert le.open_run(folder).step.values.tolist()[-1] == 3


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("arguments", [(), ("--ckpt_path", "last")])
def test_a_folder_in_which_another_fit_writes_is_left_as_it_is(arguments, tmp_path, monkeypatch, capfd):
    """Without probes, whose store would tell."""
    monkeypatch.chdir(tmp_path)
    text = yaml.safe_load(Path(SMOKE).read_text())
    text["trainer"]["callbacks"] = [{"class_path": "lightning_emerge.Checkpoints"}]
    Path("own.yaml").write_text(yaml.safe_dump(text))
    begin = ["fit", "--config", "own.yaml", *SMALL, "--trainer.logger.init_args.version", "0"]
    main(begin)
    before, lock = contents(tmp_path / "runs"), lock_run("runs/smoke/version_0")
    assert lock is not None
    capfd.readouterr()
    try:
        with pytest.raises(SystemExit) as ended:
            main([*begin, "--seed_everything", "5", "--trainer.max_epochs", "2", *arguments])
    finally:
        lock.release()
    assert ended.value.code == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("lightning: ")]
    assert "another is writing runs/smoke/version_0 now" in line
    assert contents(tmp_path / "runs") == before


def test_a_test_in_the_folder_of_a_fit_leaves_the_fits_configuration(fitted):
    before = Path("runs/smoke/version_0/config.yaml").read_text()
    command("test", "--ckpt_path", "last", "--trainer.logger.init_args.version", "0", "--data.batch_size", "10")
    assert Path("runs/smoke/version_0/config.yaml").read_text() == before


@pytest.fixture
def others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Folders of others, in which a run would write if its path were cut."""
    monkeypatch.chdir(tmp_path)
    names = ("exp", "vgg5", "x")
    for name in names:
        Path(name).mkdir()
        Path(name, "notes.txt").write_text("precious")

    def check() -> None:
        for name in names:
            assert os.listdir(name) == ["notes.txt"], name
            assert Path(name, "notes.txt").read_text() == "precious"

    return check


@pytest.mark.slow
@pytest.mark.parametrize(
    ("folder", "logger"),
    [
        ("exp::lr0.1", "TensorBoardLogger"),
        ("{here}/exp::lr0.1", "CSVLogger"),
        ("file:x", "CSVLogger"),
        ("data:x", "TensorBoardLogger"),
        ("memory::x", "TensorBoardLogger"),
    ],
)
def test_a_run_in_a_folder_with_colons_writes_there_and_nowhere_else(folder, logger, others, tmp_path, capfd):
    where = folder.format(here=tmp_path)
    kind = ["--trainer.logger", f"lightning.pytorch.loggers.{logger}", "--trainer.logger.save_dir", where]
    arguments = [*kind, "--trainer.logger.name", "vgg5::lr0.1"]
    command("fit", *arguments)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Experiment logs directory")  # of CSVLogger's, when a run is resumed
        command("fit", *arguments, "--ckpt_path", "last", "--trainer.max_epochs", "2")
    command("test", *arguments, "--ckpt_path", "last")
    others()
    home = tmp_path / os.path.relpath(where, tmp_path) / "vgg5::lr0.1"
    assert sorted(os.listdir(tmp_path)) == sorted(["exp", "vgg5", "x", home.parent.name])
    assert sorted(name for name in os.listdir(home) if name[0] != ".") == ["version_0", "version_1"]
    run = home / "version_0"
    left = {"config.yaml", "checkpoints", "records.zarr", "emergence.json", "fit.json", "exemplars.png"}
    left.add("metrics.csv" if logger == "CSVLogger" else "hparams.yaml")
    assert left <= set(os.listdir(run))
    assert le.open_run(run).step.values.tolist()[-1] == 6
    capfd.readouterr()
    configuration = ["--config", str(run / "config.yaml"), "--checkpoints", str(run / "checkpoints")]
    main(["replay", *configuration])
    others()
    assert le.open_run(run / "replay_0").step.values.tolist() == [0, 1, 2, 3, 6]


def test_lightnings_own_checkpoints_are_literal_too(others, tmp_path):
    text: dict[str, Any] = yaml.safe_load(Path(SMOKE).read_text())
    text["trainer"]["callbacks"] = [{"class_path": "lightning.pytorch.callbacks.ModelCheckpoint"}]
    Path("own.yaml").write_text(yaml.safe_dump(text))
    more = ["--trainer.max_epochs", "3", "--trainer.logger.init_args.save_dir", "exp::lr0.1"]
    main(["fit", "--config", "own.yaml", *SMALL, *more])
    others()
    assert sorted(os.listdir()) == ["exp", "exp::lr0.1", "own.yaml", "vgg5", "x"]
    assert os.listdir("exp::lr0.1/smoke/version_0/checkpoints") == ["epoch=2-step=9.ckpt"]
