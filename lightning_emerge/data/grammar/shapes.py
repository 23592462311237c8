"""The shapes that parts are made of, and the turns after which they look the same.

Their signed distances are in `lightning_emerge.data.rendering.raster`.
"""

from __future__ import annotations

from collections.abc import Mapping

ROUND = ("disk", "ring", "wedge", "arc")
STRAIGHT = ("bar", "cross", "square", "triangle", "hexagon")

SHAPES = (*ROUND, *STRAIGHT)
"""Names of the shapes; a shape's position is its number in the tables that are sampled from."""

SYMMETRY: Mapping[str, float] = {
    "disk": 0.0,
    "ring": 0.0,
    "wedge": 360.0,
    "arc": 360.0,
    "bar": 180.0,
    "cross": 90.0,
    "square": 90.0,
    "triangle": 120.0,
    "hexagon": 60.0,
}
"""The smallest turn, in degrees, after which a shape looks the same; 0 if any does."""


def visible_pose(shape: str, pose: float) -> float:
    """The smallest turn, from 0 degrees, that looks like this one."""
    turn = SYMMETRY[shape]
    # Rounded, so that 240.3 and 60.3 degrees, whose remainders differ in the last bit, are one pose.
    return round(pose % turn, 6) % turn if turn else 0.0
