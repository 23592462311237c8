"""Neural collapse against the paper's formulas in NumPy, on a simplex and on noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_emerge.measures.collapse import (
    disagreement,
    equiangularity,
    equinorm,
    self_duality,
    variability_ratio,
)
from lightning_emerge.measures.geometry import layer_geometry

LABELS = torch.arange(40) % 4
SIMPLEX = torch.eye(4, dtype=torch.float64) - 0.25


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def planted(noise: float, features: int = 4) -> torch.Tensor:
    turn, _ = torch.linalg.qr(draw(0, features, features))
    return 3 * SIMPLEX[LABELS] @ turn[:4] + noise * draw(1, 40, features) + 1


@pytest.mark.parametrize("features", [6, 100])
def test_they_are_the_papers_formulas(features):
    rows = planted(0.7, features)
    x, y = rows.numpy(), LABELS.numpy()
    means = np.stack([x[y == k].mean(axis=0) for k in range(4)])
    about = means - means.mean(axis=0)
    within = (x - means[y]).T @ (x - means[y]) / 40
    lengths = np.linalg.norm(about, axis=1)
    cosines = (about / lengths[:, None]) @ (about / lengths[:, None]).T
    geometry = layer_geometry(rows)
    ratio = np.trace(within) / np.trace(about.T @ about / 4)
    assert variability_ratio(geometry, LABELS).item() == pytest.approx(ratio)
    assert equinorm(geometry, LABELS).item() == pytest.approx(lengths.std() / lengths.mean())
    expected = np.abs(cosines[np.triu_indices(4, 1)] + 1 / 3).mean()
    assert equiangularity(geometry, LABELS).item() == pytest.approx(expected)


def test_a_simplex_without_noise_has_collapsed():
    rows = planted(0, 9)
    geometry = layer_geometry(rows)
    for measure in (variability_ratio, equinorm, equiangularity):
        assert measure(geometry, LABELS).item() == pytest.approx(0, abs=1e-6)
    weight = torch.stack([rows[k == LABELS].mean(dim=0) for k in range(4)]) - rows.mean(dim=0)
    assert self_duality(rows, weight * 7, LABELS).item() == pytest.approx(0, abs=1e-9)
    assert self_duality(rows, -weight, LABELS).item() == pytest.approx(4)
    logits = rows @ weight.T
    assert disagreement(geometry, LABELS, logits) == 0
    assert disagreement(geometry, LABELS, -logits) == 1


def test_noise_has_not_and_more_noise_is_further_off():
    found = [variability_ratio(layer_geometry(planted(noise, 50)), LABELS).item() for noise in (0.01, 0.1, 1.0)]
    assert found == sorted(found)
    assert found[0] < 1e-3
    assert found[-1] > 0.1
    assert self_duality(draw(2, 40, 500), draw(3, 4, 500), LABELS).item() == pytest.approx(2, abs=0.3)


def test_a_layer_that_answers_all_alike_has_no_means_to_measure_by():
    geometry = layer_geometry(torch.full((40, 6), 0.3))
    for measure in (variability_ratio, equinorm, equiangularity):
        assert measure(geometry, LABELS).isnan()
    assert self_duality(torch.zeros(40, 6), torch.ones(4, 6), LABELS).isnan()


def test_a_turned_scaled_and_shifted_layer_has_collapsed_as_far():
    rows = planted(0.5, 12)
    turn, _ = torch.linalg.qr(draw(4, 12, 12))
    for measure in (variability_ratio, equinorm, equiangularity):
        found = measure(layer_geometry(5 * rows @ turn - 3), LABELS)
        torch.testing.assert_close(found, measure(layer_geometry(rows), LABELS))
