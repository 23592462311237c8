"""EmbeddingProbe on responses whose components are known."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.distance import pdist, squareform

import lightning_emerge as le


def test_it_records_distances_and_shares_of_variance_and_draws_the_components():
    rows = torch.randn(12, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    bank = le.StimulusBank(torch.zeros(12, 3, 4, 4), torch.arange(12) % 3, tuple("abcdefghijkl"), ("p", "q", "r"))
    probe = le.EmbeddingProbe()
    layers = {"conv": rows, "dead": torch.zeros(12, 5)}
    distances, shares = probe.measure(le.Capture(3, tuple(layers), bank, activations=layers))
    expected = squareform(pdist(rows.flatten(1).numpy())) / 6
    np.testing.assert_allclose(distances.values[0], expected, atol=1e-6)
    values = np.linalg.eigvalsh(np.cov(rows.flatten(1).numpy().T))[::-1]
    np.testing.assert_allclose(shares.values[0], values[:10] / values.sum(), atol=1e-5)
    assert np.isnan(shares.values[1]).all()
    figure = probe.draw(distances)
    assert figure is not None
    share = values[:2].sum() / values.sum()
    assert figure.axes[0].get_title() == f"conv: {share:.0%} of the variance"
    assert [len(points.get_offsets()) for points in figure.axes[0].collections] == [4, 4, 4]
    assert probe.draw(shares) is None
