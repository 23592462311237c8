"""Short names for parts and conjunctions of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from lightning_emerge.measures.latents import Part
from lightning_emerge.records.names import join_parts


def conjunction_names(conjunctions: Sequence[tuple[Part, ...]]) -> dict[tuple[Part, ...], str]:
    """Names conjunctions of parts.

    A part goes by its shape, with its pose or its place only where the shape alone is not enough: "ring", "bar 90°",
    "disk left". A pair goes by how its parts lie to each other: "disk above ring". Of three or more, names are joined
    by "+".

    Args:
        conjunctions: each of one or more parts. Parts without a place are named by their appearance.
    """
    parts = sorted({part for one in conjunctions for part in one}, key=lambda part: part.appearance)
    names = _short(parts, _NAMINGS)
    # How two parts lie to each other mostly says which they are, so that they need no places of their own.
    bare = _short(parts, _NAMINGS[:2])
    plain = {one: _pair(one[0], one[1], bare) for one in conjunctions if len(one) == 2}
    times = Counter(plain.values())

    def name(one: tuple[Part, ...]) -> str:
        if len(one) != 2:
            return join_parts(names[part] for part in one)
        return plain[one] if times[plain[one]] == 1 else _pair(one[0], one[1], names)

    return {one: name(one) for one in conjunctions}


def _side(at: float | None, before: str, after: str) -> str:
    return "middle" if not at else before if at < 0 else after


def _across(part: Part) -> str:
    return _side(part.x, "left", "right")


def _down(part: Part) -> str:
    return _side(part.y, "upper", "lower")


def _posed(part: Part) -> str:
    return f"{part.shape} {part.pose:g}°"


_NAMINGS: tuple[Callable[[Part], str], ...] = (
    lambda part: part.shape,
    _posed,
    lambda part: f"{part.shape} {_across(part)}",
    lambda part: f"{part.shape} {_down(part)}",
    lambda part: f"{part.shape} {_down(part)} {_across(part)}",
    lambda part: f"{_posed(part)} {_down(part)} {_across(part)}",
    lambda part: part.appearance,
)
"""From the shortest on; the parts of one shape go by the first that tells them apart."""


def _short(parts: Sequence[Part], namings: Sequence[Callable[[Part], str]]) -> dict[Part, str]:
    """Names each part by the first naming that tells parts of its shape apart in as far as any of them does."""
    names: dict[Part, str] = {}
    for shape in sorted({part.shape for part in parts}):
        own = [part for part in parts if part.shape == shape]
        told = [len({naming(part) for part in own}) for naming in namings]
        naming = namings[told.index(max(told))]
        names |= {part: naming(part) for part in own}
    return names


def _pair(a: Part, b: Part, names: dict[Part, str]) -> str:
    """Says how the upper part, or the left one at the same height, lies to the other."""
    if a.x is None or a.y is None or b.x is None or b.y is None:
        return f"{names[a]} with {names[b]}"
    first, second = sorted((a, b), key=lambda part: (part.y or 0, part.x or 0, part.appearance))
    right, down = (second.x or 0) - (first.x or 0), (second.y or 0) - (first.y or 0)
    lies = " ".join(
        word for word in ("above" if down else "", "right" if right < 0 else "left" if right else "") if word
    )
    return f"{names[first]} {lies}{' of' if right else ''} {names[second]}"
