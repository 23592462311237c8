"""The geometry of a layer against NumPy on whole features, and what a memo may not do."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist, squareform
from scipy.stats import zscore

from lightning_emerge.measures import geometry as module
from lightning_emerge.measures.geometry import (
    activation_geometry,
    centred_gram,
    deal_folds,
    layer_geometry,
    token_weights,
)

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}


def draw(seed: int, *shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape)).to(dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("stimuli", "features"), [(1, 5), (2, 1), (2, 30), (7, 3), (150, 40)])
def test_distances_and_products_are_numpys(stimuli, features, dtype):
    rows = draw(1, stimuli, features, dtype=dtype)
    found, wide = layer_geometry(rows), rows.double().numpy()
    np.testing.assert_allclose(found.squared, squareform(pdist(wide, "sqeuclidean")), atol=features * TOLERANCE[dtype])
    about = wide - wide.mean(axis=0)
    np.testing.assert_allclose(found.gram, about @ about.T, atol=features * TOLERANCE[dtype])
    np.testing.assert_allclose(found.means, wide.mean(axis=1), atol=TOLERANCE[dtype])


def test_responses_that_are_nearly_alike_keep_their_distances_in_float32():
    # An untrained deep layer: all stimuli share a large pattern and differ by a thousandth of it.
    rows = (draw(2, 1, 3000) + 1e-3 * draw(3, 40, 3000)).float()
    exact = squareform(pdist(rows.double().numpy(), "correlation"))
    upper = np.triu_indices(40, 1)
    np.testing.assert_allclose(layer_geometry(rows).correlation[upper], exact[upper], rtol=1e-4)


def test_a_layer_wider_than_one_piece_of_memory_is_the_same(monkeypatch):
    rows = draw(4, 9, 101)
    whole = layer_geometry(rows)
    monkeypatch.setattr(module, "_ROOM", 9 * 10)
    for name in ("patterns", "lengths", "means"):
        torch.testing.assert_close(getattr(layer_geometry(rows), name), getattr(whole, name))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_stimulus_that_is_not_finite_leaves_the_others_alone(bad):
    rows = draw(5, 6, 20)
    expected = layer_geometry(rows[1:])
    rows[0, 3] = bad
    found = layer_geometry(rows)
    for name in ("correlation", "squared"):
        torch.testing.assert_close(getattr(found, name)[1:, 1:], getattr(expected, name), rtol=0, atol=1e-12)
        assert getattr(found, name)[0, 1:].isnan().all()


def test_means_of_tokens_have_the_geometry_of_their_mean_rows():
    rows, labels = draw(6, 20, 30) + 3, torch.arange(20) % 3
    weights = token_weights(labels, 3)
    found, expected = layer_geometry(rows).average(weights), layer_geometry(weights @ rows)
    for name in ("patterns", "lengths", "means", "correlation", "gram"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=1e-9)


def test_a_token_without_stimuli_has_no_place():
    found = layer_geometry(draw(7, 6, 10)).average(token_weights(torch.tensor([0, 0, 2, 2, 2, 0]), 3))
    assert found.means.isnan().tolist() == [False, True, False]
    assert found.correlation[0, 2].isfinite()


def test_the_diagonal_of_a_centred_gram_is_the_squared_distance_to_the_mean():
    points = draw(8, 2, 6, 3)
    squared = torch.cdist(points, points) ** 2
    to_mean = (points - points.mean(dim=1, keepdim=True)).square().sum(dim=2)
    torch.testing.assert_close(centred_gram(squared).diagonal(dim1=1, dim2=2), to_mean)


def test_folds_hold_as_many_of_each_token_as_can_be_and_those_that_follow_each_other():
    labels = torch.tensor([0, 1, 0, 0, 1, 0, 1, 0, 2])
    assert deal_folds(labels, 2).tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 0]
    for count in range(1, 30):
        sizes = deal_folds(torch.zeros(count, dtype=torch.long), 5).bincount()
        assert len(sizes) == min(count, 5)
        assert sizes.max() - sizes.min() <= 1


def test_activations_are_measured_in_whatever_order_they_lie_in_memory():
    rows = draw(9, 5, 2, 3, 4)
    found = activation_geometry(rows.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found.squared, torch.cdist(rows.flatten(1), rows.flatten(1)).square())


def test_tensors_made_in_inference_mode_are_measured():
    with torch.inference_mode():
        rows = draw(11, 4, 6) + 0
    torch.testing.assert_close(activation_geometry(rows).squared, layer_geometry(rows.clone()).squared)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same():
    rows = draw(12, 50, 5000, dtype=torch.float32)
    found, expected = layer_geometry(rows.cuda()).correlation.cpu(), layer_geometry(rows).correlation
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_scaled_patterns_do_not_change_a_correlation():
    rows = draw(13, 8, 25)
    z = torch.from_numpy(zscore(rows.numpy(), axis=1))
    torch.testing.assert_close(layer_geometry(z).squared / (2 * 25), layer_geometry(rows).correlation)
