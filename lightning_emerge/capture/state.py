"""A network made ready to be looked at, and everything put back."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from lightning_emerge.capture.layers import device_of
from lightning_emerge.capture.weights import Weight, held

LOOKS = ContextVar("LOOKS", default=False)
"""Whether what passes through networks just now is what is looked at, and no training."""


@contextmanager
def looking_at(module: nn.Module, weights: Sequence[Weight]) -> Iterator[list[torch.Tensor]]:
    """Makes a module ready to be looked at, and puts everything back.

    Gives the tensors that it computes with in the place of some weights, to differentiate with respect to them.
    """
    with (
        _watched_by_nobody(),
        _put_back(module),
        held(weights) as tensors,
        torch.set_grad_enabled(bool(weights)),  # made here, as it acts at once
        torch.autocast(device_of(module).type, enabled=False),
        _eager(),
        _plain_attention(),
    ):
        yield tensors


@contextmanager
def _watched_by_nobody() -> Iterator[None]:
    """Has `Firing` pass over what is no training."""
    token = LOOKS.set(True)
    try:
        yield
    finally:
        LOOKS.reset(token)


@contextmanager
def _put_back(module: nn.Module) -> Iterator[None]:
    """Turns a module to evaluation, and puts back its modes and what it notes in buffers, in evaluation mode too.

    A module that gave itself other buffers may have noted beside them what they are for, so its attributes are put back
    with them.
    """
    modes = {layer: layer.training for layer in module.modules()}
    names = [(layer, dict(vars(layer)), dict(layer._buffers.items())) for layer in module.modules()]
    values = [(buffer, buffer._version, buffer.clone()) for buffer in module.buffers() if not buffer.is_inference()]
    try:
        module.eval()
        yield
    finally:
        for layer, attributes, buffers in names:
            if not _are_same(layer._buffers, buffers):
                _rebind(layer, attributes, buffers)
        for layer, mode in modes.items():
            layer.training = mode
        with torch.no_grad():
            for buffer, version, before in values:
                if buffer._version != version or not _has_bits(buffer, before):
                    buffer.copy_(before)


def _are_same(now: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    return list(now.keys()) == list(before) and all(now[name] is buffer for name, buffer in before.items())


def _rebind(layer: nn.Module, attributes: Mapping[str, Any], buffers: Mapping[str, Any]) -> None:
    """Gives a module the buffers and attributes that it had."""
    for name in [name for name in layer._buffers if name not in buffers]:
        delattr(layer, name)
    for name, buffer in buffers.items():
        layer._buffers[name] = buffer
    own = vars(layer)
    for name in [name for name in own if name not in attributes]:
        del own[name]
    own.update(attributes)


def _has_bits(buffer: torch.Tensor, before: torch.Tensor) -> bool:
    """Whether a tensor has the bits of another: batch norms write past what a tensor counts, and NaN equals nothing."""
    if buffer.layout is not torch.strided or buffer.is_quantized or buffer.is_nested:
        return True  # nothing is known to write past the count of these
    one, other = (tensor.detach().contiguous().reshape(-1).view(torch.uint8) for tensor in (buffer, before))
    return torch.equal(one, other)


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Has attention computed step by step: fused kinds round otherwise, and some are not differentiable twice.

    They also pass modules by, depending on hooks and gradients, that is on what else is looked at.
    """
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def _eager() -> AbstractContextManager[Any]:
    """Sees to it that compiled modules run as they are written, since compiled ones pass new hooks by."""
    return torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
