"""Rivals of parts: other sets of tokens, as large, that no part of the grammar stands for.

Whatever prefers some tokens to others tells the parts of these tokens too. Only what parts are beyond any other set of
as many tokens says that parts count as parts.
"""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Collection
from itertools import combinations
from math import comb

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

RIVALS = 10
"""How many rivals of a size are looked at, at most."""


def rival_sets(owners: Collection[frozenset[int]], tokens: int) -> list[tuple[int, ...]]:
    """Gives sets of tokens that are as large as those that own the parts, and that own none.

    Filters that answer tokens, each as it happens, have detectors of these sets as they have of parts.

    Args:
        owners: of each part, the numbers of the tokens that have it.
        tokens: how many tokens there are.

    Returns:
        Of each size that an owner has, the smaller ones first: all such sets if they are no more than `RIVALS`, or so
        many, always the same, in which tokens stand about equally often.
    """
    found: list[tuple[int, ...]] = []
    for size in sorted({len(own) for own in owners} - {tokens}):
        taken = {tuple(sorted(own)) for own in owners if len(own) == size}
        if comb(tokens, size) - len(taken) <= RIVALS:
            found += [one for one in combinations(range(tokens), size) if one not in taken]
        else:
            found += _even_sets(tokens, size, taken)
    return found


def relabel_sets(
    label: Bool[Tensor, " set"], held: Bool[Tensor, "set token"], samples: int, seed: int
) -> Bool[Tensor, "sample set"]:
    """Samples other sets in place of those that are a part's, of as many tokens, as many each other's complements.

    What tells a set of tokens tells the others too, so that a set and its complement are one dichotomy and are sampled
    together: the six parts of the default tokens are three of ten dichotomies, of which there are 120 choices.

    Args:
        label: which of the sets are a part's.
        held: which tokens each has, no two alike.
        samples: how many are sampled.
        seed: of the samples.

    Returns:
        Which sets are sampled, on the device of `label`.
    """
    random, found = np.random.default_rng(seed), label.new_zeros(samples, len(label))
    for own in _dichotomies(held.tolist()):  # pyright: ignore[reportUnknownArgumentType]
        order = torch.from_numpy(random.random((samples, len(own))).argsort(axis=1))
        where = torch.tensor(own, device=label.device)
        found[:, where] = label[where][order.to(label.device)]
    return found


def _dichotomies(held: list[list[bool]]) -> list[list[list[int]]]:
    """Positions of sets with their complements, by dichotomy, those of the same sizes together."""
    known = {tuple(own): number for number, own in enumerate(held)}
    shapes: dict[tuple[int, ...], list[list[int]]] = {}
    for number, own in enumerate(held):
        other = known.get(tuple(not has for has in own))
        if other is not None and (sum(held[other]), other) < (sum(own), number):
            continue  # it comes with that one
        both = [number] if other is None else [number, other]
        shapes.setdefault(tuple(sum(held[k]) for k in both), []).append(both)
    return list(shapes.values())


def _even_sets(tokens: int, size: int, taken: Collection[tuple[int, ...]]) -> list[tuple[int, ...]]:
    random, times, tries = np.random.default_rng(0), np.zeros(tokens), 0
    found: list[tuple[int, ...]] = []
    while len(found) < RIVALS:
        # The rarest tokens come first; each set that is taken already gives chance more of a say.
        one = tuple(sorted(np.argsort(times + (1 + tries) * random.random(tokens))[:size].tolist()))
        if one in taken or one in found:
            tries += 1
            continue
        found.append(one)
        times[list(one)] += 1
        tries = 0
    return found
