"""The weight that a layer computes with: a parameter, or what a normalisation or a pruning makes of parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd  # pyright: ignore[reportPrivateUsage]
from torch.nn.utils.parametrize import cached, is_parametrized
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm


@dataclass(frozen=True)
class Weight:
    """A weight by the module that computes with it. What it is made of may change while a network trains.

    Attributes:
        owner: the module that computes with it.
        name: which of its attributes it is.
    """

    owner: nn.Module
    name: str

    @property
    def sources(self) -> tuple[nn.Parameter, ...]:
        """The parameters that are learned: the weight itself, or what it is made of."""
        if is_parametrized(self.owner, self.name):
            makers: Any = self.owner.parametrizations
            return tuple(makers[self.name].parameters())
        ends = ("", "_orig", "_g", "_v") if _hook(self) else ("",)
        found = [self.owner._parameters.get(self.name + end) for end in ends]
        return tuple(parameter for parameter in found if parameter is not None)

    @property
    def derived(self) -> bool:
        """Whether it is made of parameters rather than being one."""
        return is_parametrized(self.owner, self.name) or _hook(self) is not None

    @property
    def differentiable(self) -> bool:
        """Whether one can differentiate with respect to it: what is made of whole numbers alone has no gradient."""
        return any(map(_moves, self.sources))

    @property
    def dim(self) -> int:
        """How many axes it has."""
        return max((source.dim() for source in self.sources), default=0)

    def read(self) -> torch.Tensor:
        """The weight as the module computes with it, without a gradient; nothing is changed by reading it.

        A parameter is given as it is and not as a copy.
        """
        with torch.no_grad(), _still(self):
            hook = _hook(self)
            return (getattr(self.owner, self.name) if hook is None else _make(hook, self.owner)).detach()

    def by_filter(self, tensor: torch.Tensor, axis: int = 0) -> torch.Tensor:
        """Gives what is like the weight as (out, in, ...) from an axis on: transposed convolutions are otherwise."""
        if _inputs_first(self.owner):
            return tensor.transpose(axis, axis + 1)
        if not isinstance(self.owner, _ConvTransposeNd):
            return tensor
        return tensor.unflatten(axis, (self.owner.groups, -1)).transpose(axis + 1, axis + 2).flatten(axis, axis + 1)


def _inputs_first(module: nn.Module) -> bool:
    """Whether a linear map holds (in, out), as `Conv1D` of Transformers does, which need not be installed."""
    kinds = [(kind.__module__, kind.__name__) for kind in type(module).__mro__]
    return ("transformers.pytorch_utils", "Conv1D") in kinds


def own_weights(module: nn.Module) -> list[Weight]:
    """The weights that a module itself computes with: what has two or more axes."""
    made = [*getattr(module, "parametrizations", {})] if is_parametrized(module) else []
    made += [name for name in map(_hooked_name, module._forward_pre_hooks.values()) if name is not None]
    derived = [Weight(module, name) for name in dict.fromkeys(made)]
    used = {id(source) for weight in derived for source in weight.sources}
    parameters = module.named_parameters(recurse=False)
    plain = [Weight(module, name) for name, own in parameters if own.dim() >= 2 and id(own) not in used]
    return [*plain, *(weight for weight in derived if weight.dim >= 2)]


def all_weights(layer: nn.Module) -> list[Weight]:
    """The weights that a layer's modules compute with; one that several share counts once."""
    found: dict[frozenset[int], Weight] = {}
    for part in parts(layer):
        for weight in own_weights(part):
            found.setdefault(frozenset(map(id, weight.sources)), weight)
    return list(found.values())


def parts(layer: nn.Module) -> list[nn.Module]:
    """A layer's modules, itself the first, without those that only make weights."""
    modules = list(layer.modules())
    makers = {id(maker) for part in modules if is_parametrized(part) for maker in _makers(part)}
    return [part for part in modules if id(part) not in makers]


def _makers(module: nn.Module) -> Iterator[nn.Module]:
    makers: Any = module.parametrizations
    yield from makers.modules()


@contextmanager
def held(weights: Sequence[Weight]) -> Iterator[list[torch.Tensor]]:
    """Has modules compute with tensors with respect to which can be differentiated, one for each weight.

    Those of parameters are the parameters; the others are made once, and put back as they were in the end.
    """
    sources = [source for weight in weights for source in weight.sources if _moves(source)]
    frozen = [source for source in sources if not source.requires_grad]
    with ExitStack() as stack:
        if any(is_parametrized(weight.owner, weight.name) for weight in weights):
            stack.enter_context(cached())
        for source in frozen:
            source.requires_grad_(True)
            stack.callback(source.requires_grad_, False)
        yield [stack.enter_context(_held(weight)) for weight in weights]


@contextmanager
def _held(weight: Weight) -> Iterator[torch.Tensor]:
    owner, hook = weight.owner, _hook(weight)
    if hook is None:
        with torch.enable_grad():
            yield getattr(owner, weight.name)
        return
    number = next(number for number, known in owner._forward_pre_hooks.items() if known is hook)
    before, tensor = getattr(owner, weight.name), weight.read().requires_grad_(True)
    try:
        owner._forward_pre_hooks[number] = _do_nothing
        setattr(owner, weight.name, tensor)
        yield tensor
    finally:
        setattr(owner, weight.name, before)
        owner._forward_pre_hooks[number] = hook


def _moves(source: torch.Tensor) -> bool:
    return source.is_floating_point() or source.is_complex()


def _do_nothing(_module: nn.Module, _given: Any) -> None:
    """Stands in the place of what would make the weight anew."""


@contextmanager
def _still(weight: Weight) -> Iterator[None]:
    """Keeps what makes a weight from learning while it is read: spectral norm does in training mode."""
    makers = list(_makers(weight.owner)) if is_parametrized(weight.owner, weight.name) else []
    modes = [(maker, maker.training) for maker in makers]
    try:
        for maker in makers:
            maker.training = False
        yield
    finally:
        for maker, mode in modes:
            maker.training = mode


def _hook(weight: Weight) -> Any:
    """What makes a weight before each call of its module, if something does."""
    hooks = weight.owner._forward_pre_hooks.values()
    return next((hook for hook in hooks if _hooked_name(hook) == weight.name), None)


def _hooked_name(hook: Any) -> str | None:
    if isinstance(hook, WeightNorm | SpectralNorm):
        return hook.name
    return hook._tensor_name if isinstance(hook, BasePruningMethod) else None


def _make(hook: Any, owner: nn.Module) -> torch.Tensor:
    if isinstance(hook, SpectralNorm):
        return hook.compute_weight(owner, do_power_iteration=False)
    return hook.compute_weight(owner) if isinstance(hook, WeightNorm) else hook.apply_mask(owner)
