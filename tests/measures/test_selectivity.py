"""Class selectivity on responses whose index is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_emerge.measures.selectivity import class_selectivity, selective_share

LABELS = torch.tensor([0, 0, 1, 1, 2, 2])


def of_tokens(*filters: tuple[float, float, float]) -> torch.Tensor:
    """Filters with these mean responses to the three tokens, which vary about them."""
    means = torch.tensor(filters).T
    return means[LABELS] * torch.tensor([0.5, 1.5] * 3)[:, None]


def test_the_index_is_that_of_the_mean_responses():
    pooled = of_tokens((0, 0, 1), (2, 2, 2), (1, 4, 2), (3, 1, 1), (0, 0, 0), (-1, 2, 3))
    index, preferred = class_selectivity(pooled, LABELS)
    expected = [1, 0, (4 - 1.5) / (4 + 1.5), 0.5, np.nan, np.nan]
    np.testing.assert_allclose(index, expected, rtol=1e-6)
    assert preferred[[0, 2, 3]].tolist() == [2, 1, 0]
    # Two of six filters reach a half: one prefers the third token and one the first.
    np.testing.assert_allclose(selective_share(index, preferred, 3), [1 / 6, 0, 1 / 6])


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_scale_of_a_filter_does_not_count(scale):
    pooled = torch.rand(6, 9, generator=torch.Generator().manual_seed(0))
    index, preferred = class_selectivity(pooled, LABELS)
    scaled, same = class_selectivity(pooled * scale, LABELS)
    torch.testing.assert_close(scaled, index, rtol=1e-5, atol=1e-6)
    assert torch.equal(preferred, same)
    assert ((index >= 0) & (index <= 1)).all()


def test_a_token_without_stimuli_does_not_count():
    pooled = of_tokens((1, 4, 2), (3, 1, 1))
    index, preferred = class_selectivity(pooled, LABELS + (LABELS > 0).long())
    expected, _ = class_selectivity(pooled, LABELS)
    torch.testing.assert_close(index, expected)
    assert preferred.tolist() == [2, 0]
