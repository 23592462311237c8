"""Which parts stand in which stimuli, read off a table of latents."""

# pandas has no types: what comes out of a table is unknown until it is converted.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd  # pyright: ignore[reportMissingTypeStubs]
import torch
from jaxtyping import Bool
from torch import Tensor

_APPEARANCE, _OLDER = "_appearance", "_look"
_PLACED = ("shape", "place_x", "place_y", "pose")


@dataclass(frozen=True)
class Part:
    """A part of tokens, as a table of latents says it.

    Attributes:
        appearance: in words, the same in all tokens that share the part.
        shape: of the part; the words again where the table does not say it.
        x: of its place in the token's frame, -1 to 1, to the right; None where the table does not say it.
        y: likewise, downwards.
        pose: turn about its centre in degrees, clockwise.
    """

    appearance: str
    shape: str
    x: float | None = None
    y: float | None = None
    pose: float = 0.0


def part_columns(latents: pd.DataFrame) -> list[str]:
    """Names the columns that say how parts appear: `part<k>_appearance`, or `part<k>_look` in tables of before."""
    names = [name for name in map(str, latents.columns) if name.startswith("part")]
    return [name for name in names if name.endswith(_APPEARANCE)] or [name for name in names if name.endswith(_OLDER)]


def part_prefixes(latents: pd.DataFrame) -> list[str]:
    """What the names of the columns of each part begin with: "part0", "part1", ..."""
    return [name.rsplit("_", 1)[0] for name in part_columns(latents)]


def parts_held(latents: pd.DataFrame) -> tuple[list[Part], Bool[Tensor, "stimulus part"]]:
    """Reads which part of the grammar, at its place and in its pose, stands in which stimulus.

    Args:
        latents: with columns `part<k>_appearance`, one for each part of a stimulus, empty beyond its last. Columns
            `part<k>_shape`, `part<k>_place_x`, `part<k>_place_y` and `part<k>_pose` say more of it, if all are there.

    Returns:
        The parts, in the alphabetical order of their appearance, and which stimulus has which.
    """
    columns = [[str(words) for words in latents[name].fillna("")] for name in part_columns(latents)]
    first = dict[str, tuple[str, int]]()
    for prefix, own in zip(part_prefixes(latents), columns, strict=True):
        for row, words in enumerate(own):
            first.setdefault(words, (prefix, row))
    known = {words: _part(latents, prefix, words, row) for words, (prefix, row) in first.items() if words}
    parts = [known[words] for words in sorted(known)]
    rows = [set(row) for row in zip(*columns, strict=True)]
    held = [[part.appearance in row for part in parts] for row in rows]
    return parts, torch.tensor(held, dtype=torch.bool).reshape(len(rows), len(parts))


def _part(latents: pd.DataFrame, prefix: str, words: str, row: int) -> Part:
    names = [f"{prefix}_{name}" for name in _PLACED]
    if not {*names} <= {*latents.columns}:
        return Part(words, words)
    shape, *numbers = latents[names].iloc[row]
    return Part(words, str(shape), *map(float, numbers))


def appearances(parts: Sequence[Part]) -> frozenset[str]:
    """How some parts appear, in words."""
    return frozenset(part.appearance for part in parts)
