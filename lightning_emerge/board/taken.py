"""At which looks each measure was taken, as a store says it."""

from __future__ import annotations

from typing import Any

from lightning_emerge.board.refusal import damaged


def read_taken(told: Any, looks: int) -> dict[str, list[range]] | None:
    """Reads the attribute `taken` of a store.

    Args:
        told: positions among the looks by measure, as [start, stop, step] of ranges; None in stores of version 0.1.0.
        looks: how many there are.

    Raises:
        RefusedError: if it is anything else, or names more looks than there are.
    """
    if told is None:
        return None
    if not isinstance(told, dict):
        raise damaged("they do not say when each measure was taken")
    return {name: _read_ranges(name, parts, looks) for name, parts in told.items()}


def _read_ranges(name: str, parts: Any, looks: int) -> list[range]:
    if not isinstance(parts, list) or len(parts) > looks or not all(_is_range(part, looks) for part in parts):
        raise damaged(f"they do not say when {name[:80]} was taken")
    found = [range(*part) for part in parts]
    if sum(map(len, found)) > looks:
        raise damaged(f"{name[:80]} was taken more often than there are looks")
    return found


def _is_range(part: Any, looks: int) -> bool:
    if not isinstance(part, list) or len(part) != 3 or not all(type(number) is int for number in part):
        return False
    start, stop, step = part
    return 0 <= start < stop and step > 0 and range(start, stop, step)[-1] < looks
