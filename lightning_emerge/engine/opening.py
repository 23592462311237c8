"""Where a run's findings go: its records and what they are shown in, opened in the same way whatever trains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn
from torch import nn

from lightning_emerge.capture import agree, is_process_zero
from lightning_emerge.capture.layers import device_of
from lightning_emerge.engine.reporting import Sinks
from lightning_emerge.engine.thumbnails import keep_thumbnails
from lightning_emerge.records import StimulusBank
from lightning_emerge.store.layout import STORE
from lightning_emerge.store.write import ArraySink


def open_sinks(folder: str, shown: Sinks, step: int, module: nn.Module, *, new: bool) -> Sinks:
    """Opens where findings go. A store that is not this run's stops all processes; a disk that fails stops none.

    Args:
        folder: of the run, or an fsspec URL.
        shown: where else findings go, in process zero.
        step: where the run stands.
        module: the network, on whose device processes tell each other of a failure.
        new: whether the run begins anew.

    Raises:
        ValueError: if the records in the folder are not this run's.
    """
    records, failure = list[ArraySink](), None
    if is_process_zero():
        try:
            records = [ArraySink(f"{folder}/{STORE}", None if new else step)]
            rank_zero_info(f"Records of the probes: {folder}/{STORE}")
        except OSError as error:
            rank_zero_warn(f"No records are kept, as their store could not be opened; training goes on. {error}")
        except ValueError as error:
            failure = error
    if agree([failure is not None], device_of(module))[0]:
        raise failure or ValueError("process zero could not open the records of this run")
    for board in shown.boards:
        board.go_on(step)
        if records:
            board.announce(step)
    return replace(shown, records=records)


@contextmanager
def closed_on_error(sinks: Sinks) -> Iterator[None]:
    """Lets others write to the records if what is to write them cannot be made."""
    try:
        yield
    except BaseException:
        for sink in sinks.records:
            sink.close()
        raise


def leave_thumbnails(folder: str, bank: StimulusBank | None) -> None:
    """Leaves pictures of the stimuli in the run's folder, for the board; what only draws stops no run.

    Args:
        folder: of the run, or an fsspec URL.
        bank: of the run, if it has one.
    """
    if bank is None or not is_process_zero():
        return
    try:
        keep_thumbnails(folder, bank)
    except Exception as error:
        rank_zero_warn(f"Pictures of the stimuli were not kept in {folder} ({type(error).__name__}: {error}).")
