"""What is installed: the tab's files, small, and the entry point that TensorBoard looks for."""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path

import pytest
from children import run_group

ROOT = Path(__file__).parents[2]
WEB = ROOT / "lightning_emerge" / "board" / "web"


@pytest.mark.slow
def test_the_wheel_holds_the_tab(tmp_path):
    left_out = shutil.ignore_patterns(
        ".*", "build", "dist", "*.egg-info", "__pycache__", "docs", "tests", "runs", "shared"
    )
    shutil.copytree(ROOT, tmp_path / "source", ignore=left_out)
    code = "import setuptools.build_meta as made; print(made.build_wheel('..'))"
    run_group([sys.executable, "-c", code], cwd=tmp_path / "source", check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        names = content.namelist()
        entry = next(name for name in names if name.endswith("entry_points.txt"))
        said = content.read(entry).decode()
    assert "lightning_emerge/__init__.pyi" in names, "the public names are read from it"
    home = "lightning_emerge/board/web/"
    assert {name.removeprefix(home) for name in names if name.startswith(home)} == {path.name for path in WEB.iterdir()}
    assert "[tensorboard_plugins]\nemerge = lightning_emerge.board.loader:EmergeLoader" in said
