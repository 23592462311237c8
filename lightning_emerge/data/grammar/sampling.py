"""Sampling the tokens of a grammar: choices between parts at places, and tokens as combinations of choices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import cos, pi, prod, sin

import numpy as np

from lightning_emerge.data.grammar.shapes import SHAPES

Placed = tuple[str, tuple[float, float], float]
Sampled = Mapping[str, Sequence[Placed]]

MOST_TOKENS, MOST_PARTS = 1000, 7
_ATTEMPTS = 400
_TURNS: Mapping[str, tuple[float, ...]] = {
    "bar": (0.0, 90.0, 45.0, 135.0),
    "cross": (0.0, 45.0),
    "square": (0.0, 45.0),
    "triangle": (0.0, 60.0),
    "wedge": (0.0, 180.0, 90.0, 270.0),
    "arc": (0.0, 180.0, 90.0, 270.0),
}
"""Poses that can be told apart; shapes that are not here have one."""


def sample_tokens(
    tokens: int, parts: int, arity: int, shared: int, seed: int, passes: Callable[[Sampled], bool]
) -> Sampled:
    """Samples tokens until they pass.

    Two places swap their shapes; each other place has a choice of shapes and poses. A token is one combination of these
    choices.

    Args:
        tokens: see `lightning_emerge.data.grammar.tokens.Grammar.sample`, as for those below.
        parts: how many shapes.
        arity: parts of a token.
        shared: tokens that each part stands in, at least.
        seed: of the sample.
        passes: whether a grammar will do.

    Raises:
        ValueError: if an argument is out of its range, or nothing passes.
    """
    ranges = {  # the number of tokens first: others depend on it
        "tokens": (tokens, 4, MOST_TOKENS),
        "parts": (parts, 2, len(SHAPES)),
        "arity": (arity, 3, MOST_PARTS),
        "shared": (shared, 2, tokens // 2),
        "seed": (seed, 0, 2**63),
    }
    for name, (value, lowest, highest) in ranges.items():
        if not lowest <= value <= highest:
            raise ValueError(f"sample.{name} lies in {lowest} to {highest}; got {value}.")
    random = np.random.default_rng(seed)
    names = _names(tokens, random)
    for _ in range(_ATTEMPTS):
        plan = _plan(tokens, parts, arity, tokens // shared, random)
        if plan and (combinations := _choose(plan.sizes, tokens, shared, random)):
            found = dict(zip(names, map(plan.token, combinations), strict=True))
            if passes(found):
                return found
    raise ValueError(
        f"No grammar of {tokens} tokens of {arity} parts, of {parts} shapes, with each part in {shared} tokens, "
        f"was found in {_ATTEMPTS} attempts. More parts a token leave more to choose from; so does a smaller `shared`."
    )


@dataclass(frozen=True)
class _Plan:
    """The choices: the two shapes that swap, and for each other place its shapes in their poses."""

    swap: tuple[str, str]
    levels: tuple[tuple[tuple[str, float], ...], ...]
    places: tuple[tuple[float, float], ...]  # the two that swap first

    @property
    def sizes(self) -> tuple[int, ...]:
        return (2, *map(len, self.levels))

    def token(self, combination: Sequence[int]) -> tuple[Placed, ...]:
        pair = self.swap if combination[0] == 0 else self.swap[::-1]
        chosen = [(shape, 0.0) for shape in pair]
        chosen += [own[k] for own, k in zip(self.levels, combination[1:], strict=True)]
        parts = [(shape, place, pose) for place, (shape, pose) in zip(self.places, chosen, strict=True)]
        return tuple(sorted(parts, key=lambda part: (part[1][1], part[1][0])))


def _plan(tokens: int, parts: int, arity: int, most: int, random: np.random.Generator) -> _Plan | None:
    """Deals shapes to places, and adds poses until there are combinations enough; None if there are too few.

    A place has at most `most` choices, so that each can stand in as many tokens as it has to.
    """
    shapes = [str(shape) for shape in random.permutation(SHAPES)[:parts]]
    levels: list[list[tuple[str, float]]] = [[] for _ in range(arity - 2)]
    for number, shape in enumerate(shapes[2:]):
        levels[number % len(levels)].append((shape, 0.0))
    for own in levels:
        own.extend([] if own else [(str(random.choice(shapes)), 0.0)])
    more = [(own, (shape, turn)) for own in levels for shape, _ in list(own) for turn in _TURNS.get(shape, (0.0,))[1:]]
    wanted = tokens * random.uniform(1.0, 2.0)
    for k in random.permutation(len(more)):
        if 2 * prod(map(len, levels)) >= wanted:
            break
        if len(more[k][0]) < most:
            more[k][0].append(more[k][1])
    if 2 * prod(map(len, levels)) < tokens or max(map(len, levels)) > most:
        return None
    places = random.permutation(_layout(arity))
    return _Plan((shapes[0], shapes[1]), tuple(map(tuple, levels)), tuple((float(x), float(y)) for x, y in places))


def _choose(
    sizes: Sequence[int], tokens: int, shared: int, random: np.random.Generator
) -> list[tuple[int, ...]] | None:
    """Samples different combinations; None if a choice that there is stands in fewer than `shared`."""
    numbers = random.choice(prod(sizes), tokens, replace=False)
    columns = np.unravel_index(numbers, sizes)
    counts = [np.bincount(column, minlength=size) for column, size in zip(columns, sizes, strict=True)]
    if min(count.min() for count in counts) < shared:
        return None
    return [tuple(map(int, row)) for row in zip(*columns, strict=True)]


def _layout(arity: int) -> list[tuple[float, float]]:
    """Places that are far enough apart for parts not to touch."""
    if arity == 3:
        return [(-0.5, -0.4), (0.5, -0.4), (0.0, 0.45)]
    if arity < 6:
        away = 0.5 if arity == 4 else 0.62
        return [(x * away, y * away) for y in (-1, 1) for x in (-1, 1)] + [(0.0, 0.0)] * (arity - 4)
    around = [(0.84 * sin(k * pi / 3), -0.84 * cos(k * pi / 3)) for k in range(6)]
    return [(round(x, 3), round(y, 3)) for x, y in around] + [(0.0, 0.0)] * (arity - 6)


def _names(count: int, random: np.random.Generator) -> list[str]:
    """Words that mean nothing."""
    words = ["".join(letters) for letters in product("bdfgklmnprstvz", "aeiou", "bdfgklmnprstvz", "aeiou")]
    return [str(word) for word in random.permutation(words)[:count]]
