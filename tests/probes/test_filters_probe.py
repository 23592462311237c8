"""FilterProbe on weights that are known."""

from __future__ import annotations

import numpy as np
import torch

import lightning_emerge as le

FIRST = {"first": None, "previous": None}


def test_it_records_kernels_of_the_layer_that_sees_the_image_and_pads_norms_with_nan():
    weights = {"conv1": torch.full((2, 3, 3, 3), 2.0), "fc": torch.eye(4)}
    measured = {
        found.name: found
        for found in le.FilterProbe().measure(le.Capture(0, ("conv1", "fc"), weights=weights, **FIRST))
    }
    np.testing.assert_allclose(measured["filter_norm"].values[0], [2 * 27**0.5] * 2 + [np.nan] * 2, rtol=1e-6)
    np.testing.assert_allclose(measured["filter_norm"].values[1], 1)
    assert measured["kernels"].values.shape == (1, 2, 3, 3, 3)
    assert measured["kernels"].axes[0].labels == ["conv1"]


def test_a_network_without_convolutions_on_the_image_has_norms_and_no_kernels():
    capture = le.Capture(0, ("fc",), weights={"fc": torch.eye(4)}, **FIRST)
    names = [found.name for found in le.FilterProbe().measure(capture)]
    assert names == ["filter_norm", "filter_cosine_start", "filter_cosine_before"]


def test_filters_are_compared_with_the_first_look_and_the_look_before():
    first, before, now = (torch.tensor(rows) for rows in ([[1.0, 0]], [[0.0, 1]], [[1.0, 1]]))
    past = [le.PastLook(step, {"fc": weight}) for step, weight in ((0, first), (5, before))]
    capture = le.Capture(9, ("fc",), weights={"fc": 3 * now}, first=past[0], previous=past[1])
    _, start, previous = le.FilterProbe().measure(capture)
    np.testing.assert_allclose([start.values, previous.values], 0.5**0.5, rtol=1e-6)
    _, start, previous = le.FilterProbe().measure(le.Capture(0, ("fc",), weights={"fc": now}, **FIRST))
    np.testing.assert_allclose([start.values, previous.values], 1, rtol=1e-6)
