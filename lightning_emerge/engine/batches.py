"""Looks at training batches: what is kept before an optimizer's step, until its update is known."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch import nn
from torch.optim import Optimizer

from lightning_emerge.capture import Firing
from lightning_emerge.capture.needs.base import Look
from lightning_emerge.capture.needs.training import Batch
from lightning_emerge.capture.weights import Weight
from lightning_emerge.engine.members import Member, unite


@dataclass
class Taken:
    """A training batch whose update is still to be known."""

    step: int
    members: list[Member]
    batch: Batch


class Batches:
    """Watches the training batches that probes are to look at.

    Args:
        module: the network.
        weights: layer -> its weight, of all layers of such probes.
        order: of the network's layers.
    """

    def __init__(self, module: nn.Module, weights: Mapping[str, Weight], order: Sequence[str]) -> None:
        self._module, self._weights, self._order = module, weights, order
        self._firing: Firing | None = None
        self._taken: Taken | None = None
        self._told = set[str]()

    def watch(self, due: Sequence[Member]) -> None:
        """Watches which units fire in the batches that the next update is made from, if a probe is due then."""
        if due and self._firing is None:
            self._firing = Firing(self._module, unite(due, self._order))

    def keep(
        self, step: int, due: Sequence[Member], optimizer: Optimizer | None, optimizers: Sequence[Optimizer]
    ) -> None:
        """Keeps the gradients, and the weights they are for, if a probe is due.

        Args:
            step: optimizer steps taken.
            due: the probes that are to look at the batch.
            optimizer: the one that is about to step; if none is given, all weights are taken to be its.
            optimizers: all of the run.
        """
        if due:
            self._taken = Taken(step, list(due), self._read(due, optimizer, optimizers))
            self._say_derived(unite(due, self._order))
        firing, self._firing = self._firing, None
        if firing is not None:
            firing.close()
            if self._taken is not None:
                self._taken.batch.fired = firing.agree()

    def _read(self, due: Sequence[Member], optimizer: Optimizer | None, optimizers: Sequence[Optimizer]) -> Batch:
        own, batch = None if optimizer is None else _learned([optimizer]), Batch(self.read)
        still = set[int]() if own is None else _learned(optimizers) - own
        for layer in unite(due, self._order):
            weight = self._weights[layer]
            batch.weights[layer] = read_weight(weight)
            batch.gradients[layer] = _gradient(weight, batch.weights[layer], own)
            if _any(weight, still):
                batch.still.add(layer)
        return batch

    def read(self, layer: str) -> torch.Tensor:
        """A copy of a layer's weight as it is now."""
        return read_weight(self._weights[layer])

    def take(self) -> Taken | None:
        """Gives what was kept, once."""
        taken, self._taken = self._taken, None
        return taken

    def look(self, batch: Batch) -> Look:
        """What needs look at, now that the update is known."""
        return Look(self._module, partial(_copy, batch), batch)

    def close(self) -> None:
        """Removes every hook."""
        if self._firing is not None:
            self._firing.close()

    def _say_derived(self, layers: Sequence[str]) -> None:
        made = [layer for layer in layers if layer not in self._told and self._weights[layer].derived]
        if made:
            self._told |= {*made}
            rank_zero_warn(
                f"Gradients of training batches are taken of weights that are parameters; those of {', '.join(made)} "
                "are made of others, by a normalisation or a pruning, so that their gradients are NaN. Their updates "
                "are those of the weights in use."
            )


def read_weight(weight: Weight) -> torch.Tensor:
    """A copy of a weight as it is used, its filters first; of whole numbers as float32."""
    value = weight.by_filter(weight.read())
    return value.clone() if value.is_floating_point() or value.is_complex() else value.float()


def _copy(batch: Batch, layer: str) -> torch.Tensor:
    return batch.weights[layer].clone()


def _learned(optimizers: Iterable[Optimizer]) -> set[int]:
    return {id(one) for optimizer in optimizers for group in optimizer.param_groups for one in group["params"]}


def _any(weight: Weight, known: Collection[int]) -> bool:
    return any(id(source) in known for source in weight.sources)


def _gradient(weight: Weight, value: torch.Tensor, own: Collection[int] | None) -> torch.Tensor:
    """The gradient from which an optimizer is about to update a weight; NaN if it makes no use of one."""
    sources = weight.sources
    learns = own is None or _any(weight, own)
    if weight.derived or not learns or not all(source.requires_grad for source in sources):
        return torch.full_like(value, torch.nan)
    gradient = sources[0].grad
    return torch.zeros_like(value) if gradient is None else weight.by_filter(gradient.detach()).clone()
