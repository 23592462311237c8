"""What judges a change: `.ci/run` gets what tests need, and tests that need a browser are not left out unseen."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from children import LIBRARIES, run_group

ROOT = Path(__file__).parents[2]
MAKE = "echo made $1 with CI=$CI"


@pytest.fixture
def judge(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `.ci/run` with a system made of scripts: name -> content."""

    def run(**scripts: str) -> subprocess.CompletedProcess[str]:
        system = tmp_path / "system"
        system.mkdir()
        for needed in ("bash", "env", "dirname", "touch", "chmod"):
            (system / needed).symlink_to(shutil.which(needed) or needed)
        for name, content in {"make": MAKE, **scripts}.items():
            (system / name.replace("_", "-")).write_text(f"#!/usr/bin/env bash\n{content}\n")
            (system / name.replace("_", "-")).chmod(0o755)
        (tmp_path / ".ci").mkdir()
        shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci")
        own = {name: value for name, value in os.environ.items() if name != "CI"}
        return run_group([tmp_path / ".ci" / "run"], 60, env={**own, "PATH": str(system), "SYSTEM": str(system)})

    return run


INSTALLS = """
echo "$*" >>"$SYSTEM/asked"
case "$* " in
    *chromium*) touch "$SYSTEM/chromium" && chmod 755 "$SYSTEM/chromium" ;;
    *slurm*) exit 100 ;;
esac
"""


def test_it_installs_a_browser_and_goes_on_without_slurm(judge, tmp_path):
    ended = judge(apt_get=INSTALLS, id="echo 0")
    assert ended.returncode == 0, ended.stderr
    assert "made test with CI=true\nmade docs with CI=true\n" in ended.stdout
    assert "SLURM could not be installed; its tests are skipped" in ended.stderr
    asked = (tmp_path / "system" / "asked").read_text()
    assert "chromium" in asked
    assert "slurm-wlm munge" in asked


def test_what_is_there_is_not_installed(judge, tmp_path):
    ended = judge(apt_get=INSTALLS, id="echo 0", chromium="", slurmctld="", munged="")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert not (tmp_path / "system" / "asked").exists()


@pytest.mark.parametrize("system", [{"id": "echo 1000", "apt_get": INSTALLS}, {"id": "echo 0", "apt_get": "exit 100"}])
def test_without_a_browser_it_fails_and_says_why(judge, system):
    ended = judge(**system)
    assert ended.returncode == 1
    assert "need Chromium, and it could not be installed" in ended.stderr
    assert "made" not in ended.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("judged", "wanted"), [("true", "1 error"), ("", "1 skipped")])
def test_tests_in_a_browser_are_skipped_only_where_no_change_is_judged(judged, wanted, tmp_path):
    (tmp_path / "node").symlink_to(shutil.which("true") or "true")  # a path without Chromium
    test = ROOT / "tests" / "integration" / "test_board.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={ROOT}", test]
    environment = {**os.environ, "PATH": str(tmp_path), "CI": judged}
    ended = run_group(command, cwd=ROOT, env=environment, ready=LIBRARIES)
    assert wanted in ended.stdout, ended.stdout
    assert "chromium" in ended.stdout.lower()
