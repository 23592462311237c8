"""Sets of tokens that are no part's."""

from __future__ import annotations

from itertools import combinations

from lightning_emerge.measures.rivals import MOST, rivals_of

PARTS = [frozenset(part) for part in ((0, 1), (0, 2), (0, 3), (2, 3, 4), (1, 3, 4), (1, 2, 4))]


def test_of_few_tokens_all_sets_of_the_sizes_are_rivals_or_parts():
    found = rivals_of(PARTS, 5)
    sets = {frozenset(one) for size in (2, 3) for one in combinations(range(5), size)}
    assert set(found) == sets - set(PARTS)
    assert len(found) == len(set(found)) == 14


def test_of_many_tokens_as_many_of_each_size_are_drawn_and_always_the_same():
    parts = [frozenset(range(k, k + 3)) for k in range(30)]
    found = rivals_of(parts, 100)
    assert len(set(found)) == MOST
    assert not set(found) & set(parts)
    assert {len(one) for one in found} == {3}
    assert rivals_of(parts, 100) == found
    assert len(set().union(*found)) > 15


def test_no_parts_have_no_rivals_and_all_taken_leave_none():
    assert rivals_of([], 5) == ()
    assert rivals_of([frozenset(one) for one in combinations(range(4), 2)], 4) == ()
