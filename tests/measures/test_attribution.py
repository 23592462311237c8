"""Attribution of networks whose pixels' shares are known, completeness, and enrichment by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lightning_emerge.measures.attribution import enrichment, grad_cam, integrated_gradients


def images(count: int = 4, side: int = 8) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_of_a_linear_response_each_pixel_has_its_weight_times_its_difference():
    weight = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(1))
    rows, baseline = images(), torch.full((3, 8, 8), 0.25)
    found = integrated_gradients(lambda x: (x * weight).sum(dim=(1, 2, 3)), rows, baseline, steps=3)
    torch.testing.assert_close(found, weight * (rows - baseline))


def test_of_a_product_both_factors_have_half():
    """The integral of a straight path from zero: what a gradient times its input gets wrong."""
    rows = images(2, 1)
    found = integrated_gradients(lambda x: x[:, 0, 0, 0] * x[:, 1, 0, 0], rows, torch.zeros(3, 1, 1), steps=4)
    half = rows[:, 0, 0, 0] * rows[:, 1, 0, 0] / 2
    torch.testing.assert_close(found[:, :, 0, 0], torch.stack([half, half, torch.zeros(2)], dim=1))


@pytest.mark.parametrize(("steps", "error"), [(16, 0.1), (200, 0.005)])
def test_attributions_add_up_to_the_difference_of_the_responses(steps, error):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())
    rows, baseline = images(40), images(40).mean(dim=0)

    def respond(x: torch.Tensor) -> torch.Tensor:
        return network(x)[:, 1].flatten(1).amax(dim=1)

    found = integrated_gradients(respond, rows, baseline, steps).sum(dim=(1, 2, 3))
    with torch.no_grad():
        expected = respond(rows) - respond(baseline[None])
    assert (found - expected).abs().max() < error * expected.abs().max()
    assert not rows.requires_grad
    assert all(parameter.grad is None for parameter in network.parameters())


def test_grad_cam_is_where_the_filter_fires():
    places = torch.zeros(2, 3, 4, 4)
    places[0, 2, 1, 3], places[1, 2, 0, 0], places[:, 1] = 5, 1, 9
    places[:, 2, 3, 3] = -4
    found = grad_cam(lambda x: places + 0 * x.sum(), 2, images(2))
    assert found.shape == (2, 1, 8, 8)
    peaks = found.flatten(1).argmax(dim=1)
    assert [divmod(int(peak), 8) for peak in peaks] in ([(2, 6), (0, 0)], [(2, 7), (0, 0)], [(3, 6), (0, 0)])
    assert (found >= 0).all()
    assert (found[:, 0, 6:, 6:] == 0).all()


def test_grad_cam_comes_back_to_the_device_of_the_images():
    """A network on another device than the images, which "meta" stands for."""
    places = torch.ones(2, 3, 4, 4, requires_grad=True)
    found = grad_cam(lambda x: places * 1, 2, images(2).to("meta"))
    assert found.device.type == "meta"
    assert found.shape == (2, 1, 8, 8)


def test_masks_may_lie_on_another_device_than_attributions():
    assert enrichment(torch.ones(2, 3, 8, 8, device="meta"), torch.ones(2, 8, 8)).device.type == "meta"


def test_enrichment_is_the_share_inside_over_the_share_of_area():
    masks = torch.zeros(1, 8, 8)
    masks[:, :2, :4] = 1  # an eighth of the area
    even = torch.ones(1, 3, 8, 8)
    assert enrichment(even, masks) == 1
    assert enrichment(-even * masks[:, None], masks) == pytest.approx(8)
    assert enrichment(even * (1 - masks[:, None]), masks) == 0
    half = even.clone()
    half[:, :, :2, :4] = 7  # half of the attribution inside
    assert enrichment(half, masks) == pytest.approx(4)


def test_stimuli_without_attribution_or_mask_do_not_count():
    rows = torch.ones(3, 3, 8, 8)
    rows[1] = 0
    masks = torch.ones(3, 8, 8)
    masks[2] = 0
    assert enrichment(rows, masks) == 1
    assert enrichment(rows[1:], masks[1:]).isnan()
