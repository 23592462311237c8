"""Processes that tests and benches start: each leads a group of its own, of which nothing is left in the end."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

_MARK = "TEST_STARTED_BY"


@contextmanager
def started(
    command: Sequence[str | Path], env: Mapping[str, str] | None = None, **settings: Any
) -> Iterator[subprocess.Popen[Any]]:
    """Starts a process, and ends it and all that it has started, however the block is left.

    Args:
        command: the program and its arguments.
        env: its environment; this process' own if none is given.
        settings: of `subprocess.Popen`.
    """
    mark, own = uuid4().hex, os.environ if env is None else env
    # What leaves the group, as torchrun's workers do, is known by its environment.
    marked = {**own, _MARK: f"{own.get(_MARK, '')}/{mark}"}
    process = subprocess.Popen([str(word) for word in command], env=marked, start_new_session=True, **settings)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        for left in _find(mark.encode()):
            with suppress(ProcessLookupError):
                os.kill(left, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


def _find(mark: bytes) -> Iterator[int]:
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in environment.read_bytes():
                yield int(environment.parent.name)


def run_group(
    command: Sequence[str | Path], timeout: float = 240, *, check: bool = False, **settings: Any
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, as `subprocess.run` does, and keeps what it says.

    Args:
        command: the program and its arguments.
        timeout: seconds after which it is ended.
        check: whether an exit status other than 0 raises.
        settings: of `subprocess.Popen`.

    Raises:
        TimeoutExpired: if it takes longer.
        CalledProcessError: if it fails and that is checked.
    """
    said = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with started(command, **{**said, **settings}) as process:
        out, err = process.communicate(timeout=timeout)
        ended = subprocess.CompletedProcess(process.args, process.returncode, out, err)
    if check:
        ended.check_returncode()
    return ended
