"""Processes that tests and benches start: each leads a group of its own, of which nothing is left in the end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from uuid import uuid4

_MARK = "TEST_STARTED_BY"
LIBRARIES = ("torch", "torchvision", "pandas", "scipy.signal", "scipy.stats")
"""What takes longest to import; neither this package, nor Matplotlib, nor what is imported late."""


@contextmanager
def started(
    command: Sequence[str | Path],
    env: Mapping[str, str] | None = None,
    *,
    ready: bool | tuple[str, ...] = False,
    **settings: Any,
) -> Iterator[Any]:
    """Starts a process, and ends it and all that it has started, however the block is left.

    Args:
        command: the program and its arguments.
        env: its environment; this process' own if none is given.
        ready: whether it is a program of this Python that is forked from a process which has imported everything, or
            the modules that alone are imported there. Not for tests of how a process starts, or of what it imports.
        settings: of `subprocess.Popen`; cwd and the three streams if it is ready.

    Yields:
        The process: a `subprocess.Popen`, or a `Forked`.
    """
    mark, own = uuid4().hex, os.environ if env is None else env
    # What leaves the group, as torchrun's workers do, is known by its environment.
    marked = {**own, _MARK: f"{own.get(_MARK, '')}/{mark}"}
    words = [str(word) for word in command]
    process: Any = (
        Forked(words, marked, modules=ready if isinstance(ready, tuple) else (), **settings)
        if ready
        else subprocess.Popen(words, env=marked, start_new_session=True, **settings)
    )
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


class Forked:
    """A program that was forked from a process which has imported everything; used as a `subprocess.Popen`."""

    def __init__(
        self,
        args: list[str],
        env: Mapping[str, str],
        cwd: str | Path | None = None,
        stdin: Any = None,
        stdout: Any = None,
        stderr: Any = None,
        text: bool = False,
        modules: tuple[str, ...] = (),
    ) -> None:
        assert args[0] == sys.executable, "programs of this Python alone can be forked"
        self.args, self.returncode = args, None
        told = {"words": args[1:], "folder": str(cwd or Path.cwd()), "environment": dict(env)}
        with ExitStack() as given:
            self.stdin, into = _stream(stdin, 0, text, given)
            self.stdout, out = _stream(stdout, 1, text, given)
            self.stderr, err = (None, out) if stderr == subprocess.STDOUT else _stream(stderr, 2, text, given)
            self._answers, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            given.callback(theirs.close)
            socket.send_fds(_ready(modules)[0], [json.dumps(told).encode()], [theirs.fileno(), into, out, err])
        told = self._answers.recv(64)
        assert told, f"the process that has imported everything is gone: {_ready(modules)[1].communicate()}"
        self.pid = int(told)

    def wait(self, timeout: float | None = None) -> int:
        """The status, when the program is over."""
        if self.returncode is None:
            self._answers.settimeout(timeout)
            try:
                self.returncode = int(self._answers.recv(64))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            self._answers.close()
        return self.returncode

    def poll(self) -> int | None:
        """The status, or nothing while the program runs."""
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def communicate(self, timeout: float | None = None) -> tuple[Any, Any]:
        """What the program says, when it is over."""
        end = None if timeout is None else time.monotonic() + timeout
        said: dict[str, Any] = {}
        pipes = {name: pipe for name in ("stdout", "stderr") if (pipe := getattr(self, name))}
        readers = [
            threading.Thread(target=lambda n=name, p=pipe: said.update({n: p.read()}), daemon=True)
            for name, pipe in pipes.items()
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(None if end is None else max(0.0, end - time.monotonic()))
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        self.wait(None if end is None else max(0.01, end - time.monotonic()))
        return said.get("stdout"), said.get("stderr")

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless the program is over."""
        if self.poll() is None:
            os.kill(self.pid, number)


def _stream(asked: Any, own: int, text: bool, given: ExitStack) -> tuple[Any, int]:
    """The end of a stream that is kept, if any, and the handle of the other."""
    if asked is None:
        return None, own
    if asked == subprocess.DEVNULL:
        return None, given.enter_context(open(os.devnull, "r+b", buffering=0)).fileno()
    if asked != subprocess.PIPE:
        return None, asked if isinstance(asked, int) else asked.fileno()
    reads, writes = os.pipe()
    kept, passed = (reads, writes) if own else (writes, reads)
    given.callback(os.close, passed)
    return open(kept, ("r" if own else "w") + ("" if text else "b")), passed


_servers: list[tuple[socket.socket, subprocess.Popen[bytes]]] = []


@cache
def _ready(modules: tuple[str, ...]) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """The process that has imported everything, or these modules, one for all tests of this process; ends with it."""
    kept, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        command = [sys.executable, str(Path(__file__).with_name("ready.py")), str(theirs.fileno()), *modules]
        # Pipes, as a stream that is a file when it is opened is asked for its place when it is none any more.
        said = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        started = subprocess.Popen(command, pass_fds=[theirs.fileno()], start_new_session=True, **said)
    _servers.append((kept, started))
    return kept, started


def end_ready() -> None:
    """Ends the processes that have imported what programs use, if there are any."""
    for messages, _ in _servers:
        messages.close()
    while _servers:
        _servers.pop()[1].communicate()
    _ready.cache_clear()


def _find(mark: bytes) -> Iterator[int]:
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in environment.read_bytes():
                yield int(environment.parent.name)


def run_group(
    command: Sequence[str | Path],
    timeout: float = 240,
    *,
    check: bool = False,
    ready: bool | tuple[str, ...] = False,
    **settings: Any,
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end, as `subprocess.run` does, and keeps what it says.

    Args:
        command: the program and its arguments.
        timeout: seconds after which it is ended.
        check: whether an exit status other than 0 raises.
        ready: whether it is forked, as in `started`.
        settings: of `subprocess.Popen`.

    Raises:
        TimeoutExpired: if it takes longer.
        CalledProcessError: if it fails and that is checked.
    """
    said = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with started(command, ready=ready, **{**said, **settings}) as process:
        out, err = process.communicate(timeout=timeout)
        ended = subprocess.CompletedProcess(process.args, process.returncode, out, err)
    if check:
        ended.check_returncode()
    return ended


def run_ranks(
    command: Sequence[str | Path], world: int, timeout: float = 120
) -> list[subprocess.CompletedProcess[str]]:
    """Runs a Python program as all processes of one job, as torchrun starts them; none of them outlives the others.

    Args:
        command: the program and its arguments.
        world: how many processes.
        timeout: seconds after which they are ended.

    Returns:
        How each ended, by its rank, with all that it said as stdout.

    Raises:
        TimeoutExpired: if one takes longer.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    size = {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "GROUP_RANK": "0"}
    meet = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    elastic = {"TORCHELASTIC_RUN_ID": "ranks", "TORCHELASTIC_USE_AGENT_STORE": "False", "OMP_NUM_THREADS": "1"}
    end = time.monotonic() + timeout
    with ExitStack() as job:
        said = [job.enter_context(TemporaryFile("w+")) for _ in range(world)]
        ranks = []
        for rank in range(world):
            env = {**os.environ, **size, **meet, **elastic, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            settings = {"stdout": said[rank], "stderr": subprocess.STDOUT}
            ranks.append(job.enter_context(started(command, env, ready=True, **settings)))
        for one in ranks:
            one.wait(max(0.1, end - time.monotonic()))
        return [
            subprocess.CompletedProcess(one.args, one.returncode, (file.seek(0), file.read())[1])
            for one, file in zip(ranks, said, strict=True)
        ]
