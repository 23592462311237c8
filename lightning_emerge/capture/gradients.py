"""Gradients of the bank's loss, from one backward pass a chunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from lightning_emerge.capture.hooks import UNREACHED, Call
from lightning_emerge.capture.layers import OTHERS
from lightning_emerge.capture.leaves import Leaf, single_gradients
from lightning_emerge.capture.troubles import Troubles
from lightning_emerge.records import StimulusBank, check_outputs, widest


class Backward:
    """Adds up gradients over chunks, each of one token, from one backward pass a chunk."""

    def __init__(
        self,
        weights: Mapping[str, torch.Tensor],
        leaves: Mapping[str, Sequence[Leaf]],
        bank: StimulusBank,
        whole: Sequence[str],
        token: Sequence[str],
        squares: Sequence[str],
        troubles: Troubles,
    ) -> None:
        self.weights, self.leaves = weights, leaves
        self._troubles, self._labels = troubles, bank.labels
        self._moved: dict[str, set[str]] = {"gradients": set(), "token_gradients": set(), "squares": set()}
        self._unmoved: list[tuple[str, str]] = []
        self._passed = False
        self.sizes = torch.bincount(bank.labels, minlength=len(bank.tokens)).tolist()
        self.total = len(bank)
        like = {layer: weight.detach() for layer, weight in weights.items()}
        self.bank = {layer: torch.zeros_like(like[layer]) for layer in whole}
        self.token = {layer: torch.zeros(len(self.sizes), *like[layer].shape).to(like[layer]) for layer in token}
        self.squares = {layer: torch.zeros_like(like[layer], dtype=widest(like[layer])) for layer in squares}
        for sums in self.token.values():
            sums[[number for number, size in enumerate(self.sizes) if not size]] = torch.nan

    def add(self, outputs: Any, token: int, calls: Mapping[str, Sequence[Call]]) -> None:
        if self.weights and LOSS not in self._troubles:
            with self._troubles.of(*LOSS):
                check_outputs(outputs, self._labels)
                self._add(outputs, token, calls)

    def _add(self, outputs: torch.Tensor, token: int, calls: Mapping[str, Sequence[Call]]) -> None:
        if not len(outputs):
            return
        self._passed = True
        labels = torch.full((len(outputs),), token, device=outputs.device)
        loss = cross_entropy(outputs.float() if outputs.dtype.itemsize < 4 else outputs, labels, reduction="sum")
        made = [call for each in calls.values() for call in each if call.output.requires_grad]
        # Not backward(): that would write into the gradients that training uses, and wake DDP's reducer.
        found = torch.autograd.grad(loss, [*self.weights.values(), *(call.output for call in made)], allow_unused=True)
        own = dict(zip(self.weights, found, strict=False))
        for layer, gradient in own.items():
            if gradient is None:
                continue
            if layer in self.bank:
                self.bank[layer] += gradient / self.total
            if layer in self.token:
                self.token[layer][token] += gradient / self.sizes[token]
            for kind in ("gradients", "token_gradients"):
                self._moved[kind].add(layer)
        ends = list(zip(made, found[len(own) :], strict=True))
        for layer, leaves in self.leaves.items():
            with self._troubles.of("squares", layer):
                reached = [(call, end) for call, end in ends if call.leaf in leaves]
                self._add_squares(layer, len(outputs), reached, own[layer])

    def _add_squares(
        self, layer: str, rows: int, reached: Sequence[tuple[Call, torch.Tensor | None]], whole: torch.Tensor | None
    ) -> None:
        """Adds the squared gradients of single stimuli, each the sum over all calls that use the layer's weight.

        Raises:
            ValueError: if they are not those of single stimuli.
        """
        if any(call.given is None or len(call.given) != rows for call, _ in reached):
            raise ValueError(
                "Gradients of single stimuli are taken of layers that get a row for each stimulus; "
                f"{layer!r} gets others. {OTHERS}"
            )
        if not reached and whole is not None:
            raise ValueError(UNREACHED.format(layer))
        wide, sums = self.squares[layer].dtype, torch.zeros_like(self.squares[layer])
        added = [single_gradients(call, end).to(wide) for call, end in reached if end is not None]
        single = sum(added[1:], start=added[0]) if added else sums[None]
        lacking = (sums if whole is None else whole.to(wide)) - single.sum(dim=0)
        # What is no rounding: the weight is used beside the calls that were seen, transposed for one.
        if lacking.norm() > torch.finfo(self.weights[layer].dtype).eps ** 0.5 * single.flatten(1).norm(dim=1).sum():
            raise ValueError(
                "Gradients of single stimuli add up to that of them all; those of "
                f"{layer!r} do not, as its weight is used elsewhere too. {OTHERS}"
            )
        self.squares[layer] += single.square().sum(dim=0) / self.total
        if added:
            self._moved["squares"].add(layer)

    def found(self, kind: str) -> dict[str, torch.Tensor]:
        """What came of one kind, zeros of what was not moved included; once all has passed."""
        loss = self._troubles.get(LOSS)
        sums = {"gradients": self.bank, "token_gradients": self.token, "squares": self.squares}[kind]
        if loss is not None and sums:
            self._troubles[kind, ""] = loss
            return {}
        found = {layer: values for layer, values in sums.items() if (kind, layer) not in self._troubles}
        self._unmoved += [(kind, layer) for layer in found if layer not in self._moved[kind]]
        return found

    def unmoved(self) -> list[tuple[str, str]]:
        """Which of what was found no stimulus of this process had a part in: troubles from now on, if it had any."""
        for kind, layer in self._unmoved if self._passed else ():
            self._troubles[kind, layer] = ValueError(_UNMOVED.format(layer))
        return self._unmoved


LOSS = ("loss", "")


_UNMOVED = (
    "A probe takes gradients of weights through which the images pass to the loss; those of {!r} are not among them. "
    "Name other layers."
)
