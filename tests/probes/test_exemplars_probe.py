"""TopExemplarProbe with a filter that is built to see one thing."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from passed import run_bank
from torch import nn

import lightning_emerge as le
from lightning_emerge.capture import open_network

SIDE, BAR, BLANK, BLOB = 16, 0, 1, 2


def make_bank() -> le.StimulusBank:
    """Bars standing at known columns, blank images, and blobs; some noise on all."""
    random = torch.Generator().manual_seed(0)
    images = 0.05 * torch.randn(12, 3, SIDE, SIDE, generator=random)
    for number in range(4):
        images[number, :, 5:11, 3 + 3 * number] += 1
        images[8 + number, :, 6:10, 6:10] += 1
    labels = torch.tensor([BAR] * 4 + [BLANK] * 4 + [BLOB] * 4)
    return le.StimulusBank(images, labels, tuple(f"s{k}" for k in range(12)), ("bar", "blank", "blob"))


def make_network() -> nn.Sequential:
    """Filter 0 sees standing bars, filter 1 is random, filter 2 is dead; the third layer sees it all."""
    torch.manual_seed(1)
    network = nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 5, padding=2), nn.ReLU()), nn.Flatten(), nn.Linear(768, 3))
    convolution = network[0][0]
    with torch.no_grad():
        convolution.weight[0] = -1 / 4
        convolution.weight[0, :, :, 2] = 1
        convolution.weight[2], convolution.bias[2] = 0, -1
        convolution.bias[0] = 0
    return network


@pytest.fixture(scope="module")
def measured() -> Mapping[str, le.Measurement]:
    bank, network, layers = make_bank(), make_network(), ("0", "2")
    seen = run_bank(network, bank, layers)
    with open_network(network, layers) as live:
        capture = le.Capture(3, layers, bank, activations=seen.activations, network=live)
        return {found.name: found for found in le.TopExemplarProbe(filters=4, exemplars=4).measure(capture)}


def test_a_detector_of_bars_has_bars_as_its_top_exemplars(measured):
    assert measured["top_token"].values[0, 0].tolist() == [BAR] * 4
    assert sorted(measured["top_stimulus"].values[0, 0].tolist()) == [0, 1, 2, 3]
    assert np.all(np.diff(measured["top_activation"].values[0, 0]) <= 0)
    response = measured["filter_response"].values[0, 0]
    assert response[BAR] > 2 * response[BLANK]


def test_the_crop_shows_the_bar_in_its_middle(measured):
    for stimulus, span, crop in zip(
        *(measured[f"top_{n}"].values[0, 0] for n in ("stimulus", "span", "crop")), strict=True
    ):
        top, bottom, left, right = span
        column = 3 + 3 * stimulus
        assert (bottom - top, right - left) == (5, 5)
        assert (left + right - 1) / 2 == column
        columns = np.nanmean(crop.astype(float), axis=(0, 1))
        assert columns[11:13].min() > columns[:9].max() + 0.3


def test_a_random_filter_does_not_single_out_the_bars(measured):
    assert set(measured["top_token"].values[0, 1].tolist()) != {BAR}


def test_a_dead_filter_has_no_top_exemplars(measured):
    assert measured["top_activation"].values[0, 2].tolist() == [0] * 4
    for name in ("top_stimulus", "top_token", "top_span", "top_crop"):
        assert np.isnan(measured[name].values[0, 2]).all(), name


def test_logits_below_zero_are_not_dead_and_what_sees_all_is_shown_whole(measured):
    assert np.isfinite(measured["top_stimulus"].values[1]).all()
    assert measured["top_span"].values[1, 0, 0].tolist() == [0, SIDE, 0, SIDE]


def test_the_range_of_crops_is_that_of_the_bank(measured):
    crops = measured["top_crop"].values
    assert crops.dtype == np.float16
    assert crops.shape == (2, 3, 4, 3, 24, 24)
    assert np.nanmin(crops) >= 0
    assert np.nanmax(crops) <= 1


def test_stimuli_that_are_no_images_have_top_exemplars_without_crops():
    torch.manual_seed(0)
    network, rows = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)), torch.randn(9, 5)
    bank = le.StimulusBank(rows, torch.arange(9) % 3, tuple("rstuvwxyz"), tuple("abc"))
    with pytest.warns(UserWarning, match=r"no top_crop and no top_span.*\(9, 5\)"):
        found = le.look(network, bank, [le.TopExemplarProbe(exemplars=2)])
    assert {*found.data_vars} == {"filter_response", "top_activation", "top_stimulus", "top_token"}
    with torch.no_grad():
        top = network[0](rows).topk(2, dim=0).indices.T
    assert found.top_stimulus.sel(layer="0").values.tolist() == top.tolist()
    assert found.top_token.sel(layer="0").values.tolist() == (top % 3).tolist()


@pytest.mark.parametrize("wrong", [{"filters": 0}, {"exemplars": 0}])
def test_numbers_below_one_are_refused(wrong):
    with pytest.raises(ValueError, match=r"is at least 1; got 0\."):
        le.TopExemplarProbe(**wrong)


def test_its_picture_says_what_is_dead(measured):
    figure = le.TopExemplarProbe().draw(measured["top_crop"])
    texts = [text.get_text() for text in figure.axes[0].texts if text.get_text()]
    assert texts == ["dead"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["bar", "blank", "blob"]
    assert le.TopExemplarProbe().draw(measured["top_token"]) is None
