"""A process that has imported everything, from which Python programs are forked: imports cost each of them seconds.

    python ready.py FILENO [MODULE ...]

Modules that are named are all that is imported. FILENO is a socket. A message on it is the words of a command line
without the interpreter, a folder and an environment, as JSON, together with a socket for answers and the three streams
of the program. The answers are its number and its status. A program whose asker is gone is killed with its group; at
the end of the messages this process ends. With READY_SPARE in its environment, a program has a fork at hand that
becomes the first Python program that it starts itself.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any, ClassVar

_LONGEST = 1 << 20  # bytes of a message


def load(modules: list[str]) -> None:
    """Imports what programs use; that starts no thread, but of a library which starts it again in a fork."""
    if modules:
        for name in modules:
            import_module(name)
        return
    import torch

    import lightning_emerge as le
    from lightning_emerge.figures.canvas import new_figure, to_pixels

    for module in walk_packages(le.__path__, f"{le.__name__}."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    import_module("scipy.cluster.hierarchy")
    le.TokenDataModule(image_size=16).images("bank", "dax", [0])  # compiles
    figure = new_figure(3, 2)
    figure.add_subplot(title="title")
    to_pixels(figure)  # reads fonts
    torch.set_num_threads(1)


def serve(messages: socket.socket) -> dict[str, Any]:
    """Forks a program for each message; it alone comes back from here, with its message."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks for the status of keepers
    while True:
        told, handles, _, _ = socket.recv_fds(messages, _LONGEST, 4)
        if not told:
            os._exit(0)
        if not os.fork():
            answers, *streams = handles
            messages.close()
            _fork(socket.socket(fileno=answers))
            for place, handle in enumerate(streams):
                os.dup2(handle, place)
                os.close(handle)
            return json.loads(told)
        for handle in handles:
            os.close(handle)


def _fork(answers: socket.socket) -> None:
    """Forks the program, which alone comes back from here; stays to tell how it ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    program = os.fork()
    with suppress(PermissionError):  # it is already
        os.setpgid(program, program)  # by both, so that it is done when either goes on
    if not program:
        answers.close()
        return
    answers.send(str(program).encode())
    with open(os.pidfd_open(program), "rb") as ends:
        asked, _, _ = select.select([answers, ends], [], [])
    if answers in asked:
        with suppress(ProcessLookupError):
            os.killpg(program, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
    with suppress(OSError):
        answers.send(str(status).encode())
    os._exit(0)


class Leave:
    """Ends a program as the last of what is called at its exit: to clear a heap of a gigabyte takes a second."""

    status: Any = 0

    def __call__(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(self.status if isinstance(self.status, int) else int(self.status is not None))

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Notes the status that a program ends with; what it raises, the interpreter says."""
        try:
            yield
        except SystemExit as ended:
            self.status = ended.code
            raise
        except BaseException:
            self.status = 1
            raise


class Popen(subprocess.Popen):
    """Starts programs; the first of this Python that is given no streams is the spare, which was forked before."""

    spares: ClassVar[list[tuple[int, socket.socket]]] = []

    def __init__(self, args: Any, **settings: Any) -> None:
        if not self.spares or args[0] != sys.executable or settings.keys() - {"env", "cwd"}:
            super().__init__(args, **settings)
            return
        number, messages = self.spares.pop()
        folder, environment = settings.get("cwd") or os.getcwd(), dict(settings.get("env") or os.environ)
        with messages:
            messages.send(json.dumps({"words": args[1:], "folder": folder, "environment": environment}).encode())
        self.args, self.pid, self.returncode = args, number, None
        self.stdin = self.stdout = self.stderr = None
        self._waitpid_lock = threading.Lock()
        self._child_created, self._communication_started = True, False


def keep_spare() -> dict[str, Any] | None:
    """Forks the spare, which comes back with what it is to become."""
    kept, messages = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    number = os.fork()
    if number:
        messages.close()
        Popen.spares.append((number, kept))
        subprocess.Popen = Popen
        return None
    kept.close()
    with messages:
        told = messages.recv(_LONGEST)
    if not told:  # the program has started none
        os._exit(0)
    return json.loads(told)


def become(words: list[str], folder: str, environment: dict[str, str]) -> None:
    """Runs a program as a fresh interpreter would run it."""
    if environment.pop("READY_SPARE", "") and (told := keep_spare()):
        become(**told)
        return
    own = {os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep)}
    installed = [path for path in sys.path[1:] if path not in own]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    given = [os.path.abspath(path) for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    first = {"-m": folder, "-c": ""}.get(words[0], str(Path(words[0]).parent.resolve()))
    sys.path[:] = [first, *dict.fromkeys([*given, *installed])]
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        sys.modules["__main__"] = program = types.ModuleType("__main__")
        exec(compile(words[1], "<string>", "exec"), program.__dict__)
    else:
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")


if __name__ == "__main__":
    leave = atexit.register(Leave())  # the first, which is called last
    channel = socket.socket(fileno=int(sys.argv[1]))
    gc.disable()
    load(sys.argv[2:])
    gc.freeze()  # what is imported stays: no program looks for garbage in it, or copies its pages
    gc.enable()
    program = serve(channel)
    with leave.noted():
        become(**program)
