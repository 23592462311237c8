"""Latents: what made each exemplar, as a table, and from the table back to what it shows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lightning_emerge.data.grammar.shapes import SHAPES
from lightning_emerge.data.grammar.tokens import Grammar
from lightning_emerge.data.rendering import raster
from lightning_emerge.data.rendering.render import part_masks
from lightning_emerge.data.rendering.scenes import Scenes

_FRAME = ("x", "y", "scale", "rotation")
_WHOLE = ("light_x", "light_y", "ground_red", "ground_green", "ground_blue", "background", "blur", "noise")
_SEEDS = ("background_seed", "noise_seed")
_PIECE = ("x", "y", "radius", "angle", "red", "green", "blue")
_PLACED = ("place_x", "place_y", "pose")
_BOX = ("left", "top", "right", "bottom")


def latents_table(
    scenes: Scenes, split: str, token: str, indices: Sequence[int], grammar: Grammar, size: int
) -> pd.DataFrame:
    """Writes what exemplars of one token show as a table, one row an exemplar.

    Columns:

    - `id`, `split`, `token`, `label`, `index`: which exemplar;
    - `x`, `y` (centre, share of the image's side), `scale`, `rotation` (degrees clockwise) of the token;
    - `light_x`, `light_y` (change of light from the middle to an edge), `ground_red`, ..., `background` (amplitude of
      its coarsest octave), `blur` (standard deviation, share of the side), `noise`;
    - `background_seed`, `noise_seed`: of the background's texture and the noise;
    - `part<k>_` for each part of the token (empty beyond its last): `appearance` (the part of the grammar, in words,
      the same in all tokens that share it), `place_x`, `place_y` (in the token's frame, as the grammar has it), `pose`
      (degrees clockwise about its own centre, the smallest that looks the same), `shape`, `x`, `y`, `radius` (shares of
      the side),
      `angle` (degrees clockwise), `red`, `green`, `blue`; `area`: what is seen of it, in pixels; `left`, `top`,
      `right`, `bottom`: the box of the pixels of which it fills a half or more, in pixels, the latter two beyond the
      last one; all 0 if there is none;
    - `clutter<k>_` for each piece that belongs to no token, and `patch_` for the one that occludes: the same but for
      the area and box.

    Args:
        scenes: what the exemplars show.
        split: their split.
        token: their token.
        indices: their indices.
        grammar: the token's grammar; all its tokens' tables have the same columns.
        size: the image's side in pixels.
    """
    columns: dict[str, object] = {
        "id": [f"{split}/{token}/{index:06d}" for index in indices],
        "split": split,
        "token": token,
        "label": grammar.names.index(token),
        "index": np.asarray(indices, np.int64),
    }
    columns |= dict(zip(_FRAME, scenes.frames.T, strict=True))
    columns |= dict(zip(_WHOLE, scenes.wholes.T, strict=True))
    columns |= dict(zip(_SEEDS, scenes.seeds.T, strict=True))
    seen = _seen(scenes, size)
    parts = grammar.tokens[grammar.names.index(token)].parts
    for number in range(grammar.arity):
        part = parts[number].appearance if number < len(parts) else None
        columns[f"part{number}_appearance"] = pd.array([part and str(part)] * len(scenes), dtype="string")
        placed = (*part.place, part.pose) if part else (np.nan,) * 3
        columns |= {f"part{number}_{name}": float(value) for name, value in zip(_PLACED, placed, strict=True)}
        columns |= _piece(scenes, f"part{number}", scenes.clutter + number if number < scenes.parts else None)
        own = seen[:, number] if number < scenes.parts else np.full((len(scenes), 5), np.nan)
        columns |= {f"part{number}_{name}": own[:, k] for k, name in enumerate(("area", *_BOX))}
    for number in range(scenes.clutter):
        columns |= _piece(scenes, f"clutter{number}", number)
    columns |= _piece(scenes, "patch", scenes.kinds.shape[1] - 1)
    return pd.DataFrame(columns)


def scenes_of(table: pd.DataFrame) -> Scenes:
    """Reads what exemplars show back from their table; all rows are of one token.

    Raises:
        ValueError: if the rows are of several tokens.
    """
    tokens = sorted(set(table["token"]))
    if len(tokens) != 1:
        raise ValueError(f"Scenes are of one token; the table has {len(tokens)}: {', '.join(tokens)}.")
    names = [name.removesuffix("_shape") for name in map(str, table) if name.endswith("_shape")]
    clutter = [name for name in names if name.startswith("clutter")]
    parts = [name for name in names if name.startswith("part") and isinstance(table[f"{name}_shape"].iloc[0], str)]
    order = [*clutter, *parts, "patch"]
    kinds = [[_kind(shape) for shape in table[f"{name}_shape"]] for name in order]
    pieces = [table[[f"{name}_{column}" for column in _PIECE]].to_numpy(np.float64) for name in order]
    return Scenes(
        table[list(_FRAME)].to_numpy(np.float64),
        table[list(_WHOLE)].to_numpy(np.float64),
        table[list(_SEEDS)].to_numpy(np.int64),
        np.array(kinds, np.int64).T.copy(),
        np.stack(pieces, axis=1),
        len(parts),
    )


def _kind(shape: object) -> int:
    return SHAPES.index(shape) if isinstance(shape, str) else raster.NONE


def _piece(scenes: Scenes, name: str, at: int | None) -> dict[str, object]:
    count = len(scenes)
    kinds = np.full(count, raster.NONE) if at is None else scenes.kinds[:, at]
    values = np.full((count, len(_PIECE)), np.nan) if at is None else scenes.pieces[:, at]
    shapes = pd.array([SHAPES[kind] if kind != raster.NONE else None for kind in kinds], dtype="string")
    columns: dict[str, object] = {f"{name}_shape": shapes}
    return columns | {f"{name}_{column}": values[:, k] for k, column in enumerate(_PIECE)}


def _seen(scenes: Scenes, size: int) -> np.ndarray:
    """Area and box of each part, (exemplar, part, 5)."""
    masks = part_masks(scenes, size)
    half = masks >= 0.5
    left, right = _extent(np.any(half, axis=2, keepdims=True).squeeze(2))
    top, bottom = _extent(np.any(half, axis=3, keepdims=True).squeeze(3))
    return np.stack([masks.sum(axis=(2, 3), dtype=np.float64), left, top, right, bottom], axis=2)


def _extent(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first position along the last axis, and the one after the last; both 0 if there is none."""
    length = seen.shape[-1]
    some = seen.any(axis=-1)
    return np.where(some, seen.argmax(axis=-1), 0), np.where(some, length - seen[..., ::-1].argmax(axis=-1), 0)
