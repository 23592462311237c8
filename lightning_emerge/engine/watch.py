"""The watch: a thread that hears signals, asks training to end between two batches, and ends it after a limit.

Lightning broadcasts from inside its handler of SIGTERM. The main thread may be in a collective then, or in a pass that
takes long, and no handler of Python's runs before that is over. So a thread beside it is told of signals by the system
itself; it asks training to end, and ends the process if training does not.
"""

from __future__ import annotations

import multiprocessing
import os
import selectors
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Trainer
from torch import distributed as dist

from lightning_emerge.engine.last_words import name_signal, queue_again, savers_of, say_what_is_saved, write_line
from lightning_emerge.engine.lightning_private import cluster_of

LIMIT = 10.0
"""Seconds in which training has to come to its next batch; a scheduler that kills is patient for 30."""
_REQUEUE_LIMIT = 60.0
_SAVING = 120.0  # more, while a checkpoint is saved: one that is cut off is lost
_LATER = 2.0  # a process that another one started lets that one end first, as its own end would be taken for a failure
_ONCE = 0.5  # a signal sent to a group of processes may come twice, as starters pass it on
_TICK = 0.5


class Ended(SystemExit):
    """A signal has ended a run; the code is the process' exit status."""


class Watch:
    """Waits for signals beside the main thread, from `start` to `stop`.

    While it is `patient`, a first signal is left to training, which asks for it, for as long as the limit. At other
    times, and at a second signal, the process and those that it started end at once.

    Args:
        signals: to listen to.
        resume: says how to resume from a checkpoint, whose path it is given.
        requeues: whether a job that SLURM puts into its queue again resumes from what a `Saver` has saved.
    """

    def __init__(self, signals: Sequence[int], resume: Callable[[str], str], *, requeues: bool = False) -> None:
        self._signals, self._resume, self._requeues = list(signals), resume, requeues
        self._requeue: int | None = None
        self._lock = threading.Lock()
        self._on = threading.Event()
        self._reset()

    def _reset(self) -> None:
        self.asked = 0
        self.patient = False
        self.saving = False
        self.step: int | None = None
        self._trainer: Trainer | None = None
        self._fitting = False
        self._parent: int | None = None
        self._first, self._deadline = 0.0, float("inf")
        self._leaving = self._told = self._finished = False
        self._before: dict[int, Any] = {}

    def start(self) -> None:
        """Begins to listen. Only the main thread may."""
        self._reset()
        self._sockets = socket.socketpair()
        for end in self._sockets:
            end.setblocking(False)
        self._on = threading.Event()
        self._on.set()
        self.listen()
        self._wakeup = signal.set_wakeup_fd(self._sockets[1].fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(
            target=self._wait, args=(self._on, *self._sockets), name="lightning_emerge signals", daemon=True
        )
        self._thread.start()

    def listen(self) -> None:
        """Takes the signals from whoever has them: Lightning puts handlers of its own in between."""
        if not self._on.is_set():
            return
        for number in self._signals:
            before = signal.signal(number, self._note)
            self._before.setdefault(number, _beneath(before, number))

    def stop(self) -> None:
        """Gives the signals back."""
        self._on.clear()
        signal.set_wakeup_fd(self._wakeup)
        with suppress(OSError):
            self._sockets[1].send(b"\0")  # no signal: it wakes the thread, which is to be gone before the process is
        self._thread.join(1)
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def forget(self) -> None:
        """In a process that was forked, as workers of loaders are: the one that it came from decides when it ends."""
        self._on.clear()
        signal.set_wakeup_fd(-1)
        for end in self._sockets:
            end.close()
        for number in self._before:
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.SIG_IGN)

    def _note(self, number: int, frame: Any) -> None:
        # The system tells the thread of signals that have a handler; here it is for whoever had it before.
        before = self._before.get(number)
        if self._on.is_set():
            if callable(before) and before is not signal.default_int_handler and not _is_lightnings(before):
                before(number, frame)
        else:  # Lightning has put it back since
            signal.signal(number, signal.SIG_DFL if before is None else before)
            signal.raise_signal(number)

    def attach(self, trainer: Trainer, *, fitting: bool) -> None:
        """Tells what is to end: a trainer, and the processes that it has started."""
        self._trainer, self._fitting = trainer, fitting
        environment = getattr(trainer.strategy, "cluster_environment", None)
        if isinstance(environment, LightningEnvironment) and environment.local_rank() > 0 and fitting:
            self._parent = os.getppid()
        cluster = cluster_of(trainer)
        # Otherwise it is Lightning's, which saves and finds a checkpoint of its own.
        if self._requeues and savers_of(trainer) and isinstance(cluster, SLURMEnvironment) and cluster.auto_requeue:
            self._requeue = int(cluster.requeue_signal or signal.SIGUSR1)
            self._signals = list(dict.fromkeys([*self._signals, self._requeue]))
            self.listen()

    def hear(self, number: int) -> None:
        """Takes a signal that came here or, as the processes have told each other, to another one."""
        with self._lock:
            now = time.monotonic()
            if self._leaving or number not in self._signals:
                return
            if not self.asked:
                self.asked, self._first = number, now
                limit = _REQUEUE_LIMIT if number == self._requeue else LIMIT
                self._deadline = now + limit + (_LATER if self._parent else 0)
                if self.patient:
                    return
            elif now - self._first < _ONCE and self.patient:
                return
        self._end_at_once()

    def agree(self) -> int:
        """The signal that came to any of the processes, or 0. Every process calls it."""
        trainer, asked = self._trainer, self.asked
        assert trainer is not None
        if trainer.world_size > 1 and dist.is_available() and dist.is_initialized():
            flag = torch.tensor(asked, device=trainer.strategy.root_device)
            dist.all_reduce(flag, dist.ReduceOp.MAX)
            asked = int(flag)
        if asked and not self.asked:
            self.hear(asked)
        return asked

    def conclude(self) -> None:
        """Ends the run if a signal has come since its last batch; from now on signals end it at once."""
        if self.agree():
            self.finish()
            raise self.ended()
        self._parent = None
        self.patient = False

    def finish(self) -> None:
        """Says how the run ended, when all is written, and puts its job into the queue again if that was asked."""
        if self._finished:
            return
        self._finished = True
        self._say("between two batches")
        if self.asked == self._requeue:
            self._leaving = True  # a job that is queued again gets further signals
            queue_again(self._trainer)

    def ended(self) -> Ended:
        """What to raise in a process that a signal ends."""
        # Lightning kills the process that started this one if this one fails.
        return Ended(0 if self._parent or self.asked == self._requeue else 128 + self.asked)

    def _wait(self, on: threading.Event, mine: socket.socket, theirs: socket.socket) -> None:
        waiting = selectors.DefaultSelector()
        waiting.register(mine, selectors.EVENT_READ)
        while on.is_set():
            for number in mine.recv(64) if waiting.select(_TICK) else b"":
                self.hear(number)
            if time.monotonic() > self._deadline + (_SAVING if self.saving else 0):
                self._end_at_once()
            if self._parent and os.getppid() != self._parent:  # it was killed
                os._exit(1)
        waiting.close()
        mine.close()
        theirs.close()

    def _end_at_once(self) -> None:
        """Ends this process and those that it started, whatever they do."""
        self._leaving = True
        for process in self._started():
            with suppress(OSError):
                process.kill()
        for process in self._started():
            with suppress(Exception):
                (process.wait if isinstance(process, subprocess.Popen) else process.join)(1)
        self._say("before its next batch" if self.patient else "")
        if self.asked == self._requeue:
            queue_again(self._trainer)
            os._exit(0)
        os._exit(128 + self.asked)

    def _started(self) -> list[Any]:
        launcher = getattr(self._trainer.strategy, "launcher", None) if self._trainer else None
        return [*getattr(launcher, "procs", ()), *multiprocessing.active_children()]

    def _say(self, when: str) -> None:
        trainer = self._trainer
        if self._told or (trainer is not None and not trainer.is_global_zero):
            return
        self._told = True
        what = name_signal(self.asked)
        if trainer is None or not self._fitting:
            write_line(f"{what} ended the command.")
            return
        at = f" at step {self.step}" if self.step is not None else ""
        how = None if self.asked == self._requeue else self._resume
        write_line(f"{what} ended the run{at}{', ' + when if when else ''}. {say_what_is_saved(trainer, how)}")


def _beneath(handler: Any, number: int) -> Any:
    """What a signal had before handlers of ours, which Lightning puts back when a fit is over."""
    while isinstance(owner := getattr(handler, "__self__", None), Watch):
        handler = owner._before.get(number)
    return handler


def _is_lightnings(handler: Any) -> bool:
    homes = (type(handler).__module__, str(getattr(handler, "__module__", "")))
    return any(home.startswith(("lightning.", "pytorch_lightning.")) for home in homes)
