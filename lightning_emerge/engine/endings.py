"""How a run ends before its time: between two batches, in all processes at the same one, and with a checkpoint."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_emerge.engine.last_words import savers_of
from lightning_emerge.engine.watch import Ended, Watch


class Endings(Callback):
    """Ends a fit between two batches when a signal asks for it, in all processes at the same one."""

    def __init__(self, watch: Watch) -> None:
        self.watch = watch
        self._own = False  # whether the watch was started for this fit alone
        self._step = -1

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if _current.watch is None and threading.current_thread() is threading.main_thread():
            self._own = True
            start_watch(self.watch)
        self.watch.attach(trainer, fitting=stage == "fit")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._step = -1
        if _current.watch is self.watch:
            self.watch.listen()
            self.watch.patient = True

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.watch.step, before = trainer.global_step, self._step
        self._step = trainer.global_step
        # Gradients that have not been stepped with are in no checkpoint.
        if not self.watch.agree() or before == self._step:
            return
        for saver in savers_of(trainer):
            saver.save_last(trainer)
        raise self.watch.ended()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, Ended):
            self.watch.finish()
        self._end()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        try:
            if self._own and self.watch.patient:
                self.watch.conclude()
        finally:
            self._end()

    def _end(self) -> None:
        if self._own:
            self._own = False
            stop_watch()


class _Current:
    watch: Watch | None = None


_current = _Current()


def attend(trainer: Trainer) -> Endings:
    """Adds `Endings` to a trainer, behind all other callbacks, unless it has one."""
    callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    found = [callback for callback in callbacks if isinstance(callback, Endings)]
    if not found:
        # Ctrl-C is left to whoever runs a trainer from Python, as a notebook does.
        found = [Endings(_current.watch or Watch([signal.SIGTERM], _from_python))]
        callbacks += found
    return found[0]


def attach(trainer: Trainer, *, fitting: bool) -> None:
    """Tells the watch of this process, if there is one, what is to end."""
    if _current.watch is not None:
        _current.watch.attach(trainer, fitting=fitting)


def start_watch(watch: Watch) -> None:
    """Makes a watch that of this process."""
    watch.start()
    _current.watch = watch


def stop_watch() -> None:
    """Ends the watch of this process."""
    watch, _current.watch = _current.watch, None
    if watch is not None:
        watch.stop()


@contextmanager
def watching(resume: Callable[[str], str]) -> Iterator[None]:
    """Watches for signals while a command runs; a command that one has ended has its limit until the process is gone.

    Args:
        resume: as for `Watch`.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    watch = Watch([signal.SIGTERM, signal.SIGINT], resume, requeues=True)
    start_watch(watch)
    try:
        yield
    finally:
        if not watch.asked:
            stop_watch()


@contextmanager
def saving() -> Iterator[None]:
    """Gives a checkpoint that is being saved more time when a signal has come."""
    watch = _current.watch
    if watch is None:
        yield
        return
    before, watch.saving = watch.saving, True
    try:
        yield
    finally:
        watch.saving = before


def _from_python(last: str) -> str:
    return f"Resume with trainer.fit(..., ckpt_path={last!r})."


def _forget() -> None:
    watch, _current.watch = _current.watch, None
    if watch is not None:
        watch.forget()


os.register_at_fork(after_in_child=_forget)
