"""Rivals of parts: other sets of tokens, as large, that no part of the grammar stands for.

Whatever prefers some tokens to others tells the parts of these tokens too. Only what parts are beyond any other set of
as many tokens says that parts count as parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import combinations
from math import comb

import torch
from torch import Tensor

MOST = 10
"""How many sets of each size, at most, that are no part's."""


def rivals_of(parts: Iterable[frozenset[int]], tokens: int) -> tuple[frozenset[int], ...]:
    """Finds sets of tokens, as large as those that have a part, that are no part's.

    Args:
        parts: the tokens that have each part, by number.
        tokens: how many tokens there are.

    Returns:
        For each size, all such sets if they are no more than `MOST`, or so many that are drawn, the same ones whenever
        it is called.
    """
    taken = set(parts)
    found: list[frozenset[int]] = []
    for size in sorted({len(part) for part in taken}):
        if comb(tokens, size) <= MOST + len(taken):
            drawn: Iterable[frozenset[int]] = map(frozenset, combinations(range(tokens), size))
        else:
            drawn = _draw(tokens, size)
        found += _first(drawn, taken)
    return tuple(found)


def _first(drawn: Iterable[frozenset[int]], taken: set[frozenset[int]]) -> Iterator[frozenset[int]]:
    """The first so many that are not taken, each once."""
    seen = set(taken)
    for one in drawn:
        if len(seen) - len(taken) == MOST:
            return
        if one not in seen:
            seen.add(one)
            yield one


def _draw(tokens: int, size: int) -> Iterator[frozenset[int]]:
    generator = torch.Generator().manual_seed(size)
    while True:
        order: Tensor = torch.randperm(tokens, generator=generator)
        yield frozenset(int(number) for number in order[:size])
