"""Commands under what a shell, a notebook, a container or the working folder bring along."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from children import run_group

from lightning_emerge.board.launch import tensorboard_command

ROOT = Path(__file__).parents[2]
SMOKE = str(ROOT / "configs" / "smoke.yaml")
SCRIPT = "from lightning_emerge.cli import main; main()"
"""What the installed command does, whose own folder comes first on `sys.path`."""

STARTS = {"command": None, "module": ["-m", "lightning_emerge"]}


@pytest.fixture(params=sorted(STARTS))
def lightning(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., str]:
    """Runs a command in a folder of its own, with further variables; gives what it says."""
    start = STARTS[request.param]
    if start is None:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "lightning").write_text(SCRIPT)
        start = [tmp_path / "bin" / "lightning"]
    home = tmp_path / "here"
    home.mkdir(exist_ok=True)

    def run(*arguments: str | Path, **variables: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
        ended = run_group([sys.executable, *start, *arguments], cwd=home, env=environment)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return run


@pytest.mark.slow
def test_a_notebooks_backend_stops_no_command(lightning, make_run, tmp_path):
    run = make_run(tmp_path / "here" / "run")
    other = {"MPLBACKEND": "no backend"}
    wrong = {"MPLBACKEND": "no backend"}
    assert "class_path" in lightning("fit", "--config", SMOKE, "--print_config", **wrong)
    lightning("sheet", "--config", SMOKE, "--out", "sheet.png", **other)
    lightning("biography", run, "--layer", "conv1", "--filter", "0", "--out", "one.png", **wrong)
    assert {path.name for path in (tmp_path / "here").iterdir()} == {"run", "sheet.png", "one.png"}


@pytest.mark.slow
@pytest.mark.parametrize("lightning", ["module"], indirect=True)
def test_it_stops_none_of_those_that_take_longer(lightning):
    run, given = "runs/smoke/version_0", {"MPLBACKEND": "no backend"}
    probes = ["--trainer.callbacks+=lightning_emerge.EmbeddingProbe", "--trainer.limit_train_batches=3"]
    assert "Trained   3" in lightning("fit", "--config", SMOKE, *probes, **given)
    assert "embedding.png" in lightning("embed", run, "--looks", "1", **given)
    assert "report.html" in lightning("report", run, **given)
    assert "Records" in lightning("replay", "--config", SMOKE, f"--checkpoints={run}/checkpoints", **given)
    small = ["--data.exemplars=2", "--data.min_exemplars=2", "--data.val_exemplars=2", "--data.test_exemplars=2"]
    assert "were written" in lightning("data", "--config", SMOKE, *small, "--out", "data", **given)


def test_the_package_leaves_the_backend_of_who_imports_it_alone():
    code = "import os, matplotlib, lightning_emerge as le; le.draw_timeline; print(matplotlib.get_backend())"
    ended = run_group([sys.executable, "-c", code], env={**os.environ, "MPLBACKEND": "svg"})
    assert ended.stdout == "svg\n", ended.stderr


_HOMELESS = """
import os, sys
import numpy as np
import lightning_emerge as le
from lightning_emerge.analysis.ramps import fit_ramp
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
    ended = run_group([sys.executable, "-c", _HOMELESS, photographs], cwd=tmp_path / "here", env=environment)
    assert ended.stdout.splitlines()[-1] == "[]", ended.stderr


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


@pytest.mark.slow
def test_modules_in_the_working_folder_hide_no_others(lightning, traps, make_run, tmp_path):
    run = make_run(tmp_path / "here" / "run")
    lightning("--help")
    lightning("biography", run, "--layer", "conv1", "--filter", "0")
    said = lightning("fit", "--config", SMOKE, "--data", "own_module.OwnData", "--print_config")
    assert "own_module.OwnData" in said
    assert traps() == []


@pytest.mark.slow
@pytest.mark.parametrize("lightning", ["module"], indirect=True)
def test_umap_is_the_library(lightning, traps, tmp_path):
    probes = ["--trainer.callbacks+=lightning_emerge.EmbeddingProbe", "--trainer.limit_train_batches=3"]
    lightning("fit", "--config", SMOKE, *probes)
    lightning("embed", "runs/smoke/version_0", "--looks", "1")
    assert traps() == []


def test_tensorboard_is_started_without_them(traps, tmp_path):
    command = tensorboard_command("runs", 0)
    ended = run_group([*command, "--version_tb"], cwd=tmp_path / "here", env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert traps() == [], ended.stderr
    assert ended.returncode == 0, ended.stderr
