"""What drives filters, against NumPy and planted maxima."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from lightning_emerge.measures.exemplars import crop, mean_responses, pixel_range, top_stimuli


def test_mean_responses_are_numpys():
    activations = np.random.default_rng(2).normal(size=(7, 3, 4, 5))
    labels = np.array([0, 2, 2, 0, 0, 2, 2])
    found = mean_responses(torch.from_numpy(activations), torch.from_numpy(labels), 3)
    for token in (0, 2):
        np.testing.assert_allclose(found[:, token], activations[labels == token].mean(axis=(0, 2, 3)), rtol=1e-12)
    assert found[:, 1].isnan().all()


def test_planted_maxima_are_found_where_they_are():
    activations = torch.rand(6, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    activations[3, 0, 2, 4], activations[1, 0, 0, 1], activations[5, 1, 3, 0] = 9, 8, 7
    largest, stimuli, places = top_stimuli(activations, 2)
    assert largest[0].tolist() == [9, 8]
    assert stimuli[0].tolist() == [3, 1]
    assert places[0].tolist() == [[2, 4], [0, 1]]
    assert (largest[1, 0].item(), stimuli[1, 0].item(), places[1, 0].tolist()) == (7, 5, [3, 0])


def test_top_stimuli_of_a_linear_layer_ties_and_too_few_stimuli():
    largest, stimuli, places = top_stimuli(torch.tensor([[1.0, 0], [3, 0], [1, 0]]), 9)
    assert largest.tolist() == [[3, 1, 1], [0, 0, 0]]
    assert stimuli.tolist() == [[1, 0, 2], [0, 1, 2]]
    assert not places.any()


def test_pixel_ranges_are_of_each_channel_and_one_where_it_is_constant():
    images = np.random.default_rng(0).normal(size=(4, 3, 5, 5))
    images[:, 1] = 7
    low, reach = pixel_range(torch.from_numpy(images))
    np.testing.assert_array_equal(low, images.min(axis=(0, 2, 3)))
    np.testing.assert_array_equal(reach[[0, 2]], np.ptp(images, axis=(0, 2, 3))[[0, 2]])
    assert reach[1] == 1


def test_a_crop_inside_grows_by_whole_pixels_and_one_over_the_edge_has_nan_outside():
    images = torch.stack([torch.zeros(1, 4, 4), torch.arange(16.0).view(1, 4, 4)])
    (inside,) = crop(images, torch.tensor([1]), torch.tensor([[1, 3, 2, 4]]), 4)
    assert inside[0].tolist() == [[6, 6, 7, 7], [6, 6, 7, 7], [10, 10, 11, 11], [10, 10, 11, 11]]
    over, dark = crop(images, torch.tensor([1, 0]), torch.tensor([[-1, 1, 3, 5], [0, 2, 0, 2]]), 2)
    np.testing.assert_allclose(over[0], [[np.nan, np.nan], [3, np.nan]])
    assert dark[0].tolist() == [[0, 0], [0, 0]]


def test_a_crop_of_all_is_the_image():
    images = torch.rand(2, 3, 24, 24)
    assert torch.equal(crop(images, torch.tensor([0, 1]), torch.tensor([[0, 24, 0, 24]] * 2), 24), images)


@pytest.mark.parametrize("span", [(3, 11, 0, 8), (0, 13, 5, 18), (2, 9, 2, 9)])
def test_a_crop_is_scaled_to_the_nearest_pixel(span):
    image = torch.rand(3, 20, 20)
    top, bottom, left, right = span
    expected = interpolate(image[None, :, top:bottom, left:right], (24, 24), mode="nearest-exact")
    assert torch.equal(crop(image[None], torch.tensor([0]), torch.tensor([span]), 24), expected)
