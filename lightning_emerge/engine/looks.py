"""What one look finds for all probes that are due, and the capture that each gets of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn

from lightning_emerge.capture.layouts import Layout, Layouts
from lightning_emerge.capture.needs import Need
from lightning_emerge.capture.needs.base import Loan, Look, complete
from lightning_emerge.capture.troubles import Key
from lightning_emerge.engine.lent import is_foreign
from lightning_emerge.engine.members import Member, unite
from lightning_emerge.engine.passes import ask, ask_all, pass_bank, trouble_of
from lightning_emerge.records import Capture, StimulusBank
from lightning_emerge.records.capture import MadeOnce
from lightning_emerge.records.structures import change_all


@dataclass
class Found:
    """What one look finds for all that are due.

    Attributes:
        step: optimizer steps taken when it began.
        bank: what is looked at, if anything of it is.
        needs: need -> what it finds, by name.
        troubles: what kept probes from what they asked for, by their position among those that are due.
        made: what probes have made of activations, for each other.
        layouts: name of a call of a layer -> how what it gives lies.
    """

    step: int
    bank: StimulusBank | None = None
    needs: dict[Need, Mapping[str, Any]] = field(default_factory=dict[Need, Mapping[str, Any]])
    troubles: dict[int, Exception] = field(default_factory=dict[int, Exception])
    made: MadeOnce = field(default_factory=MadeOnce)
    layouts: Layouts = field(default_factory=dict[str, Layout])

    def finite(self) -> bool:
        """Whether all is finite that is so while a network learns."""
        seen = (values for need, found in self.needs.items() if found for values in need.finite(found))
        return all(bool(values.isfinite().all()) for values in seen)


def find(step: int, due: Sequence[Member], look: Look, order: Sequence[str]) -> Found:
    """Finds what takes no pass. What a need cannot have is the trouble of those that asked for it."""
    found, errors = Found(step, layouts=look.layouts), dict[Need, Exception]()
    wanted = dict[Need, list[Member]]()
    for member in due:
        for need in complete(member.probe.needs):
            wanted.setdefault(need, []).append(member)
    for need, members in wanted.items():
        try:
            found.needs[need] = _as_told(need, need.look(look, unite(members, order)))
        except Exception as error:
            errors[need] = error
    _blame(found, due, errors)
    return found


def find_in_bank(
    step: int,
    due: Sequence[Member],
    look: Look,
    bank: StimulusBank | None,
    order: Sequence[str],
    device: torch.device,
) -> Found:
    """Finds all that is asked for, the bank passing through the network once. Every process calls it.

    Args:
        step: of the look.
        due: whose needs count.
        look: what needs look at.
        bank: what passes; None if nobody needs it.
        order: of the network's layers.
        device: of the network.
    """
    found = find(step, due, look, order)
    found.bank = bank
    asked = [ask(member.probe.needs, member.layers) for member in due]
    if not any(asked):
        return found
    assert bank is not None
    wanted = ask_all(asked, order)
    seen, troubles = pass_bank(look.module, bank, wanted, device, layouts=look.layouts)
    for number, one in enumerate(asked):
        error = trouble_of(one, troubles)
        if error is not None:
            found.troubles.setdefault(number, error)
    errors = dict[Need, Exception]()
    for need in wanted:
        try:
            joined = need.join(seen.found[need], len(bank), device)
            found.needs[need] = {**found.needs.get(need, {}), **_as_told(need, joined)}
        except Exception as error:
            errors[need] = error
    _blame(found, due, errors)
    return found


def _as_told(need: Need, found: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a need has found, if it has said that it finds it."""
    untold = [name for name in found if name not in need.finds]
    if untold:
        raise ValueError(
            f"What a need finds has the names that its class says in `finds`; {need!r} says {', '.join(need.finds)}, "
            f"and found {', '.join(map(repr, untold))}. Say it there, or give it that name."
        )
    return found


def _blame(found: Found, due: Sequence[Member], errors: Mapping[Need, Exception]) -> None:
    for number, member in enumerate(due):
        for error in [errors[need] for need in complete(member.probe.needs) if need in errors]:
            found.troubles.setdefault(number, error)


def _lend_bank(bank: StimulusBank | None, *, foreign: bool) -> StimulusBank | None:
    """The stimuli, or a copy of them for somebody's own probe, whose changes nobody else is to see.

    All others share one bank, and with it what was made of it before.
    """
    if bank is None or not foreign:
        return bank
    inputs, targets = (None if of is None else change_all(of, torch.clone) for of in (bank.inputs, bank.task.given))
    task = bank.task if targets is None else replace(bank.task, targets=targets)
    latents = None if bank.latents is None else bank.latents.copy()
    return replace(bank, inputs=inputs, labels=bank.labels.clone(), latents=latents, task=task)


def has_bank(needs: Sequence[Need]) -> bool:
    """Whether there has to be a bank for some needs."""
    return any(need.bank or need.passes for need in complete(needs))


@contextmanager
def open_capture(
    found: Found, member: Member, module: nn.Module, refused: Callable[[Need], Mapping[str, str]]
) -> Iterator[Capture]:
    """Gives a probe what it asked for and no more, so that a look does not depend on which other probes look.

    Args:
        found: what was found for all.
        member: the probe.
        module: the network, which some needs lend.
        refused: gives the layers of which a trial has shown that they do not give a need.
    """
    probe, own = member.probe, dict[str, Any]()
    foreign = is_foreign(probe.measure)
    bank = _lend_bank(found.bank, foreign=foreign) if has_bank(probe.needs) else None
    loan = Loan(module, member.layers, probe.layers, found.step, member.history, refused, foreign, found.layouts, bank)
    with ExitStack() as stack:
        for need in complete(probe.needs):
            had = found.needs.get(need, {}).items()
            own |= {name: values if need.whole else _of_layers(values, member.layers) for name, values in had}
            own |= _as_told(need, stack.enter_context(need.lend(loan)))
        yield Capture(found.step, member.layers, bank, _made=found.made, **own)


def _of_layers(values: Any, layers: Sequence[str]) -> Any:
    if not isinstance(values, Mapping):
        return values
    return {layer: values[layer] for layer in layers if layer in values}


def refused_layers(refused: Mapping[Key, str], need: Need) -> dict[str, str]:
    """The layers that do not give a need, each with why."""
    return {layer: why for (own, layer), why in refused.items() if own == need}
