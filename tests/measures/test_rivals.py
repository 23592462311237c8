"""Sets of tokens that are no part's."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import torch

from lightning_emerge.measures.rivals import relabel_sets, rival_sets


def test_rivals_are_all_other_sets_of_the_parts_sizes():
    owners = [frozenset({0, 3}), frozenset({1, 2}), frozenset({4}), frozenset({0, 1, 2, 3, 4})]
    found = rival_sets(owners, 5)
    assert found[:4] == [(0,), (1,), (2,), (3,)]
    assert found[4:] == [(0, 1), (0, 2), (0, 4), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)]
    assert rival_sets([frozenset({k}) for k in range(3)], 3) == []


def test_of_many_rivals_ten_are_drawn_always_the_same_with_tokens_even():
    owners = [frozenset({0, 1, 2}), frozenset({2, 3, 4}), *(frozenset({k, k + 1}) for k in range(5))]
    found = rival_sets(owners, 10)
    assert found == rival_sets(owners, 10)
    assert len(found) == len(set(found)) == 20
    assert not {frozenset(one) for one in found} & set(owners)
    for size in (2, 3):
        own = [one for one in found if len(one) == size]
        assert len(own) == 10
        times = np.bincount([token for one in own for token in one], minlength=10)
        assert times.max() - times.min() <= 2
    # Those that are left are few, and none of them is the evenest.
    assert len(rival_sets([frozenset({0, k}) for k in range(1, 6)], 6)) == 10


SETS = [*combinations(range(5), 2), *combinations(range(5), 3)]
HELD = torch.tensor([[token in own for token in range(5)] for own in SETS])
OWN = ((0, 3), (0, 1), (0, 2), (1, 2, 4), (2, 3, 4), (1, 3, 4))
PARTS = torch.isin(torch.arange(20), torch.tensor([SETS.index(own) for own in OWN]))


def test_a_set_is_drawn_with_its_complement():
    drawn = relabel_sets(PARTS, HELD, 3000, seed=0)
    complement = [SETS.index(tuple(sorted(set(range(5)) - set(own)))) for own in SETS]
    assert (drawn == drawn[:, complement]).all()
    assert (drawn.sum(dim=1) == 6).all()
    choices, times = drawn.unique(dim=0, return_counts=True)
    assert len(choices) == 120  # three of ten dichotomies
    assert times.min() > 5  # of 25
    assert (drawn == PARTS).all(dim=1).any()


def test_what_a_set_and_its_complement_share_is_no_evidence_twice():
    rng, draws = np.random.default_rng(1), relabel_sets(PARTS, HELD, 999, seed=0).numpy()
    complement = [SETS.index(tuple(sorted(set(range(5)) - set(own)))) for own in SETS]
    found = []
    for _ in range(400):
        values = rng.standard_normal(20)
        values = values + values[complement]  # as a read-out of the one is one of the other
        found.append((1 + (draws @ values >= values[PARTS.numpy()].sum() - 1e-12).sum()) / 1000)
    assert 0.02 <= np.mean(np.array(found) <= 0.05) <= 0.07
    assert min(found) >= 1 / 150


def test_sets_whose_complement_is_none_of_them_are_drawn_alone():
    held = torch.tensor([[token in own for token in range(5)] for own in combinations(range(5), 2)])
    drawn = relabel_sets(torch.arange(10) < 3, held, 2000, seed=0)
    assert (drawn.sum(dim=1) == 3).all()
    np.testing.assert_allclose(drawn.double().mean(dim=0), 0.3, atol=0.05)
