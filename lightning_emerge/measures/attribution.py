"""Attribution: which pixels a filter's response comes from, and how much of it from inside a mask. By captum."""

# captum's arguments and results are unions of tensors and tuples of them.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingTypeStubs=false

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lightning_emerge.measures.linear import wide

_BATCH = 32

Respond = Callable[[Tensor], Tensor]


def integrated_gradients(
    respond: Respond,
    images: Float[Tensor, "stimulus channel y x"],
    baseline: Float[Tensor, "channel y x"],
    steps: int,
) -> Float[Tensor, "stimulus channel y x"]:
    """Attributes a response to pixels: the gradient's integral from a baseline to the image, times their difference.

    Sundararajan, Taly & Yan (2017), *Axiomatic attribution for deep networks*, equation 1. Attributions add up to the
    difference of the responses to image and baseline, but for the error of the integral.

    Args:
        respond: maps images to one response a stimulus, differentiably.
        images: to attribute the response to.
        baseline: where the path begins.
        steps: points of the integral, 1 or more (by Gauss & Legendre).
    """
    from captum.attr import IntegratedGradients

    inputs = images.detach().clone().requires_grad_(True)
    found = IntegratedGradients(respond, multiply_by_inputs=True).attribute(
        inputs, baseline[None].expand_as(images), n_steps=steps, internal_batch_size=max(_BATCH, len(images))
    )
    return found.detach().to(images.dtype)


def grad_cam(
    respond: Callable[[Tensor], Tensor],
    number: int,
    images: Float[Tensor, "stimulus channel y x"],
) -> Float[Tensor, "stimulus 1 y x"]:
    """Gives the Grad-CAM of a filter's largest output at the filter's own layer, brought to the image's size.

    Selvaraju et al. (2017), *Grad-CAM: visual explanations from deep networks via gradient-based localization*,
    equations 1 and 2. No other channel has a gradient there, so it is where the filter fires: its rectified map.

    Args:
        respond: maps images to the layer's output (stimulus, filter, y, x), differentiably.
        number: of the filter.
        images: to look at.

    Returns:
        0 or above, up to a factor; on the device of the images. Pixels between the map's places are interpolated
        linearly.
    """
    from captum.attr import LayerAttribution, LayerGradCam

    model = _Tail(respond, number)
    inputs = images.detach().clone().requires_grad_(True)
    found = LayerGradCam(model, model.layer).attribute(inputs, relu_attributions=True)
    size = (images.shape[-2], images.shape[-1])
    return LayerAttribution.interpolate(cast(Tensor, found).detach(), size, "bilinear").to(images)


def enrichment(
    attributions: Float[Tensor, "stimulus channel y x"], masks: Float[Tensor, "stimulus y x"]
) -> Float[Tensor, ""]:
    """Computes how much more of the absolute attribution lies inside a mask than its area would have.

    Args:
        attributions: of pixels.
        masks: share of each pixel that is inside, 0 to 1; on any device.

    Returns:
        Mean share of attribution over mean share of area: 1 if pixels inside count as much as any, 0 if not at all.
        Stimuli without attribution or without mask are left out; NaN if none is left.
    """
    weights, inside = wide(attributions).abs().sum(dim=1), wide(masks.to(attributions.device))
    total = weights.sum(dim=(1, 2))
    used = (total > 0) & (inside.sum(dim=(1, 2)) > 0)
    share, area = (weights * inside).sum(dim=(1, 2)) / total, inside.mean(dim=(1, 2))
    return share.where(used, torch.nan).nanmean() / area.where(used, torch.nan).nanmean()


class _Tail(nn.Module):
    """A layer that captum can hook, and one filter's largest output after it."""

    def __init__(self, respond: Callable[[Tensor], Tensor], number: int) -> None:
        super().__init__()
        self.layer = nn.Identity()
        self._respond, self._number = respond, number

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.layer(self._respond(images))
        return outputs[:, self._number].flatten(1).amax(dim=1)
