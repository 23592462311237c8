"""Short names for parts and conjunctions of them, from the words that the grammar has for each part."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_LOOK = re.compile(r"^(?P<shape>\S+) at \((?P<x>[-+.e\d]+), (?P<y>[-+.e\d]+)\)(, (?P<pose>[-+.e\d]+)°)?$")


def conjunction_names(conjunctions: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Names conjunctions of parts.

    A part goes by its shape, with its pose or its place only where the shape alone is not enough: "ring", "bar 90°",
    "disk left". A pair goes by how its parts lie to each other: "disk above ring". Of three or more, names are joined
    by "+".

    Args:
        conjunctions: each of one or more parts, in words such as "bar at (0.5, 0.5), 90°". Parts in other words are
            named by these.
    """
    places = {look: _read(look) for look in sorted({look for one in conjunctions for look in one})}
    names = _short(list(places.values()), _NAMINGS)
    # How two parts lie to each other mostly says which they are, so that they need no places of their own.
    bare = _short(list(places.values()), _NAMINGS[:2])
    plain = {one: _pair(places[one[0]], places[one[1]], bare) for one in conjunctions if len(one) == 2}
    times = Counter(plain.values())

    def name(one: tuple[str, ...]) -> str:
        if len(one) != 2:
            return " + ".join(names[look] for look in one)
        return plain[one] if times[plain[one]] == 1 else _pair(places[one[0]], places[one[1]], names)

    return {one: name(one) for one in conjunctions}


@dataclass(frozen=True)
class _Part:
    look: str
    shape: str
    x: float | None = None
    y: float | None = None
    pose: float = 0.0


def _read(look: str) -> _Part:
    found = _LOOK.match(look)
    if found is None:
        return _Part(look, look)
    return _Part(look, found["shape"], float(found["x"]), float(found["y"]), float(found["pose"] or 0))


def _side(at: float | None, before: str, after: str) -> str:
    return "middle" if not at else before if at < 0 else after


def _across(part: _Part) -> str:
    return _side(part.x, "left", "right")


def _down(part: _Part) -> str:
    return _side(part.y, "upper", "lower")


def _posed(part: _Part) -> str:
    return f"{part.shape} {part.pose:g}°"


_NAMINGS: tuple[Callable[[_Part], str], ...] = (
    lambda part: part.shape,
    _posed,
    lambda part: f"{part.shape} {_across(part)}",
    lambda part: f"{part.shape} {_down(part)}",
    lambda part: f"{part.shape} {_down(part)} {_across(part)}",
    lambda part: f"{_posed(part)} {_down(part)} {_across(part)}",
    lambda part: part.look,
)
"""From the shortest on; the parts of one shape go by the first that tells them apart."""


def _short(parts: Sequence[_Part], namings: Sequence[Callable[[_Part], str]]) -> dict[str, str]:
    """Names each part by the first naming that tells parts of its shape apart in as far as any of them does."""
    names: dict[str, str] = {}
    for shape in sorted({part.shape for part in parts}):
        own = [part for part in parts if part.shape == shape]
        told = [len({naming(part) for part in own}) for naming in namings]
        naming = namings[told.index(max(told))]
        names |= {part.look: naming(part) for part in own}
    return names


def _pair(a: _Part, b: _Part, names: dict[str, str]) -> str:
    """Says how the upper part, or the left one at the same height, lies to the other."""
    if a.x is None or a.y is None or b.x is None or b.y is None:
        return f"{names[a.look]} with {names[b.look]}"
    first, second = sorted((a, b), key=lambda part: (part.y or 0, part.x or 0, part.look))
    right, down = (second.x or 0) - (first.x or 0), (second.y or 0) - (first.y or 0)
    lies = " ".join(
        word for word in ("above" if down else "", "right" if right < 0 else "left" if right else "") if word
    )
    return f"{names[first.look]} {lies}{' of' if right else ''} {names[second.look]}"
