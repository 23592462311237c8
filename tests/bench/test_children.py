"""What a test starts ends with it, and what that has started, too."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from children import run_group, started

_HANGS = "import time; print('begun', flush=True); time.sleep(600)"
_PARENT = f"""
import subprocess, sys
from pathlib import Path
apart = "apart" in sys.argv
child = subprocess.Popen([sys.executable, "-c", {_HANGS!r}], stdout=subprocess.PIPE, start_new_session=apart)
child.stdout.readline()
Path(sys.argv[1]).write_text(str(child.pid))
"""
_WAITS, _LEAVES = f"{_PARENT}child.wait()", _PARENT


def _is_gone(number: str, within: float = 20) -> bool:
    """Whether a process is over; its parent may not have asked for its status yet."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.05)
    return False


@pytest.fixture
def grandchild(tmp_path):
    return tmp_path / "grandchild"


def test_a_command_that_hangs_is_gone_with_all_that_it_started(grandchild):
    with pytest.raises(subprocess.TimeoutExpired):
        run_group([sys.executable, "-c", _WAITS, grandchild], timeout=5)
    assert _is_gone(grandchild.read_text())


def test_so_is_what_a_command_leaves_behind(grandchild):
    run_group(
        [sys.executable, "-c", _LEAVES, grandchild], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True
    )
    assert _is_gone(grandchild.read_text())


def test_so_is_all_of_a_test_that_fails(grandchild):
    held = []

    def fail() -> None:
        with started([sys.executable, "-c", _WAITS, grandchild]) as process:
            held.append(process)
            end = time.monotonic() + 60
            while not (grandchild.exists() and grandchild.read_text()) and time.monotonic() < end:
                time.sleep(0.05)
            raise AssertionError("as planned")

    with pytest.raises(AssertionError, match="as planned"):
        fail()
    assert held[0].returncode is not None
    assert _is_gone(grandchild.read_text())


@pytest.mark.slow
def test_so_is_all_of_a_test_that_takes_too_long(grandchild, tmp_path):
    (tmp_path / "test_it.py").write_text(
        f"import sys\nfrom children import run_group\n"
        f"def test_it(): run_group([sys.executable, '-c', {_WAITS!r}, {str(grandchild)!r}])\n"
    )
    settings = ["-p", "no:cacheprovider", "-c", str(Path(__file__).parents[2] / "pyproject.toml"), "--timeout=10"]
    ended = run_group(
        [sys.executable, "-m", "pytest", "-q", *settings, f"--rootdir={tmp_path}", tmp_path / "test_it.py"]
    )
    assert ended.returncode == 1
    assert "Timeout" in ended.stdout
    assert _is_gone(grandchild.read_text())


def test_what_a_command_says_and_how_it_ends_is_kept():
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    ended = run_group([sys.executable, "-c", code])
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "out\n", "err\n")
    with pytest.raises(subprocess.CalledProcessError):
        run_group([sys.executable, "-c", code], check=True)
