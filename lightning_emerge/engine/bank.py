"""The stimulus bank of a trainer: that of a `Stimuli` among its callbacks, or else its data module's. Made once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary, WeakSet, ref

from lightning.pytorch import Trainer

from lightning_emerge.capture.needs.base import complete
from lightning_emerge.data.stimuli import Stimuli
from lightning_emerge.engine.looks import has_bank
from lightning_emerge.engine.members import Looker
from lightning_emerge.records import StimulusBank

_banks: WeakKeyDictionary[Trainer, tuple[ref[Any], StimulusBank]] = WeakKeyDictionary()
"""The bank of each trainer, with what it was made from, which may hold the trainer itself."""

_served: WeakSet[Trainer] = WeakSet()
"""Trainers whose bank has served a fit."""


def bank_of_fit(trainer: Trainer, probes: Sequence[Looker]) -> StimulusBank | None:
    """Finds the bank for a fit that begins, as `find_bank` does; that of an earlier fit is made anew.

    Raises:
        ValueError: as `find_bank` does.
    """
    if trainer in _served:
        _banks.pop(trainer, None)
    _served.add(trainer)
    return find_bank(trainer, probes)


def find_bank(trainer: Trainer, probes: Sequence[Looker]) -> StimulusBank | None:
    """Finds the stimulus bank of a trainer: that of a `Stimuli` among its callbacks, or else the data module's.

    Returns:
        The bank, or None if no probe needs it.

    Raises:
        ValueError: if there is no bank, or a probe needs latents and the bank has none.
    """
    asking = [probe for probe in probes if has_bank(probe.needs)]
    if not asking:
        return None
    given = [callback for callback in trainer.callbacks if isinstance(callback, Stimuli)]  # pyright: ignore[reportAttributeAccessIssue]
    data = getattr(trainer, "datamodule", None)
    if len(given) > 1:
        raise ValueError(f"A run has one stimulus bank; got {len(given)} Stimuli among its callbacks. Keep one.")
    if not given and not hasattr(data, "stimulus_bank"):
        what = "there is no data module" if data is None else f"{type(data).__name__} has no method stimulus_bank"
        raise ValueError(
            f"{type(asking[0]).__name__} looks at a stimulus bank; {what}. Add lightning_emerge.Stimuli(...) to the "
            "trainer's callbacks, with a tensor, a folder or a data module, or write the method, so that it returns a "
            "lightning_emerge.StimulusBank."
        )
    bank = _make_bank(trainer, given[0] if given else data)
    check_bank(bank, asking)
    return bank


def check_bank(bank: StimulusBank, probes: Sequence[Looker]) -> None:
    """Compares a bank with what probes need of it.

    Raises:
        ValueError: if a probe needs latents and the bank has none.
    """
    for probe in probes:
        if bank.latents is None and any(need.latents for need in complete(probe.needs)):
            raise ValueError(
                f"{type(probe).__name__} needs the latents of each stimulus, which rendered tokens have; this bank has "
                "none. Use a TokenDataModule, or give StimulusBank a table of latents."
            )


def _make_bank(trainer: Trainer, source: Any) -> StimulusBank:
    """The bank of a trainer, made once from what gives it."""
    known = _banks.get(trainer)
    if known is not None and known[0]() is source:
        return known[1]
    bank = source.bank() if isinstance(source, Stimuli) else source.stimulus_bank()
    _banks[trainer] = (ref(source), bank)
    return bank
