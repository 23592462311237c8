"""Planes of points against scikit-learn and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial import procrustes
from sklearn.decomposition import PCA

from lightning_emerge.measures.embedding import laid_over, principal_scores
from lightning_emerge.measures.geometry import layer_geometry


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


@pytest.mark.parametrize("features", [6, 60])
def test_components_are_scikit_learns_but_for_their_sign(features):
    rows = draw(0, 30, features) * torch.linspace(1, 3, features)
    scores, shares = principal_scores(layer_geometry(rows).squared, 4)
    fitted = PCA(4).fit(rows.numpy())
    np.testing.assert_allclose(scores.abs(), np.abs(fitted.transform(rows.numpy())), atol=1e-8)
    np.testing.assert_allclose(shares, fitted.explained_variance_ratio_)
    assert (scores.amax(dim=0) >= -scores.amin(dim=0)).all()


def test_a_layer_that_answers_all_alike_has_no_components():
    scores, shares = principal_scores(torch.zeros(5, 5), 2)
    assert scores.isnan().all()
    assert shares.isnan().all()
    assert principal_scores(torch.full((5, 5), torch.nan), 2)[0].isnan().all()


def test_a_turned_and_mirrored_picture_is_laid_over_the_first():
    points = draw(1, 20, 2)
    turned = points @ torch.tensor([[0.6, 0.8], [0.8, -0.6]], dtype=torch.float64) + 5
    torch.testing.assert_close(laid_over(turned, points), points)


def test_what_is_laid_over_keeps_its_distances_and_comes_as_near_as_scipys():
    points, target = draw(2, 20, 2), draw(3, 20, 2) + 2
    found = laid_over(points, target)
    torch.testing.assert_close(torch.cdist(found, found), torch.cdist(points, points))
    # SciPy scales to length 1 as well; the angle of the best fit is the same.
    one, other = (rows - rows.mean(dim=0) for rows in (found, target))
    cosine = float((one * other).sum() / one.norm() / other.norm())
    _, _, left = procrustes(target.numpy(), points.numpy())
    assert 1 - cosine**2 == pytest.approx(left)


def test_points_on_one_spot_are_laid_over_the_middle():
    target = draw(4, 5, 2)
    torch.testing.assert_close(laid_over(torch.ones(5, 2).double(), target), target.mean(dim=0).expand(5, 2))
