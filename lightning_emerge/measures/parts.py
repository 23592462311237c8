"""Parts, pairs and conjunctions of them: which a bank can tell apart, and how well filters and layers tell them."""

# torch.unique has no types.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from operator import and_

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lightning_emerge.measures.auc import auc
from lightning_emerge.measures.geometry import Geometry
from lightning_emerge.measures.latents import appearances, part_columns, parts_held
from lightning_emerge.measures.linear import wide
from lightning_emerge.measures.part_names import conjunction_names
from lightning_emerge.measures.readout import held_out_scores, ridge_scores
from lightning_emerge.records import StimulusBank
from lightning_emerge.records.names import join_tokens

MOST = 100
"""How many features are looked at, at most: the smaller ones first, and of those the ones that most tokens have."""

PAIRS = 4
"""How many pairs of tokens are held out for each feature, at most, evenly chosen."""

_KINDS = ("part", "pair", "conjunction")


@dataclass(frozen=True)
class Features:
    """What the stimuli of a bank have or lack, made of the parts of their tokens.

    Features that the same stimuli have cannot be told apart, and are one: it goes by its smallest conjunction.

    Attributes:
        names: of each feature. A conjunction that one token alone has is followed by that token.
        kinds: "part", "pair" or "conjunction" (of three or more), by the smallest that it can be.
        also: further names of the feature, of as many parts; "" if there are none.
        tokens: the tokens that have it, named by `join_tokens`.
        appearances: of each feature, all the parts that it could be told by, in words.
        held: which stimuli have it; some do and some do not.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    also: tuple[str, ...]
    tokens: tuple[str, ...]
    appearances: tuple[frozenset[str], ...]
    held: Bool[Tensor, "stimulus feature"]

    def of_kind(self, kind: str) -> Features:
        """Those of one kind alone."""
        at = [number for number, own in enumerate(self.kinds) if own == kind]
        fields = (self.names, self.kinds, self.also, self.tokens)
        names, kinds, also, tokens = (tuple(field[k] for k in at) for field in fields)
        return Features(names, kinds, also, tokens, tuple(self.appearances[k] for k in at), self.held[:, at])

    def notes(self) -> dict[str, list[str] | list[int]]:
        """What an axis of features says of each: kind, further names, tokens, how many stimuli have it and lack it."""
        ones = self.held.sum(dim=0)
        return {
            "kind": list(self.kinds),
            "also": list(self.also),
            "tokens": list(self.tokens),
            "stimuli": [int(count) for count in ones],
            "others": [int(count) for count in len(self.held) - ones],
        }


def features_of(bank: StimulusBank) -> Features:
    """Finds the parts, pairs and larger conjunctions that some stimuli of a bank have and some lack.

    A part is one of the grammar, at its place and in its pose. A pair is any two parts that stand together in a token,
    named by how they lie to each other ("disk above ring"); a conjunction is any three or more.

    Args:
        bank: with latents of rendered tokens.

    Raises:
        ValueError: if the bank has no such latents, or all its stimuli have the same parts.
    """
    table = bank.latents
    if table is None or not part_columns(table):
        raise ValueError(
            "Parts are read off a bank's latents, whose columns part0_appearance, part1_appearance, ... say them; this "
            "bank has none. Use a TokenDataModule, or give StimulusBank a table with these columns."
        )
    parts, stands = parts_held(table)
    patterns, pattern = torch.unique(stands, dim=0, return_inverse=True)
    found = _smallest([[bool(has) for has in row] for row in patterns.tolist()])
    if not found:
        raise ValueError("Parts are told apart by what tokens lack; all stimuli of this bank have the same parts.")
    columns = torch.tensor([[bool(column >> row & 1) for column in found] for row in range(len(patterns))])
    held = columns[pattern]
    called = conjunction_names([tuple(parts[part] for part in one) for same in found.values() for one in same])
    names: list[str] = []
    also: list[str] = []
    own_tokens = [sorted(owners(column, bank.labels)) for column in held.T]
    named = [join_tokens(bank.tokens[label] for label in own) for own in own_tokens]
    for same, own, labels in zip(found.values(), named, own_tokens, strict=True):
        first, *others = [called[tuple(parts[part] for part in one)] for one in same]
        if len(same[0]) == 1:
            first, others = " / ".join([first, *others]), []
        names.append(f"{first} ({own})" if len(same[0]) > 1 and len(labels) == 1 else first)
        also.append("; ".join(others))
    kinds = [_KINDS[min(len(same[0]), 3) - 1] for same in found.values()]
    parted = [appearances([parts[part] for one in same for part in one]) for same in found.values()]
    return Features(tuple(names), tuple(kinds), tuple(also), tuple(named), tuple(parted), held)


def filter_scores(activations: Float[Tensor, "stimulus filter ..."]) -> Float[Tensor, "stimulus filter"]:
    """Gives each filter's largest output over places: what it says as a detector that may stand anywhere."""
    return activations.flatten(2).amax(dim=2) if activations.dim() > 2 else activations


def best_filter_auc(
    scores: Float[Tensor, "stimulus filter"],
    held: Bool[Tensor, "stimulus feature"],
    folds: Int[Tensor, " stimulus"],
) -> Float[Tensor, " feature"]:
    """Computes how well the best single filter tells each feature, from stimuli that it was not chosen by.

    In each fold the filter with the largest AUC over the others is taken. The best of many filters over all stimuli is
    well above 0.5 for noise alone; this is not.

    Args:
        scores: see `filter_scores`.
        held: which stimuli have which feature.
        folds: fold of each stimulus, two or more (see `deal_folds`).

    Returns:
        Mean AUC over folds, 0 to 1, 0.5 by chance; NaN if a feature has no stimuli with or without it in any fold.
    """
    found: list[Tensor] = []
    for fold in range(int(folds.max()) + 1):
        inside = folds == fold
        best = best_filters(auc(scores[~inside], held[~inside]))
        found.append(auc(scores[inside], held[inside]).gather(0, best[None])[0])
    return torch.stack(found).nanmean(dim=0)


def best_filters(areas: Float[Tensor, "filter feature"]) -> Int[Tensor, " feature"]:
    """Gives the filter with the largest AUC for each feature; the lower number on a tie."""
    return areas.nan_to_num(-1).argmax(dim=0)


def linear_auc(
    geometry: Geometry, held: Bool[Tensor, "stimulus feature"], folds: Int[Tensor, " stimulus"]
) -> Float[Tensor, " feature"]:
    """Computes how well a linear read-out of a whole layer tells each feature, in stimuli that it was not fitted to.

    Ridge regression with an intercept, as in `ridge_accuracy`, of 1 for stimuli that have the feature and 0 for others.

    Returns:
        Mean AUC over folds, 0 to 1, 0.5 by chance; NaN if the layer answers all stimuli alike.
    """
    scores = held_out_scores(geometry.gram, wide(held), folds)
    insides = [folds == fold for fold in range(int(folds.max()) + 1)]
    found = [auc(scores[inside], held[inside]).diagonal() for inside in insides]
    return _or_nan(torch.stack(found).nanmean(dim=0), geometry)


def transfer_auc(
    geometry: Geometry,
    held: Bool[Tensor, "stimulus feature"],
    labels: Int[Tensor, " stimulus"],
    parts: Bool[Tensor, "stimulus part"],
) -> Float[Tensor, " feature"]:
    """Computes how well a read-out of each feature, fitted to some tokens, tells it in tokens that it never saw.

    Two tokens are held out, one that has the feature and one that lacks it; a ridge regression is fitted to all others
    and has to tell the two apart. This is the cross-condition generalisation of Bernardi et al. (2020), *The geometry
    of abstraction in the hippocampus and prefrontal cortex*, Cell 183. The two are as like as such tokens can be in
    their other parts, for with few tokens a part often goes with another in those that are left, and a read-out cannot
    know which of both is meant. A layer that knows tokens but no parts tells all features of tokens that it saw, and is
    at chance here.

    Args:
        geometry: of the layer.
        held: which stimuli have which feature.
        labels: token of each stimulus.
        parts: which stimuli have which part.

    Returns:
        Mean AUC over the pairs of tokens that differ least (`PAIRS` of them at most), 0 to 1. By chance it is 0.5 on
        average over features and networks; with one pair it can lie anywhere. NaN for a feature that no token but the
        one held out has, or lacks, and if the layer answers all stimuli alike.
    """
    gram, wanted = geometry.gram, wide(held)
    found = [[gram.new_tensor(torch.nan)] for _ in range(held.shape[1])]
    for (a, b), features in _least_pairs(held, labels, parts).items():
        inside = (labels == a) | (labels == b)
        scores = ridge_scores(gram, wanted[:, features], ~inside)
        for feature, area in zip(features, auc(scores[inside], held[inside][:, features]).diagonal(), strict=True):
            found[feature].append(area)
    return _or_nan(torch.stack([torch.stack(own).nanmean() for own in found]), geometry)


def _least_pairs(held: Tensor, labels: Tensor, parts: Tensor) -> dict[tuple[int, int], list[int]]:
    """Finds which features are tested with which pairs of tokens held out."""
    tokens = [int(label) for label in labels.unique()]
    kinds = torch.stack([parts[labels == token][0] for token in tokens])
    apart = (kinds[:, None] != kinds[None, :]).sum(dim=2).tolist()
    chosen: dict[tuple[int, int], list[int]] = {}
    for feature in range(held.shape[1]):
        shares = [float(wide(held[labels == token, feature]).mean()) for token in tokens]
        have = [k for k, share in enumerate(shares) if share == 1]
        lack = [k for k, share in enumerate(shares) if share == 0]
        if len(have) < 2 or len(lack) < 2:
            continue
        least = min(apart[a][b] for a in have for b in lack)
        pairs = [(tokens[a], tokens[b]) for a in have for b in lack if apart[a][b] == least]
        count = min(len(pairs), PAIRS)
        for k in range(count):
            chosen.setdefault(pairs[k * len(pairs) // count], []).append(feature)
    return chosen


def _or_nan(values: Tensor, geometry: Geometry) -> Tensor:
    return torch.where(geometry.squared.max() > 0, values, torch.nan)


def _smallest(patterns: Sequence[Sequence[bool]]) -> dict[int, list[tuple[int, ...]]]:
    """Finds the smallest conjunctions for each set of patterns that any conjunction picks, neither all nor none.

    Sets of patterns are numbers whose bits say which.
    """
    parts = [sum(row[part] << number for number, row in enumerate(patterns)) for part in range(len(patterns[0]))]
    everything = (1 << len(patterns)) - 1
    found: dict[int, list[tuple[int, ...]]] = {}
    own = [[part for part, has in enumerate(row) if has] for row in patterns]
    for size in range(1, max(map(len, own)) + 1):
        if len(found) >= MOST:  # each token has 2 ** parts conjunctions, of which no larger one would be kept
            break
        for one in sorted({one for held in own for one in combinations(held, size)}):
            column = reduce(and_, (parts[part] for part in one), everything)
            known = found.get(column)
            if column != everything and (known is None or len(known[0]) == size):
                found.setdefault(column, []).append(one)
    order = sorted(found, key=lambda column: (len(found[column][0]), -column.bit_count()))
    kept = set(order[:MOST])
    return {column: same for column, same in found.items() if column in kept}


def owners(column: Bool[Tensor, " stimulus"], labels: Int[Tensor, " stimulus"]) -> frozenset[int]:
    """Finds the labels of the tokens that have a feature.

    Args:
        column: which stimuli have it.
        labels: of all stimuli.
    """
    return frozenset(map(int, labels.cpu()[column.cpu()].unique()))
