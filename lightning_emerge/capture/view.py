"""What a pass keeps of the calls in a network: needs say what before it, and find it in its chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from typing import Any

import torch
from torch import nn

from lightning_emerge.capture.heads import HEADS, heads_of
from lightning_emerge.capture.hooks import (
    Call,
    Map,
    Output,
    Seen,
    find_last,
    hooked,
    passing_aside,
    reached,
    reached_call,
    rows_of,
    watch_calls,
    watch_inputs,
    watch_maps,
    watch_outputs,
)
from lightning_emerge.capture.layers import WHOLE, device_of, dtype_of, find_layers, owner_of, split_call, weights_of
from lightning_emerge.capture.layouts import PLAIN, Layouts
from lightning_emerge.capture.leaves import Leaf, leaves_of, users_of
from lightning_emerge.capture.losses import sum_losses
from lightning_emerge.capture.state import looking_at
from lightning_emerge.capture.weights import Weight, parts
from lightning_emerge.records import StimulusBank, check_outputs
from lightning_emerge.records.structures import Structure, call, move, take


class View:
    """A network in one pass of a bank. What several needs ask for is hooked once.

    Args:
        module: the network.
        bank: the stimuli of all processes.
        layouts: name of a call of a layer -> how what it gives lies; what is not among them is taken as it is.

    Attributes:
        modules: name -> module, what `find_layers` finds.
        weights: layer -> its weight, of those with respect to which is differentiated.
        tensors: layer -> what its module computes with in the place of that weight; once the pass has begun.
        sizes: how many stimuli each token has.
        last: the last chunk that passed, if any did.
        unlearnable: why there is no loss to differentiate, if there is none.
        failed: need -> the error of a hook of its own.
    """

    def __init__(self, module: nn.Module, bank: StimulusBank, layouts: Layouts | None = None) -> None:
        self.module, self.bank, self.modules = module, bank, find_layers(module)
        self.layouts = layouts or {}
        self.weights: dict[str, Weight] = {}
        self.tensors: dict[str, torch.Tensor] = {}
        self.sizes: list[int] = torch.bincount(bank.labels, minlength=len(bank.tokens)).tolist()
        self.last: Chunk | None = None
        self.unlearnable: Exception | None = None
        self.leaves: dict[str, list[Leaf]] = {}
        self.watched: dict[str, Output] = {}
        self._fed: dict[str, nn.Module] = {}
        self._maps: dict[str, nn.Module] = {}
        self.failed: dict[Any, Exception] = {}
        self._others: list[tuple[Any, nn.Module, Callable[[nn.Module, Any, Any], Any]]] = []
        self._asking: Any = None
        self._seen: _Kept | None = None

    def output(self, layer: str) -> None:
        """Keeps what a layer gives, or a call of it, or its heads."""
        if layer.endswith(HEADS) and layer not in self.modules:
            heads = heads_of(self.modules[owner_of(layer, self.modules)])
            assert heads is not None  # or `match_layers` would not have found it
            self.watched[layer] = Output(heads.part, 1, heads.read)
            return
        name, call = split_call(layer, self.modules)
        self.watched[layer] = Output(self.modules[name], call)

    def input(self, layer: str, part: nn.Module | None = None) -> None:
        """Keeps what a layer gets, or what a part of it does."""
        self._fed[layer] = self.modules[layer] if part is None else part

    def differentiate(self, layer: str) -> None:
        """Differentiates the loss of each chunk with respect to a layer's weight.

        Raises:
            ValueError: if the layer does not hold one weight, of floating-point numbers.
        """
        weight = weights_of(self.module, self.modules, [layer])[layer]
        if not weight.differentiable:
            raise ValueError(WHOLE.format(layer))
        self.weights[layer] = weight

    def calls(self, layer: str) -> None:
        """Keeps each call of what computes with a layer's weight, and differentiates with respect to what it gave.

        Raises:
            ValueError: if that is something else than linear maps and plain convolutions.
        """
        self.leaves[layer] = leaves_of(layer, self.modules[layer], self._users)

    def maps(self) -> None:
        """Keeps the last call of each linear map."""
        linear = (part for part in parts(self.module) if isinstance(part, nn.Linear))
        self._maps = {str(number): part for number, part in enumerate(linear)}

    def after(self, part: nn.Module, hook: Callable[[nn.Module, Any, Any], Any]) -> None:
        """Calls a forward hook (module, input, output) of a need's own while the pass lasts."""
        self._others.append((self._asking, part, hook))

    @contextmanager
    def asked_by(self, need: Any) -> Iterator[None]:
        """Notes whose the hooks are that are asked for meanwhile."""
        self._asking = need
        try:
            yield
        finally:
            self._asking = None

    @cached_property
    def _users(self) -> list[tuple[nn.Module, set[nn.Parameter]]]:
        return users_of(self.module)

    @contextmanager
    def open(self) -> Iterator[None]:
        """Makes the network ready to be looked at with all hooks, and puts everything back."""
        copy = any(getattr(layer, "inplace", False) for layer in self.module.modules())
        ends = {str(id(leaf)): leaf for each in self.leaves.values() for leaf in each}
        with (
            looking_at(self.module, list(self.weights.values())) as tensors,
            watch_outputs(self.watched, copy=copy) as outputs,
            watch_inputs(self._fed, copy=copy) as given,
            watch_calls(ends, copy=copy) as calls,
            watch_maps(self._maps) as mapped,
            ExitStack() as stack,
        ):
            for need, part, hook in self._others:
                stack.enter_context(hooked({"": part}, partial(self._call, need, hook)))
            self.tensors = dict(zip(self.weights, tensors, strict=True))
            self._seen = _Kept(outputs, given, calls, mapped)
            yield

    def _call(self, need: Any, hook: Callable[[nn.Module, Any, Any], Any], _name: str, *call: Any) -> Any:
        """Calls a hook of a need's own, whose error stops neither the network nor others."""
        try:
            return None if need in self.failed else hook(*call)
        except Exception as error:
            self.failed[need] = error

    def forward(self, rows: torch.Tensor, token: int) -> Chunk:
        """Passes some stimuli of one token, by their positions in the bank."""
        assert self._seen is not None
        self._seen.clear()
        inputs = move(take(self.bank.inputs, rows), device_of(self.module), dtype_of(self.module))
        self.last = Chunk(self, self._seen, token, rows, inputs, call(self.module, inputs))
        return self.last

    def map_of(self, name: str) -> nn.Module:
        """A linear map that was kept."""
        return self._maps[name]


class _Kept:
    """What hooks have kept since a chunk began."""

    def __init__(
        self,
        outputs: dict[str, Seen],
        given: dict[str, Seen],
        calls: dict[str, list[Call]],
        mapped: dict[str, Map],
    ) -> None:
        self.outputs, self.given, self.calls, self.mapped = outputs, given, calls, mapped

    def clear(self) -> None:
        for kept in (self.outputs, self.given, self.calls, self.mapped):
            kept.clear()


class Chunk:
    """Some stimuli of one token that have passed together.

    Attributes:
        token: position of their token.
        count: how many they are; 0 in a process without stimuli, which has to know the shapes too.
        result: what the network returned.
        differentiated: whether their loss was differentiated.
        gradients: layer -> gradient of the sum of their losses with respect to its weight; None if it has no part in
            it.
    """

    def __init__(self, view: View, kept: _Kept, token: int, rows: torch.Tensor, inputs: Structure, result: Any) -> None:
        self.token, self.count, self.result = token, len(rows), result
        self._rows, self._inputs = rows, inputs
        self.differentiated = False
        self.gradients: Mapping[str, torch.Tensor | None] = {}
        self._view, self._kept = view, kept
        self._ends: list[tuple[Call, torch.Tensor | None]] = []

    @property
    def size(self) -> int:
        """How many stimuli their token has."""
        return self._view.sizes[self.token]

    @property
    def total(self) -> int:
        """How many stimuli the bank has."""
        return len(self._view.bank)

    def outputs(self) -> torch.Tensor:
        """The network's outputs, as float32 (stimulus, ...); those of one logit for two tokens as (stimulus, token).

        Raises:
            ValueError: if it cannot be said which they are.
        """
        return rows_of("the network", self._view.bank.read(self.result), self.count)

    def answers(self) -> torch.Tensor:
        """The network's outputs, as float32 (stimulus, token).

        Raises:
            ValueError: if they are anything else.
        """
        outputs = self.outputs()
        check_outputs(outputs, self._view.bank)
        return outputs

    def output(self, layer: str) -> torch.Tensor:
        """What a layer gave, as float32 (stimulus, channel, ...) where it is known how it lies, else (stimulus, ...).

        Raises:
            ValueError: if it is anything else, or there was no such call.
        """
        output = reached_call(layer, self._kept.outputs, self._view.watched[layer].call)
        if isinstance(output, torch.Tensor):
            output = self._view.layouts.get(layer, PLAIN).take(output)
        return rows_of(f"layer {layer!r}", output, self.count)

    def given(self, layer: str) -> torch.Tensor:
        """What a layer got, as float32 (stimulus, ...).

        Raises:
            ValueError: if it is anything else, or the layer was not called once.
        """
        return rows_of(f"what comes before {layer!r}", reached(layer, self._kept.given), self.count)

    def calls(self, layer: str) -> list[tuple[Call, torch.Tensor | None]]:
        """The calls of what computes with a layer's weight, each with the gradient of what it gave."""
        return [(call, end) for call, end in self._ends if call.leaf in self._view.leaves[layer]]

    def precision(self, layer: str) -> float:
        """The rounding of the numbers that a layer's weight is made of."""
        return torch.finfo(self._view.tensors[layer].dtype).eps

    def last_map(self) -> tuple[str, torch.Tensor] | None:
        """The linear map whose output the network returned, and what it got (stimulus, feature); None if it ends so."""
        try:
            outputs = self._view.bank.task.read(self.result)
        except ValueError:
            return None
        last = find_last(self._kept.mapped, outputs)
        return None if last is None else (last, self._kept.mapped[last].given.detach().float())

    def differentiate(self) -> None:
        """Goes back once, for all that is differentiated."""
        view = self._view
        if not view.weights or view.unlearnable is not None:
            return
        try:
            if self.count:
                self._differentiate(self._sum_losses(), view.tensors)
            elif view.bank.task.loss is None:  # a process without stimuli has to know whether the loss fits
                self.answers()
        except Exception as error:
            view.unlearnable = error

    def let_go(self) -> None:
        """Lets go of what was differentiated, before others pass."""
        self.gradients, self._ends = {}, []

    def _sum_losses(self) -> torch.Tensor:
        view = self._view
        if not isinstance(view.bank.task.loss, str):
            return sum_losses(view.module, view.bank, self._rows, self._inputs, self.result)
        self._kept.calls.clear()  # what is differentiated are those of the loss's own pass, which nobody else sees
        with passing_aside():
            return sum_losses(view.module, view.bank, self._rows, self._inputs, self.result)

    def _differentiate(self, loss: torch.Tensor, weights: Mapping[str, torch.Tensor]) -> None:
        made = [call for each in self._kept.calls.values() for call in each if call.output.requires_grad]
        # Not backward(): that would write into the gradients that training uses, and wake DDP's reducer.
        found = torch.autograd.grad(loss, [*weights.values(), *(call.output for call in made)], allow_unused=True)
        self.gradients = dict(zip(weights, found, strict=False))
        self._ends = list(zip(made, found[len(weights) :], strict=True))
        self.differentiated = True
