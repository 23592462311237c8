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
    )
    measured = {found.name: found for found in le.GradientProbe().measure(capture)}
    np.testing.assert_allclose(measured["gradient_norm"].values, [0.02, 0])
    np.testing.assert_allclose(measured["update_ratio"].values, [0.5, 0.1])
    counts = measured["gradient_magnitude"]
    edges = np.array(counts.axes[1].labels)
    assert edges[counts.values[0].argmax()] <= -2 < edges[counts.values[0].argmax()] + 0.25 + 1e-9
    assert counts.values[1, 0] == 4
    assert counts.values.sum(axis=1).tolist() == [4, 4]
