"""The device of a look: what it has to wait for, and how exactly it computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import backends

_backends: Any = backends  # torch declares no types for these
_SWITCHES = (_backends.cudnn.conv, _backends.cuda.matmul, _backends.mkldnn.matmul)


def wait_for(device: torch.device) -> None:
    """Waits until a GPU has done all that it was given, on any stream.

    A look may be taken on another stream than training's. And what training has left to do is not what a look costs.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def full_precision() -> Iterator[None]:
    """Sees to it that float32 is float32: by default GPUs round what they convolve to 10 bits (TF32)."""
    before = [switch.fp32_precision for switch in _SWITCHES]
    try:
        for switch in _SWITCHES:
            switch.fp32_precision = "ieee"
        yield
    finally:
        for switch, precision in zip(_SWITCHES, before, strict=True):
            switch.fp32_precision = precision
