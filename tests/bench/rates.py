"""What this machine does a second, and what a network needs: floors are operations or bytes over measured rates."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import cache

import torch
from table import Floor, timed
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

_ROUNDS = 7


@cache
def product_rate() -> float:
    """Operations a second (an addition or a multiplication is one) of a product of two matrices of 1024 x 1024."""
    a, b = torch.randn(2, 1024, 1024)
    return 2 * 1024**3 / _seconds(lambda: a @ b)


@cache
def convolution_rate() -> float:
    """Operations a second of a 3 x 3 convolution of 50 images of 64 channels at 12 x 12, as in the middle of a VGG."""
    images = torch.randn(50, 64, 12, 12).contiguous(memory_format=torch.channels_last)
    layer = nn.Conv2d(64, 64, 3, padding=1).to(memory_format=torch.channels_last)
    with torch.no_grad():
        return operations(layer, images) / _seconds(lambda: layer(images))


@cache
def copy_rate() -> float:
    """Bytes a second that are written, in a copy of 64 MiB."""
    source = torch.ones(2**24)
    target = torch.empty_like(source)
    return 4 * source.numel() / _seconds(lambda: target.copy_(source))


def operations(network: Callable[[torch.Tensor], object], images: torch.Tensor) -> int:
    """Additions and multiplications of a forward pass."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(images)
    return counter.get_total_flops()


def passing(network: nn.Module, images: torch.Tensor, times: float = 1) -> Floor:
    """Forward passes of images; there and back takes three times the operations."""
    count = times * len(images) * operations(network, images[:1])
    return _floor(count, convolution_rate(), "operations of the network")


def grams(stimuli: int, features: Sequence[int]) -> Floor:
    """Products of all pairs of stimuli, each pair once."""
    return _floor(sum(stimuli**2 * count for count in features), product_rate(), "operations of products")


def writing(size: float) -> Floor:
    """Bytes that are written."""
    return _floor(size, copy_rate(), "bytes written")


def described() -> str:
    """The rates, in words."""
    return (
        f"A product of matrices does {product_rate() / 1e9:.0f} G operations a second, a convolution "
        f"{convolution_rate() / 1e9:.0f}; a copy writes {copy_rate() / 1e9:.1f} GB a second."
    )


def _floor(count: float, rate: float, what: str) -> Floor:
    return Floor(1000 * count / rate, f"{count / 1e9:.3g} G {what} at {rate / 1e9:.3g} G a second")


def _seconds(work: Callable[[], object]) -> float:
    work()
    return statistics.median(timed(work) for _ in range(_ROUNDS))
