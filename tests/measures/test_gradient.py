"""Gradients' size, the update they lead to, their histogram: against NumPy, SGD by hand and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_emerge.measures.gradient import (
    BIN_EDGES,
    cosine,
    distance,
    magnitude_histogram,
    norm,
    update_ratio,
)

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (7,), (4, 3, 3, 3)])
def test_norm_is_numpys_in_double_precision(shape, dtype):
    values = torch.from_numpy(np.random.default_rng(0).normal(size=shape)).to(dtype)
    assert norm(values).item() == pytest.approx(np.linalg.norm(values.double().numpy().ravel()), rel=1e-12)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_norm_neither_overflows_nor_vanishes(size):
    assert norm(torch.full((100, 100), size)).item() == pytest.approx(100 * size, rel=1e-6)


@given(scale=st.floats(-50, 50), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None, derandomize=True, database=None)
def test_norm_scales_with_its_argument_and_obeys_the_triangle(scale, seed):
    a, b = torch.from_numpy(np.random.default_rng(seed).normal(size=(2, 3, 5)))
    assert norm(scale * a).item() == pytest.approx(abs(scale) * norm(a).item())
    assert norm(a + b) <= norm(a) + norm(b) + 1e-12


def test_update_ratio_of_sgd_is_rate_times_gradient_over_weight():
    generator = torch.Generator().manual_seed(0)
    weight, images, wanted = (torch.randn(shape, generator=generator) for shape in ((3, 4), (10, 4), (10, 3)))
    layer = torch.nn.Linear(4, 3, bias=False)
    layer.weight.data = weight.clone()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.05)
    (layer(images) - wanted).square().sum().backward()
    optimizer.step()
    # d/dW of |x W' - t|^2, by hand.
    w, x, t = (tensor.double().numpy() for tensor in (weight, images, wanted))
    gradient = 2 * (x @ w.T - t).T @ x
    ratio = update_ratio(layer.weight.detach() - weight, weight)
    assert ratio.item() == pytest.approx(0.05 * np.linalg.norm(gradient) / np.linalg.norm(w), rel=1e-5)


def test_update_ratio_is_zero_without_an_update_and_undefined_without_a_weight():
    weight = torch.ones(3, 2)
    assert update_ratio(torch.zeros(3, 2), weight).item() == 0
    assert update_ratio(weight, torch.zeros(3, 2)).isnan()
    assert update_ratio(weight * 0.01, weight).item() == pytest.approx(0.01)


def test_edges_are_quarters_of_a_decade():
    assert tuple(np.linspace(-10, 1, 45)) == BIN_EDGES


@given(seed=st.integers(0, 2**32 - 1), centre=st.floats(-12, 3), dtype=st.sampled_from([torch.float32, torch.float64]))
@settings(max_examples=20, deadline=None, derandomize=True, database=None)
def test_histogram_is_numpys(seed, centre, dtype):
    random = np.random.default_rng(seed)
    values = random.choice([-1, 1], (20, 30)) * 10 ** random.normal(centre, 2, (20, 30))
    gradient = torch.from_numpy(values).to(dtype)
    exponent = np.log10(np.abs(gradient.double().numpy().ravel()))
    inside, _ = np.histogram(exponent, BIN_EDGES)
    expected = inside.astype(float)
    expected[0] += (exponent < -10).sum()
    expected[-1] += (exponent > 1).sum()
    found = magnitude_histogram(gradient)
    np.testing.assert_array_equal(found, expected)
    assert found.sum() == 600


@pytest.mark.parametrize(
    ("entry", "position"),
    [
        (0.0, 0),
        (-0.0, 0),
        (1e-300, 0),
        (5e-324, 0),
        (9e-11, 0),
        (1e-10, 0),
        (2e-10, 1),
        (1e-3, 28),
        (-1e-3, 28),
        (0.999e-3, 27),
        (1.0, 40),
        (9.99, 43),
        (10.0, 43),
        (1e300, 43),
        (INF, 43),
        (-INF, 43),
    ],
)
def test_each_entry_has_its_bin(entry, position):
    counts = magnitude_histogram(torch.tensor([entry], dtype=torch.float64))
    assert counts.shape == (44,)
    assert counts.nonzero().flatten().tolist() == [position]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_everything_but_nan_is_counted(dtype):
    gradient = torch.tensor([[0, 1e-7, NAN], [INF, -INF, NAN], [3e4, -1, 1e-3]]).to(dtype)
    counts = magnitude_histogram(gradient)
    assert counts.sum() == 7
    assert counts[-1] == 3


def test_without_entries_all_bins_are_empty_and_of_nan_alone_there_are_none():
    assert magnitude_histogram(torch.empty(0)).tolist() == [0.0] * 44
    assert magnitude_histogram(torch.full((4,), NAN)).isnan().all()


def test_distance_and_cosine_are_numpys():
    a, b = np.random.default_rng(4).normal(size=(2, 5, 3, 2))
    found = distance(torch.from_numpy(a), torch.from_numpy(b)), cosine(torch.from_numpy(a), torch.from_numpy(b))
    assert found[0].item() == pytest.approx(np.linalg.norm((a - b).ravel()), rel=1e-12)
    expected = np.dot(a.ravel(), b.ravel()) / np.linalg.norm(a.ravel()) / np.linalg.norm(b.ravel())
    assert found[1].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("scale", "expected"), [(3.0, 1), (-0.1, -1), (0.0, NAN)])
def test_the_cosine_with_a_multiple_of_itself(scale, expected):
    values = torch.arange(1.0, 7).view(2, 3)
    assert cosine(values, scale * values).item() == pytest.approx(expected, nan_ok=True)


def test_the_cosine_of_independent_gradients_is_about_zero():
    a, b = torch.from_numpy(np.random.default_rng(5).normal(size=(2, 10_000)))
    assert abs(cosine(a, b).item()) < 0.05  # five standard deviations


def test_tiny_gradients_have_a_direction_too():
    values = torch.arange(1.0, 7) * 1e-30
    assert cosine(values, values).item() == pytest.approx(1)
    assert distance(values, 2 * values).item() == pytest.approx(np.sqrt(91) * 1e-30)
