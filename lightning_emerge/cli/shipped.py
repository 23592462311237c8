"""Where the configurations of the package lie, and what they are called."""

from __future__ import annotations

from functools import cache
from pathlib import Path

HOME = Path(__file__).parents[1] / "configs"
"""A link to the folder `configs` in a checkout, and that folder itself where the package is installed."""


@cache
def names() -> tuple[str, ...]:
    """Names of the configurations, as `vgg5` and `probes/dense`."""
    return tuple(sorted(path.relative_to(HOME).with_suffix("").as_posix() for path in HOME.rglob("*.yaml")))
