"""Commands under what a shell, a notebook, a container or the working folder bring along."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from children import LIBRARIES, run_group

from lightning_emerge.board.launch import tensorboard_command

ROOT = Path(__file__).parents[2]
SMOKE = str(ROOT / "configs" / "smoke.yaml")
SCRIPT = "from lightning_emerge.cli import main; main()"
"""What the installed command does, whose own folder comes first on `sys.path`."""

BACKEND = {"MPLBACKEND": "no backend"}
STARTS = {"command": None, "module": ["-m", "lightning_emerge"]}


@pytest.fixture(params=sorted(STARTS))
def lightning(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., str]:
    """Runs a command in a folder of its own, with a notebook's backend; gives what it says."""
    start = STARTS[request.param]
    if start is None:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "lightning").write_text(SCRIPT)
        start = [tmp_path / "bin" / "lightning"]
    home = tmp_path / "here"
    home.mkdir(exist_ok=True)

    def run(*arguments: str | Path, ready: bool | tuple[str, ...] = False) -> str:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **BACKEND}
        ended = run_group([sys.executable, *start, *arguments], cwd=home, env=environment, ready=ready)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return run


_NAMES = ("umap", "profile", "numpy", "cProfile", "yaml", "torch", "tensorboard", "matplotlib", "data")
_TRAP = "import pathlib; pathlib.Path(__file__).with_suffix('.ran').touch(); raise SystemExit('the wrong module')\n"
_OWN = """
import lightning_emerge as le


class OwnData(le.TokenDataModule):
    pass
"""


@pytest.fixture
def traps(tmp_path: Path) -> Callable[[], list[str]]:
    """Gives the names of modules in the working folder that were run in place of others of the same name."""
    home = tmp_path / "here"
    home.mkdir(exist_ok=True)
    for name in _NAMES:
        (home / f"{name}.py").write_text(_TRAP)
    (home / "own_module.py").write_text(_OWN)
    return lambda: sorted(path.name for path in home.glob("*.ran"))


def test_the_backend_would_stop_matplotlib():
    ended = run_group([sys.executable, "-c", "import matplotlib"], env={**os.environ, **BACKEND}, ready=LIBRARIES)
    assert ended.returncode == 1
    assert "no backend" in ended.stderr


@pytest.mark.slow
def test_neither_a_notebooks_backend_nor_modules_in_the_working_folder_stop_a_command(
    lightning, traps, make_run, tmp_path
):
    run = make_run(tmp_path / "here" / "run")
    before = set(os.listdir(tmp_path / "here"))
    lightning("--help")
    said = lightning("fit", "--config", SMOKE, "--data", "own_module.OwnData", "--print_config")
    assert "own_module.OwnData" in said
    assert "class_path" in said
    lightning("biography", run, "--layer", "conv1", "--filter", "0", "--out", "one.png")
    assert traps() == []
    lightning("sheet", "--config", SMOKE, "--out", "sheet.png", ready=LIBRARIES)
    assert set(os.listdir(tmp_path / "here")) - before == {"sheet.png", "one.png"}


@pytest.mark.slow
@pytest.mark.parametrize("lightning", ["module"], indirect=True)
def test_they_stop_none_of_those_that_take_longer(lightning, traps):
    run = "runs/smoke/version_0"
    probes = ["--trainer.callbacks+=lightning_emerge.EmbeddingProbe", "--trainer.limit_train_batches=3"]
    assert "Trained   3" in lightning("fit", "--config", SMOKE, *probes, ready=LIBRARIES)
    assert "embedding.png" in lightning("embed", run, "--looks", "1", ready=LIBRARIES)
    assert traps() == []  # umap is the library
    assert "report.html" in lightning("report", run, ready=LIBRARIES)
    replay = ["replay", "--config", SMOKE, f"--checkpoints={run}/checkpoints"]
    assert "Records" in lightning(*replay, ready=LIBRARIES)
    small = ["--data.exemplars=2", "--data.min_exemplars=2", "--data.val_exemplars=2", "--data.test_exemplars=2"]
    assert "were written" in lightning("data", "--config", SMOKE, *small, "--out", "data", ready=LIBRARIES)


def test_the_package_leaves_the_backend_of_who_imports_it_alone():
    code = "import os, matplotlib, lightning_emerge as le; le.draw_timeline; print(matplotlib.get_backend())"
    environment = {**os.environ, "MPLBACKEND": "svg"}
    ended = run_group([sys.executable, "-c", code], env=environment, ready=LIBRARIES)
    assert ended.stdout == "svg\n", ended.stderr


_HOMELESS = """
import os, sys
import numpy as np
import lightning_emerge as le
from lightning_emerge.analysis.fits import fit_ramp
data = le.FolderDataModule(sys.argv[1], image_size=8, min_exemplars=2, bank_exemplars=2)
data.setup("fit")
fit_ramp(np.arange(9.0))
print(os.listdir("."))
"""


@pytest.mark.slow
def test_without_a_home_nothing_is_kept_where_one_works(make_photographs, tmp_path):
    photographs = make_photographs("cat", "dog").root
    (tmp_path / "here").mkdir()
    unset = {name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"}
    # "~" is what the system says where no user is known; the rest is as where the package's folder cannot be written.
    environment = {**unset, "HOME": "~", "NUMBA_CACHE_LOCATOR_CLASSES": "UserProvidedCacheLocator,UserWideCacheLocator"}
    ended = run_group(
        [sys.executable, "-c", _HOMELESS, photographs], cwd=tmp_path / "here", env=environment, ready=LIBRARIES
    )
    assert ended.stdout.splitlines()[-1] == "[]", ended.stderr


def test_tensorboard_is_started_without_them(traps, tmp_path):
    command = tensorboard_command("runs", 0)
    ended = run_group([*command, "--version_tb"], cwd=tmp_path / "here", env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert traps() == [], ended.stderr
    assert ended.returncode == 0, ended.stderr
