"""FilterProbe on weights that are known."""

from __future__ import annotations

import numpy as np
import torch

import lightning_emerge as le


def test_it_records_kernels_of_the_layer_that_sees_the_image_and_pads_norms_with_nan():
    weights = {"conv1": torch.full((2, 3, 3, 3), 2.0), "fc": torch.eye(4)}
    measured = {
        found.name: found for found in le.FilterProbe().measure(le.Capture(0, ("conv1", "fc"), weights=weights))
    }
    np.testing.assert_allclose(measured["filter_norm"].values[0], [2 * 27**0.5] * 2 + [np.nan] * 2, rtol=1e-6)
    np.testing.assert_allclose(measured["filter_norm"].values[1], 1)
    assert measured["kernels"].values.shape == (2, 3, 3, 3)
    assert "conv1" in measured["kernels"].about


def test_a_network_without_convolutions_on_the_image_has_norms_and_no_kernels():
    capture = le.Capture(0, ("fc",), weights={"fc": torch.eye(4)})
    assert [found.name for found in le.FilterProbe().measure(capture)] == ["filter_norm"]
