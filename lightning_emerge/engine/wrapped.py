"""Networks and optimizers as they are within what others have wrapped around them."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim import Optimizer


def unwrap(network: nn.Module) -> nn.Module:
    """The network itself, of one that DDP, Fabric, Accelerate or torch.compile has wrapped."""
    while True:
        inner = getattr(network, "_orig_mod", None)
        if inner is None and isinstance(network, DistributedDataParallel | DataParallel | _wrapper()):
            inner = network.module
        if not isinstance(inner, nn.Module):
            return network
        network = inner


def _wrapper() -> type[nn.Module]:
    from lightning.fabric.wrappers import _FabricModule  # pyright: ignore[reportPrivateUsage]

    return _FabricModule


def unwrap_optimizer(optimizer: Any) -> Optimizer:
    """The optimizer itself, of one that Fabric or Accelerate has wrapped.

    Raises:
        ValueError: if it is none.
    """
    inner = getattr(optimizer, "optimizer", None)
    found = inner if isinstance(inner, Optimizer) else optimizer
    if not isinstance(found, Optimizer):
        raise ValueError(f"optimizers are torch.optim.Optimizers; got a {type(optimizer).__name__}.")
    return found
