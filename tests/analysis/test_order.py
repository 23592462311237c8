"""The order of emergence times, against counting and against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kendalltau, mannwhitneyu

from lightning_emerge.analysis.order import compare_order

ORDER = ("part", "conjunction", "token")


def test_a_perfect_order_agrees_wholly():
    found = compare_order([{"part": [1, 2, 3], "conjunction": [4, 5, 6], "token": [7, 8, 9]}], ORDER)
    assert (found.agreement, found.pairs) == (1, 27)
    assert found.p_value == pytest.approx(6 * 6 * 6 / np.prod(range(1, 10)), abs=0.001)  # 1 of 1,680 orders


def test_two_groups_are_mann_and_whitneys():
    rng = np.random.default_rng(0)
    early, late = rng.normal(0, 1, 12), rng.normal(0.8, 1, 15)
    found = compare_order([{"part": list(early), "token": list(late)}], ORDER)
    other = mannwhitneyu(late, early, alternative="greater", method="exact")
    assert found.agreement == pytest.approx(other.statistic / (12 * 15))
    assert found.p_value == pytest.approx(other.pvalue, abs=0.01)


def test_several_groups_are_kendalls_pairs():
    rng = np.random.default_rng(1)
    times = {name: list(rng.normal(k, 2, 8)) for k, name in enumerate(ORDER)}
    groups = np.repeat([0, 1, 2], 8)
    # Without ties among times, concordant minus discordant pairs make up the statistic.
    tau = kendalltau(groups, np.concatenate(list(times.values())), variant="c").statistic
    excess = tau * len(groups) ** 2 * (1 - 1 / 3) / 2
    found = compare_order([times], ORDER)
    assert found.agreement == pytest.approx(0.5 + excess / (2 * found.pairs))


def test_never_is_later_than_anything_and_as_late_as_never():
    found = compare_order([{"part": [1e9, None], "token": [None, None]}], ORDER)
    assert found.agreement == (2 + 2 * 0.5) / 4


def test_runs_are_compared_within_themselves():
    # Within each run tokens are first; over both runs together they would look last.
    runs = [{"part": [20, 21, 22], "token": [10, 11, 12]}, {"part": [40, 41, 42], "token": [30, 31, 32]}]
    found = compare_order(runs, ORDER)
    assert (found.agreement, found.pairs) == (0, 18)
    assert found.p_value == 1


def test_an_order_by_chance_is_seldom_significant():
    rng = np.random.default_rng(2)
    found = [
        compare_order([{name: list(rng.random(5)) for name in ORDER} for _ in range(2)], ORDER, k) for k in range(40)
    ]
    assert np.mean([one.p_value < 0.05 for one in found]) <= 0.15
    assert np.mean([one.low <= one.agreement <= one.high for one in found]) >= 0.85


def test_seeds_in_which_the_same_things_are_early_are_no_independent_tests():
    rng, found = np.random.default_rng(3), []
    for _ in range(30):
        own = {name: rng.standard_normal(6) for name in ORDER[:2]}  # when each thing emerges, whatever the seed
        runs = [{name: list(at + 0.3 * rng.standard_normal(6)) for name, at in own.items()} for _ in range(8)]
        found.append(compare_order(runs, ORDER).p_value)
    assert np.mean(np.array(found) <= 0.05) <= 0.1


def test_things_that_were_not_seen_to_emerge_are_counted():
    found = compare_order([{"part": [1, None], "conjunction": [None]}], ORDER)
    assert (found.seen, found.things) == (1, 3)


@pytest.mark.parametrize("runs", [[], [{}], [{"part": [1, 2]}], [{"part": [1]}, {"token": [2]}], [{"other": [1]}]])
def test_nothing_to_compare_is_an_error(runs):
    with pytest.raises(ValueError, match=r"two of part, conjunction, token\.$"):
        compare_order(runs, ORDER)
