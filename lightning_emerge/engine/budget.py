"""What looks need in memory and on disk, and what is too much to look at: said before training starts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from lightning_emerge.capture import find_weights, first_stimuli, run_bank
from lightning_emerge.capture.layouts import Layouts
from lightning_emerge.capture.needs import Need
from lightning_emerge.capture.needs.base import Memory, Size, complete
from lightning_emerge.records import Measurement, StimulusBank

MOST_NAMED = 32
"""Tokens that a picture has room for."""

FEWEST = 3
"""Stimuli of a token, below which read-outs are fitted to one of them or none."""

MOST_COMPARED = 1000
"""Stimuli, beyond which comparing each with each takes longer than passing them."""

LARGE_RECORDS = 20e9
"""Bytes of a run's records that are worth a warning, wherever they fit."""


class Asked(NamedTuple):
    """What a probe of a run asks for: its name, its needs and its layers."""

    name: str
    needs: tuple[Need, ...]
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Budget:
    """What one look of all probes needs on process zero, in bytes.

    Attributes:
        stimuli: in the bank.
        tokens: of the bank.
        fewest: stimuli of the token that has the fewest, of those that have any.
        memory: by what takes it, in words.
        comparing: the probes that compare every stimulus with every other.
    """

    stimuli: int
    tokens: int
    fewest: int
    memory: Mapping[str, float]
    comparing: tuple[str, ...]

    @property
    def total(self) -> float:
        """Memory at the peak of a look."""
        return sum(self.memory.values())


def plan_look(
    module: nn.Module,
    asked: Sequence[Asked],
    bank: StimulusBank,
    processes: int = 1,
    layouts: Layouts | None = None,
) -> Budget:
    """Works out what a look needs. One stimulus passes the network, to see how much its layers give.

    Args:
        module: the network.
        asked: what each probe asks for.
        bank: what they look at.
        processes: that share the bank.
        layouts: name of a call of a layer -> how what it gives lies, if that is known.
    """
    wanted = dict[Need, dict[str, None]]()
    for one in asked:
        for need in complete(one.needs):
            wanted.setdefault(need, {}).update(dict.fromkeys(one.layers))
    # Looked at as a bank of one: each process passes its share of it, and those without one know the shapes too.
    sized = {need: ("",) if need.whole else tuple(layers) for need, layers in wanted.items() if need.sized}
    seen = run_bank(module, first_stimuli(bank, 1), sized, layouts=layouts).found
    stimuli, tokens = len(bank), len(bank.tokens)
    weight, memories = partial(_weight, module), list[Memory]()
    for need, layers in wanted.items():
        size = Size(stimuli, tokens, processes, tuple(layers), seen.get(need, {}), weight)
        memories += [memory for memory in (need.memory(size),) if memory is not None]
    counts = torch.bincount(bank.labels, minlength=tokens)
    fewest = int(counts[counts > 0].min()) if len(bank) else 0
    comparing = tuple(one.name for one in asked if any(need.compares for need in complete(one.needs)))
    return Budget(stimuli, tokens, fewest, _add_up(memories), comparing)


def _add_up(memories: Sequence[Memory]) -> dict[str, float]:
    """Bytes by what takes them; what is held for one layer after the other is held once."""
    held, passing = dict[str, float](), dict[str, float]()
    for memory in memories:
        held[memory.what] = held.get(memory.what, 0.0) + memory.held
        passing[memory.what] = max(passing.get(memory.what, 0.0), memory.passing)
    return {what: size + passing[what] for what, size in held.items()}


def _weight(module: nn.Module, layer: str) -> int:
    return find_weights(module, [layer])[layer].read().numel()


def refuse(budget: Budget, room: float) -> None:
    """Compares what a look needs with the memory that there is.

    Raises:
        ValueError: if it cannot fit.
    """
    if budget.total > room:
        raise ValueError(
            f"A look fits into memory; it would take {_size(budget.total)} here, of {_size(room)}: "
            f"{_parts(budget.memory)}, for {budget.stimuli:,} stimuli of {budget.tokens:,} tokens. {_MEND}"
        )


_MEND = "Give the bank fewer exemplars (data.bank_exemplars), or the probes fewer layers (their `layers`)."


def warn(budget: Budget, room: float) -> list[str]:
    """Says what is dear, or cannot be measured or drawn, with so many stimuli and tokens.

    Args:
        budget: of a look.
        room: bytes of memory that there are.
    """
    said: list[str] = []
    if budget.total > room / 2:
        said.append(
            f"A look should take less than half of the memory; it takes about {_size(budget.total)} here, of "
            f"{_size(room)}: {_parts(budget.memory)}. {_MEND}"
        )
    if budget.comparing and budget.stimuli > MOST_COMPARED:
        said.append(
            f"Probes that compare every stimulus with every other are made for banks of up to {MOST_COMPARED:,}; here "
            f"are {budget.stimuli:,}, so that {', '.join(budget.comparing)} take longer than several passes of the "
            "bank. Give the bank fewer exemplars, or these probes a sparser schedule."
        )
    if budget.comparing and budget.fewest < FEWEST:
        said.append(
            f"Read-outs are fitted to some stimuli of each token and tested on others, which takes {FEWEST} of each at "
            f"least; a token of this bank has {budget.fewest}, so that they are fitted to "
            f"{'one of it' if budget.fewest > 1 else 'none of it'}. Give the bank more exemplars."
        )
    if budget.tokens > MOST_NAMED:
        said.append(
            f"Pictures have room for {MOST_NAMED} tokens; here are {budget.tokens:,}, so those that tell tokens apart "
            "are left out. All is recorded: open it with lightning_emerge.open_run."
        )
    return said


def warn_of_records(sizes: Mapping[str, float], looks: Mapping[str, int], disk: float) -> list[str]:
    """Says if a run's records are many.

    Args:
        sizes: bytes of one look of each probe, before they are compressed.
        looks: how often each looks.
        disk: bytes that are free for them.
    """
    whole = {name: size * looks[name] for name, size in sizes.items()}
    total = sum(whole.values())
    if total <= min(disk, LARGE_RECORDS):
        return []
    free = "" if disk == inf else f", and {_size(disk)} are free"
    most = dict(sorted(whole.items(), key=lambda item: -item[1])[:3])
    return [
        f"Records of a run should stay below {_size(LARGE_RECORDS)} and fit on the disk; here they take up to "
        f"{_size(total)} before they are compressed{free}: {_parts(most)}. Give these probes fewer looks (`schedule`) "
        "or layers, or the bank fewer exemplars: RDMs grow with its square."
    ]


def drawable(measurement: Measurement) -> bool:
    """Whether a picture of a measurement has room for the tokens that it tells apart."""
    for axis in measurement.axes:
        names = axis.labels if axis.name == "token" else axis.notes.get("token", ())
        if len(set(names)) > MOST_NAMED:
            return False
    return True


def memory_of(device: torch.device) -> float:
    """Bytes of memory that there are where a network lies; infinite if that is not known."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    if device.type != "cpu" or not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return inf
    limits = [float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")]
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(path).read_text().strip()
        except OSError:
            continue
        limits += [float(text)] if text.isdigit() else []
    return min(limits)


def free_space(folder: str) -> float:
    """Bytes that are free where a folder is, or will be; infinite behind a URL."""
    if "://" in folder:
        return inf
    path = Path(folder).absolute()
    return shutil.disk_usage(next(home for home in (path, *path.parents) if home.exists())).free


def _parts(sizes: Mapping[str, float]) -> str:
    return ", ".join(f"{_size(size)} {name}" for name, size in sizes.items() if size)


def _size(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.0f} MB"
