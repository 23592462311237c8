"""Sets of tokens that are no part's."""

from __future__ import annotations

import numpy as np

from lightning_emerge.measures.rivals import rival_sets


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
