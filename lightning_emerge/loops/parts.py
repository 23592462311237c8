"""What is given to the doors, as the engine takes it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from lightning.fabric.loggers.logger import Logger
from lightning.fabric.loggers.tensorboard import TensorBoardLogger
from lightning.pytorch.utilities.seed import isolate_rng
from torch.utils.tensorboard.writer import SummaryWriter

from lightning_emerge.capture import is_process_zero
from lightning_emerge.data.stimuli import Stimuli
from lightning_emerge.engine.bank import check_bank
from lightning_emerge.engine.looks import has_bank
from lightning_emerge.engine.reporting import Sinks
from lightning_emerge.probe import Probe
from lightning_emerge.records import StimulusBank
from lightning_emerge.sinks.loggers import logger_sinks
from lightning_emerge.sinks.notebook import notebook_sinks
from lightning_emerge.sinks.tensorboard import writer_sinks


def check_probes(probes: Any) -> list[Probe]:
    """Compares what looks with probes.

    Raises:
        ValueError: if there is none, or one is something else.
    """
    found = list(probes) if isinstance(probes, Iterable) else [probes]
    wrong = [one for one in found if not isinstance(one, Probe)]
    if wrong or not found:
        what = f"a {type(wrong[0]).__name__}" if wrong else "none"
        raise ValueError(f"probes are one or more probes, such as [lightning_emerge.CategoryProbe()]; got {what}.")
    return found


def find_stimuli(stimuli: Any, probes: Sequence[Probe]) -> StimulusBank | None:
    """Makes the bank that probes look at, without a random number of training's.

    Args:
        stimuli: a bank; `Stimuli`, or what it takes first; or a pair of that and labels.
        probes: what looks.

    Returns:
        The bank, or None if no probe needs it.

    Raises:
        ValueError: if it is none of these, or has not what a probe needs.
    """
    asking = [probe for probe in probes if has_bank(probe.needs)]
    if not asking:
        return None
    if stimuli is None:
        raise ValueError(
            f"{type(asking[0]).__name__} looks at stimuli; none were given. Give a tensor as the network gets it, a "
            "pair of that and labels, a lightning_emerge.Stimuli(...) or a StimulusBank."
        )
    with isolate_rng():
        bank = _make_bank(stimuli)
    check_bank(bank, asking)
    return bank


def shown_in(loggers: Any) -> Sinks:
    """Makes sinks of loggers, and of the cell of a notebook, in process zero.

    Args:
        loggers: one or several: of TensorBoard's `SummaryWriter`s, and of Lightning's and Fabric's loggers.

    Raises:
        ValueError: if one is something else.
    """
    given = list(loggers) if isinstance(loggers, Sequence) else [loggers]
    boards = [one for one in given if isinstance(one, SummaryWriter | TensorBoardLogger)]
    others: list[Any] = [one for one in given if isinstance(one, Logger) and one not in boards]
    wrong = [one for one in given if one not in boards and one not in others]
    if wrong:
        raise ValueError(
            f"loggers are SummaryWriters, or loggers of Lightning or Fabric; got a {type(wrong[0]).__name__}."
        )
    if not is_process_zero():
        return Sinks()
    return Sinks(boards=[*writer_sinks(boards), *notebook_sinks()], loggers=logger_sinks(others))


def _make_bank(stimuli: Any) -> StimulusBank:
    source, labels = stimuli, None
    if isinstance(stimuli, StimulusBank):
        return stimuli
    if isinstance(stimuli, Stimuli):
        return stimuli.bank()
    if isinstance(stimuli, tuple | list) and len(stimuli) == 2 and _are_labels(stimuli[1]):
        source, labels = stimuli
    return Stimuli(source, labels).bank()


def _are_labels(given: Any) -> bool:
    """Whether something is a row of whole numbers."""
    if isinstance(given, torch.Tensor):
        return given.dim() == 1 and not given.is_floating_point() and not given.is_complex()
    return isinstance(given, Sequence) and not isinstance(given, str) and all(type(one) is int for one in given)
