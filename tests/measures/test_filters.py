"""Size and direction of filters, against NumPy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_emerge.measures.filters import filter_cosines, filter_norms, stack_layers


@pytest.mark.parametrize("shape", [(5, 3), (1, 1), (8, 3, 3, 3), (4, 2, 1, 7), (6, 4, 5)])
def test_norms_are_numpys(shape):
    weight = np.random.default_rng(0).normal(size=shape)
    expected = np.linalg.norm(weight.reshape(shape[0], -1), axis=1)
    np.testing.assert_allclose(filter_norms(torch.from_numpy(weight)), expected, rtol=1e-12)
    np.testing.assert_allclose(filter_norms(torch.from_numpy(weight).float()), expected, rtol=1e-5)


def test_filters_are_the_first_axis():
    weight = torch.zeros(3, 2, 5, 5)
    weight[1] = 1
    weight[2, 0, 0, 0] = -4
    torch.testing.assert_close(filter_norms(weight), torch.tensor([0, 50**0.5, 4]))


def test_a_linear_layer_has_the_norms_of_its_rows_without_the_bias():
    layer = torch.nn.Linear(2, 2)
    layer.weight.data = torch.tensor([[3.0, 4.0], [5.0, -12.0]])
    layer.bias.data.fill_(100)
    assert filter_norms(layer.weight.detach()).tolist() == [5, 13]


def test_cosines_are_numpys():
    a, b = np.random.default_rng(1).normal(size=(2, 6, 3, 3, 3))
    rows = zip(a.reshape(6, -1), b.reshape(6, -1), strict=True)
    expected = [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in rows]
    np.testing.assert_allclose(filter_cosines(torch.from_numpy(a), torch.from_numpy(b)), expected, rtol=1e-12)


def test_a_filter_that_turned_or_vanished():
    start = torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 0]])
    now = torch.tensor([[5.0, 0], [0, 2], [-3, 0], [1, 1]])
    np.testing.assert_allclose(filter_cosines(start, now), [1, 0, -1, np.nan])


def test_layers_are_filled_up_with_nan():
    stacked = stack_layers([torch.ones(2, 3), torch.zeros(4, 3)])
    assert stacked.shape == (2, 4, 3)
    assert stacked[0, 2:].isnan().all()
    assert torch.equal(stacked[0, :2], torch.ones(2, 3))
    assert torch.equal(stacked[1], torch.zeros(4, 3))
