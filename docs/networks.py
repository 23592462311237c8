"""Looks at networks of many kinds with every probe, and says of each whether it works or why not.

make networks

Each network takes a step of training under `lightning_emerge.watch` with all probes. What works has three of its
records compared with plain hooks and autograd; a value that is not theirs stops the command. The table goes into
docs/networks.md.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from by_hand import check_records
from declared import shipped
from marked import put_table
from torch import nn
from zoo import ZOO, Entry

import lightning_emerge as le

PAGE = Path(__file__).with_name("networks.md")
TABLE = "<!-- networks: made by `make networks` -->", "<!-- networks: end -->"
REASONS = "<!-- reasons: made by `make networks` -->", "<!-- reasons: end -->"
_QUICK: Mapping[str, Mapping[str, Any]] = {
    "CurvatureProbe": {"eigenvalues": 1, "iterations": 2, "vectors": 2},
    "MaximisationProbe": {"filters": 2, "iterations": 4},
}
"""Fewer iterations than by default: the point is what can be looked at."""


@dataclass
class Seen:
    """What came of one network.

    Attributes:
        layers: probe -> at which layers it looked.
        why: probe -> why it did not look, or at which layers it did not.
        checked: how many values of records were compared with hooks.
    """

    layers: dict[str, int] = field(default_factory=dict[str, int])
    why: dict[str, str] = field(default_factory=dict[str, str])
    checked: int = 0


def look_at(entry: Entry) -> Seen:
    """Trains a network for a step with every probe that can look at it; each looks once.

    Raises:
        AssertionError: if a record is not what hooks and autograd say.
    """
    torch.manual_seed(0)
    network, bank, seen = entry.make(), entry.bank(), Seen()
    probes = [probe for probe in map(_make, shipped()) if _can(probe, network, bank, seen)]
    with TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        optimizer = torch.optim.SGD(network.parameters(), lr=0.0)  # so that it can be looked at afterwards, too
        with le.watch(network, probes, bank, folder, optimizer) as watch:
            train_loss(network, bank).backward()
            optimizer.step()
            watch.step()
        _read_warnings([str(one.message) for one in caught], probes, seen)
        with le.open_run(folder) as records:
            for probe in probes:
                own = [record.name for record in probe.records if record.name in records]
                if own and probe.failed_at is None:
                    seen.layers[type(probe).__name__] = _layers(records, own)
            seen.checked = check_records(network, bank, records.load())
    return seen


def train_loss(network: nn.Module, bank: le.StimulusBank) -> torch.Tensor:
    """What the network is trained by here: any loss that all its outputs have a part in."""
    inputs = bank.inputs
    result = (
        network(**inputs)
        if isinstance(inputs, Mapping)
        else network(*inputs)
        if isinstance(inputs, tuple)
        else network(inputs)
    )
    result = getattr(result, "logits", result)
    ends = result if isinstance(result, tuple) else (result,)
    return torch.stack([end.square().mean() for end in ends]).sum()


def _make(kind: type[le.Probe]) -> le.Probe:
    trains = any(need.training for need in kind.needs)
    return kind(schedule=le.At([0 if trains else 1]), **_QUICK.get(kind.__name__, {}))


def _can(probe: le.Probe, network: nn.Module, bank: le.StimulusBank, seen: Seen) -> bool:
    """Whether a fit with this probe begins; otherwise it says why not before it does."""
    try:
        le.watch(network, [probe], bank, "unused", torch.optim.SGD(network.parameters()))
        probe.check(network)
    except ValueError as error:
        seen.why[type(probe).__name__] = str(error)
        return False
    return True


def _read_warnings(said: Iterable[str], probes: Sequence[le.Probe], seen: Seen) -> None:
    for text in said:
        for name in (type(probe).__name__ for probe in probes):
            if text.startswith(name):
                seen.why[name] = f"{seen.why[name]} {text}" if name in seen.why else text


def _layers(records: Any, names: Sequence[str]) -> int:
    sizes = [(str(axis), size) for name in names for axis, size in records[name].sizes.items()]
    return max((size for axis, size in sizes if axis.startswith(("layer", "pair"))), default=0)


def write_page(page: Path = PAGE) -> None:
    """Puts both tables in place of those that the page has.

    Raises:
        ValueError: if the page has no place for them.
        AssertionError: as `look_at` does.
    """
    probes = [kind.__name__ for kind in shipped()]
    rows: list[list[str]] = [["network", "of", *(name.removesuffix("Probe") for name in probes), "values compared"]]
    reasons = dict[str, int]()
    for entry in ZOO:
        seen = look_at(entry)
        cells = [_cell(name, seen, reasons) for name in probes]
        rows.append([entry.name, entry.source, *cells, f"{seen.checked:,}"])
        print(f"{entry.name}: {len(seen.layers)} probes of {len(probes)}, {seen.checked:,} values compared")
    put_table(page, TABLE, rows)
    put_table(page, REASONS, [["", "why"], *([str(number), text] for text, number in reasons.items())])


def _cell(name: str, seen: Seen, reasons: dict[str, int]) -> str:
    why = seen.why.get(name)
    note = "" if why is None else f"[{reasons.setdefault(_plain(why), len(reasons) + 1)}]"
    if name in seen.layers:
        return " ".join(filter(None, (str(seen.layers[name] or "yes"), note)))
    return f"no {note}".strip()


def _plain(text: str) -> str:
    """A reason in one line of a table: without where in the code it was said, and the first layers of many."""
    text = re.sub(r"failed at step \d+ and is switched off; training goes on\. \w+: ", "is off. ", text)
    text = re.sub(r" \(/[^()]*\.py:\d+\)", "", re.sub(r"\s+", " ", text))
    text = re.sub(r"((?:[\w.@#]+, ){3})(?:[\w.@#]+, )+[\w.@#]*\w", r"\1…", text)
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning_utilities").setLevel(logging.WARNING)
    write_page()
