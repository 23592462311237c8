"""Tensors as rooms hand them on: their widest type, their layout in memory, and arrays of them."""

from __future__ import annotations

import torch

from lightning_emerge.records.measurement import FloatArray


def widest(tensor: torch.Tensor) -> torch.dtype:
    """The widest floating type of a tensor's device: Apple's GPUs have no float64."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def as_stored(rows: torch.Tensor) -> torch.Tensor:
    """Gives images whose channels lie side by side in memory as (stimulus, y, x, channel), all else as it is."""
    last = rows.dim() == 4 and not rows.is_contiguous() and rows.is_contiguous(memory_format=torch.channels_last)
    return rows.movedim(1, -1) if last else rows


def pool(rows: torch.Tensor) -> torch.Tensor:
    """Averages (stimulus, filter, ...) over all places."""
    return rows.mean(dim=tuple(range(2, rows.dim()))) if rows.dim() > 2 else rows


def to_array(tensor: torch.Tensor) -> FloatArray:
    """Copies a floating tensor of any device to a NumPy array; half precision becomes float32."""
    tensor = tensor.detach()
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.float()
    return tensor.cpu().numpy().copy()
