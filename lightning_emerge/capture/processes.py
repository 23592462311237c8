"""The shares of all processes put together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist


def add_up(share: torch.Tensor) -> torch.Tensor | None:
    """Adds the tensors of all processes. Every process calls it.

    Returns:
        The sum on process zero, None on the others.
    """
    rank, world_size = place()
    if world_size > 1:
        dist.reduce(share, 0)
    return share if rank == 0 else None


def gather(rows: torch.Tensor, total: int) -> torch.Tensor | None:
    """Puts the shares of all processes together in the bank's order. Every process calls it.

    Args:
        rows: (share, ...) this process' rows, as `run_bank` dealt them out.
        total: stimuli of the whole bank.

    Returns:
        (total, ...) on process zero, None on the others.
    """
    rank, world_size = place()
    if world_size == 1:
        return rows
    padded = rows.new_zeros((-(-total // world_size), *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in range(world_size)] if rank == 0 else None
    dist.gather(padded, parts)
    if parts is None:
        return None
    return torch.stack(parts, dim=1).flatten(0, 1)[:total]


def agree(failed: Sequence[bool], device: torch.device) -> list[bool]:
    """Tells every process what failed on any of them. Every process calls it."""
    if place()[1] == 1:
        return list(failed)
    flags = torch.tensor(failed, dtype=torch.int32, device=device)
    dist.all_reduce(flags, dist.ReduceOp.MAX)
    return [bool(flag) for flag in flags.tolist()]


def is_process_zero() -> bool:
    """Whether this is the process that measures and writes."""
    return place()[0] == 0


def place() -> tuple[int, int]:
    """This process' number, and how many there are."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1
