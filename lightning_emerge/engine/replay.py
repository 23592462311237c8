"""Replay: probes look at checkpoints, as they would have looked at the run that left them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lightning_emerge.engine.checkpoint_files import find_mismatch
from lightning_emerge.engine.conductor import LAYERS, Conductor
from lightning_emerge.engine.members import Looker
from lightning_emerge.engine.reporting import Sinks
from lightning_emerge.engine.weight_files import read_weights
from lightning_emerge.records import StimulusBank


def replay(
    module: nn.Module,
    probes: Sequence[Looker],
    bank: StimulusBank | None,
    checkpoints: Mapping[int, Path],
    sinks: Sinks,
    advance: Callable[[], object],
    prefix: str = "",
) -> Conductor:
    """Looks with every probe at every checkpoint, whatever their schedules say.

    Args:
        module: what the checkpoints are of; it is left with the last one's weights.
        probes: none of which needs the training batch.
        bank: what they look at.
        checkpoints: as `list_checkpoints` gives them.
        sinks: where findings go; they are closed at the end.
        advance: called after each checkpoint.
        prefix: as for `load_weights`.

    Returns:
        The conductor, for what the looks cost.

    Raises:
        ValueError: if a checkpoint does not fit the module.
    """
    step, first = next(iter(checkpoints.items()))
    conductor = Conductor(module, probes, bank, sinks, step=step, past={LAYERS: _find_layers(first)})
    try:
        for step, path in checkpoints.items():
            load_weights(module, path, prefix)
            conductor.look(step, last=True)
            advance()
        conductor.settle(show=True)
    finally:
        conductor.close()
    return conductor


def load_weights(module: nn.Module, path: Path, prefix: str = "", *, whose: str = "that is given") -> None:
    """Gives a module the weights of a checkpoint.

    Args:
        module: to be given them.
        path: of the checkpoint.
        prefix: what the names of its weights begin with, and those in the module do not; names that do not begin with
            it are left out. If none is given, one that all names share is stripped or added where that makes them fit.
        whose: the network, in an error.

    Raises:
        ValueError: if they do not fit.
    """
    saved = read_weights(path).tensors
    weights = _fit(module, _strip(saved, prefix, path))
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        wrong = find_mismatch(module, weights) or str(error).strip().splitlines()[-1].strip()
        hint = "" if weights.keys() & module.state_dict().keys() else _advise(weights)
        raise ValueError(f"A checkpoint is of the network {whose}; {path} is not: {wrong}.{hint}") from None


def _find_layers(path: Path) -> Any:
    """The layers of probes that named none, as the run chose them; empty if they were not in it."""
    layers = read_weights(path).past.get(LAYERS)
    return layers if isinstance(layers, Mapping) else {}


def _strip(weights: dict[str, torch.Tensor], prefix: str, path: Path) -> dict[str, torch.Tensor]:
    found = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    if not found:
        raise ValueError(
            f"A prefix is what names of weights begin with; in {path} none begins with {prefix!r}, and the first is "
            f"{next(iter(weights))}."
        )
    return found


def _advise(weights: Mapping[str, Any]) -> str:
    return f" If its names, as {next(iter(weights))}, begin with what the network's do not, give that as the prefix."


def _fit(module: nn.Module, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Names weights as the module does, by stripping a prefix that all share, or adding that of the module's own."""
    own = module.state_dict(keep_vars=True)
    tried = (
        {add + name.removeprefix(strip): value for name, value in weights.items()}
        for strip in _shared(weights)
        for add in _shared(own)
    )
    best = max(tried, key=lambda named: len(named.keys() & own.keys()))
    return _tie(own, best)


def _shared(names: Mapping[str, Any]) -> Iterator[str]:
    """What all of some names begin with, up to each dot; the shortest, which is empty, first."""
    yield ""
    first = next(iter(names), "").split(".")
    for depth in range(1, len(first)):
        prefix = ".".join(first[:depth]) + "."
        if all(name.startswith(prefix) for name in names):
            yield prefix


def _tie(own: Mapping[str, Any], weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Adds the further names of weights that are tied, of which safetensors saves one."""
    known = {id(own[name]): value for name, value in weights.items() if name in own}
    tied = {name: known[id(value)] for name, value in own.items() if name not in weights and id(value) in known}
    return {**weights, **tied}
