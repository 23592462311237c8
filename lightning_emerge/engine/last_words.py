"""What a run leaves that a signal has ended: a line that says how to resume, and its job in SLURM's queue again."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, runtime_checkable

from lightning.pytorch import Trainer


@runtime_checkable
class Saver(Protocol):
    """A callback that saves what a run resumes from."""

    def save_last(self, trainer: Trainer, /) -> None: ...
    def find_last(self) -> str | None: ...


def savers_of(trainer: Trainer) -> list[Saver]:
    """Finds the callbacks that save what a run resumes from."""
    return [callback for callback in trainer.callbacks if isinstance(callback, Saver)]  # pyright: ignore[reportAttributeAccessIssue]


def name_signal(number: int) -> str:
    """What a user calls a signal."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def say_what_is_saved(trainer: Trainer, resume: Callable[[str], str] | None) -> str:
    """Says what a run resumes from.

    Args:
        trainer: of the run.
        resume: says how to resume from a checkpoint; None if nobody has to do it.
    """
    savers = savers_of(trainer)
    if not savers:
        return "It saved no checkpoint to resume from; add lightning_emerge.Checkpoints to trainer.callbacks."
    last = savers[0].find_last()
    if last is None:
        return "It has saved no checkpoint since it began; give the same command again."
    return f"Checkpoint: {last}." + (f" {resume(last)}" if resume else "")


def queue_again(trainer: Trainer | None) -> None:
    """Puts this job into SLURM's queue again, from process zero, and says so."""
    if trainer is None or not trainer.is_global_zero:
        return
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    job = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
    try:
        command = ["scontrol", "requeue", job]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        said = ended.stderr.strip() if ended.returncode else ""
    except (OSError, subprocess.SubprocessError) as error:
        said = str(error)
    write_line(f"Job {job} was not put in the queue again: {said}" if said else f"Job {job} is in the queue again.")


def write_line(line: str) -> None:
    """Writes a line past Python's streams, which may be in use by what was interrupted."""
    with suppress(OSError):  # nobody may be listening
        os.write(2, f"\nlightning: {line}\n".encode())
