"""The loss of stimuli: the cross-entropy of answers, or what the network learns by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from lightning_emerge.capture.layers import device_of, dtype_of
from lightning_emerge.records import StimulusBank, check_outputs
from lightning_emerge.records.structures import Structure, move


def sum_losses(
    module: nn.Module, bank: StimulusBank, rows: torch.Tensor, inputs: Structure, result: Any
) -> torch.Tensor:
    """Adds up the losses of some stimuli of a bank.

    Args:
        module: the network.
        bank: whose task says which loss.
        rows: which stimuli.
        inputs: what the network gets of them, where it lies.
        result: what the network returned for them; nothing makes use of it if the loss is a method of the module.

    Returns:
        A tensor of no dimension, to be differentiated.

    Raises:
        ValueError: if the loss does not fit what the network gives, or is no number a stimulus or their mean.
    """
    task, device = bank.task, device_of(module)
    if task.loss is None:
        outputs = bank.read(result)
        check_outputs(outputs, bank)
        return cross_entropy(_whole(outputs), bank.labels[rows].to(outputs.device).long(), reduction="sum")
    given = isinstance(task.targets, str)
    targets = inputs if given else move(bank.targets(rows), device, dtype_of(module))
    with _same_numbers(device):
        if isinstance(task.loss, str):
            with _logs_nothing(module):
                loss = getattr(module, task.loss)(inputs, targets)
        else:
            loss = task.loss(_whole(task.read(result)), targets)
    return _add_up(loss, len(rows))


def _whole(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.float() if outputs.is_floating_point() and outputs.dtype.itemsize < 4 else outputs


def _add_up(loss: Any, count: int) -> torch.Tensor:
    if not isinstance(loss, torch.Tensor) or loss.shape not in ((), (count,)):
        what = f"{tuple(loss.shape)}" if isinstance(loss, torch.Tensor) else f"a {type(loss).__name__}"
        raise ValueError(
            f"A loss is one number a stimulus, or their mean; got {what} for {count} stimuli. Average over all else."
        )
    return loss.sum() if loss.dim() else loss * count


@contextmanager
def _same_numbers(device: torch.device) -> Iterator[None]:
    """Has a loss that samples numbers sample the same ones each time, and leaves the random streams alone."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(0)
        yield


@contextmanager
def _logs_nothing(module: nn.Module) -> Iterator[None]:
    """Keeps what a method of a LightningModule logs in a look out of what it logs in training."""
    names = [name for name in ("log", "log_dict") if hasattr(module, name) and name not in vars(module)]
    try:
        for name in names:
            object.__setattr__(module, name, lambda *_args, **_keywords: None)
        yield
    finally:
        for name in names:
            object.__delattr__(module, name)
