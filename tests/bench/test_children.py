"""What a test starts ends with it, and what that has started, too."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from children import run_group, run_ranks, started

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


def _has_begun(path: Path) -> bool:
    return path.exists() and path.read_text() != ""


def _wait_for(path: Path) -> str:
    """The number that a process writes to a file when it has begun."""
    end = time.monotonic() + 60
    while not _has_begun(path) and time.monotonic() < end:
        time.sleep(0.05)
    return path.read_text()


def _hang(begun: Callable[[], bool], run: Callable[[float], Any]) -> None:
    """Runs what never ends with a limit, which is longer as long as it does not suffice to begin."""
    for limit in (1.0, 3.0, 9.0, 27.0):
        with pytest.raises(subprocess.TimeoutExpired):
            run(limit)
        if begun():
            return
    pytest.fail("it does not begin")


both = pytest.mark.parametrize("ready", [False, True], ids=["fresh", "forked"])


@both
@pytest.mark.parametrize("where", ["of its group", "apart"])
def test_a_command_that_hangs_is_gone_with_all_that_it_started(grandchild, ready, where):
    command = [sys.executable, "-c", _WAITS, grandchild, where]
    _hang(lambda: _has_begun(grandchild), lambda limit: run_group(command, timeout=limit, ready=ready))
    assert _is_gone(_wait_for(grandchild))


@both
def test_so_is_what_a_command_leaves_behind(grandchild, ready):
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    run_group([sys.executable, "-c", _LEAVES, grandchild], check=True, ready=ready, **quiet)
    assert _is_gone(grandchild.read_text())


@both
def test_so_is_what_waits_for_a_parent_that_was_killed(grandchild, ready):
    with started([sys.executable, "-c", _WAITS, grandchild], ready=ready) as process:
        number = _wait_for(grandchild)
        process.send_signal(signal.SIGKILL)
        assert process.wait(20) == -signal.SIGKILL
        assert not _is_gone(number, within=0.2)
    assert _is_gone(number)


@both
def test_so_is_all_of_a_test_that_fails(grandchild, ready):
    held = []

    def fail() -> None:
        with started([sys.executable, "-c", _WAITS, grandchild], ready=ready) as process:
            held.append(process)
            _wait_for(grandchild)
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
    settings = ["-p", "no:cacheprovider", "-c", str(Path(__file__).parents[2] / "pyproject.toml"), "--timeout=3"]
    ended = run_group(
        [sys.executable, "-m", "pytest", "-q", *settings, f"--rootdir={tmp_path}", tmp_path / "test_it.py"]
    )
    assert ended.returncode == 1
    assert "Timeout" in ended.stdout
    assert _is_gone(grandchild.read_text())


_ASKS = """
import sys, time
sys.path.insert(0, sys.argv[1])
from children import Forked
import os
kept = Forked([sys.executable, "-c", sys.argv[2], sys.argv[3]], dict(os.environ), modules=("subprocess",))
time.sleep(600)
"""


def test_a_forked_program_is_gone_with_all_that_it_started_when_its_asker_is_killed(grandchild):
    with started([sys.executable, "-c", _ASKS, Path(__file__).parent, _WAITS, grandchild]) as asker:
        number = _wait_for(grandchild)
        asker.kill()
        assert _is_gone(number)


@both
def test_what_a_command_says_and_how_it_ends_is_kept(ready):
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    ended = run_group([sys.executable, "-c", code], ready=ready)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "out\n", "err\n")
    with pytest.raises(subprocess.CalledProcessError):
        run_group([sys.executable, "-c", code], check=True, ready=ready)


_TELLS = """
import atexit, json, os, signal, sys, threading
atexit.register(print, "last")
import own
found = [sys.argv, __name__, own.value, os.getcwd(), os.environ.get("GIVEN"), os.environ.get("HOME")]
print(json.dumps([*found, signal.getsignal(signal.SIGINT) is signal.default_int_handler, threading.active_count()]))
threading.Thread(target=lambda: [threading.Event().wait(0.2), print("thread")]).start()
"""


@pytest.mark.parametrize("start", ["-c", "-m", "script"])
def test_a_forked_program_is_as_one_of_a_fresh_interpreter(start, tmp_path):
    for folder in ("here", "path"):
        (tmp_path / folder).mkdir()
    (tmp_path / "path/own.py").write_text("value = 7")
    (tmp_path / "here/program.py").write_text(_TELLS)
    words = {"-c": ["-c", _TELLS], "-m": ["-m", "program"], "script": ["program.py"]}[start]
    kept = {name: value for name, value in os.environ.items() if name not in ("HOME", "PYTHONPATH")}
    settings = {"cwd": tmp_path / "here", "env": {**kept, "GIVEN": "1", "PYTHONPATH": str(tmp_path / "path")}}
    fresh, forked = (run_group([sys.executable, *words, "word"], ready=ready, **settings) for ready in (False, True))
    assert fresh.stdout.splitlines()[1:] == ["thread", "last"]
    assert (forked.returncode, forked.stdout, forked.stderr) == (0, fresh.stdout, "")


@pytest.mark.parametrize(
    "code", ["raise ValueError('planted')", "raise SystemExit('said')", "raise SystemExit", "import os; os._exit(5)"]
)
def test_it_ends_as_one_of_a_fresh_interpreter(code):
    fresh, forked = (run_group([sys.executable, "-c", code], ready=ready) for ready in (False, True))
    assert forked.returncode == fresh.returncode
    assert forked.stderr.splitlines()[-1:] == fresh.stderr.splitlines()[-1:]


def test_forked_programs_do_not_share_random_numbers():
    code = "import random, numpy; print(random.random(), numpy.random.random())"
    one, other = (run_group([sys.executable, "-c", code], ready=True, check=True).stdout.split() for _ in range(2))
    assert not set(one) & set(other)


def test_modules_that_are_named_are_all_that_a_forked_program_begins_with():
    code = "import sys; print('wave' in sys.modules, 'torch' in sys.modules)"
    assert run_group([sys.executable, "-c", code], ready=("wave",), check=True).stdout == "True False\n"


_STARTS = """
import subprocess, sys
child = "import os, sys; print('torch' in sys.modules, os.getppid() == int(sys.argv[1]), flush=True); sys.exit(3)"
import os
for _ in range(2):
    print(subprocess.Popen([sys.executable, "-c", child, str(os.getpid())]).wait(), flush=True)
"""


@pytest.mark.parametrize("spare", [{}, {"READY_SPARE": "1"}], ids=["none", "one"])
def test_a_spare_becomes_the_first_program_that_a_forked_one_starts(spare):
    ended = run_group([sys.executable, "-c", _STARTS], env={**os.environ, **spare}, ready=True, check=True)
    assert ended.stdout.splitlines() == [f"{bool(spare)} True", "3", "False True", "3"]


_JOB = """
import os, sys, torch, torch.distributed as dist
dist.init_process_group("gloo")
rank = torch.tensor(2.0 ** dist.get_rank())
dist.all_reduce(rank)
print(int(rank), dist.get_world_size())
sys.exit(dist.get_rank())
"""


def test_all_processes_of_a_job_meet(tmp_path):
    ended = run_ranks([sys.executable, "-c", _JOB], 3)
    assert [(one.returncode, one.stdout) for one in ended] == [(rank, "7 3\n") for rank in range(3)]


def test_a_process_of_a_job_whose_others_never_come_is_gone(tmp_path, monkeypatch):
    note = "import os; rank = os.environ['RANK']; open(rank, 'w').write(str(os.getpid()))"
    code = f"{note}\nif rank == '1': {_HANGS}\n{_JOB}"
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-c", code]
    _hang(
        lambda: all(_has_begun(Path(str(rank))) for rank in range(2)),
        lambda limit: run_ranks(command, 2, timeout=limit),
    )
    assert all(_is_gone((tmp_path / str(rank)).read_text()) for rank in range(2))
