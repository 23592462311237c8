"""Average linkage against its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_emerge.measures.tree import average_linkage


@pytest.mark.parametrize("tokens", [2, 3, 5, 12])
@pytest.mark.parametrize("lowest", [0.0, -0.5])  # cross-validated distances may fall below zero
def test_the_two_nearest_groups_are_joined_by_the_mean_distance_of_their_tokens(tokens, lowest):
    values = np.random.default_rng(tokens).uniform(lowest, 1, (tokens, tokens))
    rdm = np.triu(values, 1) + np.triu(values, 1).T
    members, expected = {number: [number] for number in range(tokens)}, []
    for new in range(tokens, 2 * tokens - 1):
        pairs = [(rdm[np.ix_(members[a], members[b])].mean(), a, b) for a in members for b in members if a < b]
        near, one, other = min(pairs)
        members[new] = members.pop(one) + members.pop(other)
        expected.append([one, other, near, len(members[new])])
    np.testing.assert_allclose(average_linkage(torch.from_numpy(rdm)), expected)


def test_without_all_distances_there_is_no_tree():
    rdm = torch.zeros(4, 4)
    rdm[1, 2] = torch.nan
    assert average_linkage(rdm).isnan().all()


def test_a_single_token_has_no_merge():
    assert average_linkage(torch.zeros(1, 1)).shape == (0, 4)
