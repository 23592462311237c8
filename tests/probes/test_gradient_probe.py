"""GradientProbe on gradients that are known."""

from __future__ import annotations

import numpy as np
import torch

import lightning_emerge as le


def test_it_measures_each_layer_by_itself():
    ones = torch.ones(2, 2)
    capture = le.Capture(
        3,
        ("a", "b"),
        weights={"a": ones, "b": 10 * ones},
        gradients={"a": 0.01 * ones, "b": 0 * ones},
        updates={"a": -0.5 * ones, "b": ones},
        fired={"a": torch.tensor([True, True])},
        first=None,
        previous=None,
    )
    measured = {found.name: found for found in le.GradientProbe().measure(capture)}
    np.testing.assert_allclose(measured["gradient_norm"].values, [0.02, 0])
    np.testing.assert_allclose(measured["update_ratio"].values, [0.5, 0.1])
    counts = measured["gradient_magnitude"]
    edges = np.array(counts.axes[1].labels)
    assert edges[counts.values[0].argmax()] <= -2 < edges[counts.values[0].argmax()] + 0.25 + 1e-9
    assert counts.values[1, 0] == 4
    assert counts.values.sum(axis=1).tolist() == [4, 4]


def test_it_compares_with_earlier_looks_and_counts_the_dead():
    weight, gradient = torch.tensor([[1.0, 2], [3, 4]]), torch.tensor([[1.0, 0], [0, 1]])
    capture = le.Capture(
        8,
        ("a", "b"),
        weights={"a": weight, "b": weight},
        gradients={"a": gradient, "b": gradient},
        updates={"a": gradient, "b": gradient},
        fired={"a": torch.tensor([True, False, False, True])},
        first=le.PastLook(0, {"a": weight - 2, "b": weight}, {"a": gradient, "b": gradient}),
        previous=le.PastLook(5, {"a": weight, "b": weight}, {"a": -gradient, "b": torch.ones(2, 2)}),
    )
    measured = {found.name: found for found in le.GradientProbe().measure(capture)}
    np.testing.assert_allclose(measured["start_distance"].values, [4, 0])
    np.testing.assert_allclose(measured["gradient_cosine"].values, [-1, 0.5**0.5], rtol=1e-6)
    np.testing.assert_allclose(measured["dead_share"].values, [0.5, np.nan])
    np.testing.assert_allclose(measured["filter_gradient_norm"].values, 1)


def test_a_first_look_has_nothing_to_compare_with():
    ones = torch.ones(2, 2)
    capture = le.Capture(
        0,
        ("a",),
        weights={"a": ones},
        gradients={"a": ones},
        updates={"a": ones},
        fired={},
        first=None,
        previous=None,
    )
    measured = {found.name: found for found in le.GradientProbe().measure(capture)}
    assert measured["start_distance"].values.tolist() == [0]
    assert np.isnan(measured["gradient_cosine"].values).all()
