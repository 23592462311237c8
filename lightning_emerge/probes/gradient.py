"""GradientProbe: what pulls at each layer's weights, and how far they give way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, final

import torch

from lightning_emerge.measures.filters import filter_norms, stack_layers
from lightning_emerge.measures.gradient import BIN_EDGES, cosine, distance, magnitude_histogram, norm, update_ratio
from lightning_emerge.probe import Probe
from lightning_emerge.records import Axis, Capture, Measurement, Needs, to_array


@final
class GradientProbe(Probe):
    """Measures the training batch's gradient, and the update it led to, by layer.

    The gradient at step k is the one that the (k + 1)-th update is made from: of the whole batch (accumulated, averaged
    over processes), unscaled, before clipping. The last step has none, as no update follows it.

    Records by layer `gradient_norm`, `update_ratio`, `start_distance`, `gradient_cosine` and `dead_share`;
    `filter_gradient_norm` (layer, filter), with NaN beyond a layer's last filter; and `gradient_magnitude`
    (layer, bin).
    """

    needs: ClassVar = Needs(training=True, past=True)

    def measure(self, capture: Capture) -> Iterable[Measurement]:
        layers, source = Axis("layer", capture.layers), type(self).__name__
        gradients = capture.gradients
        by_filter = stack_layers(filter_norms(gradient) for gradient in gradients.values())
        counts = torch.stack([magnitude_histogram(gradient) for gradient in gradients.values()])
        filters = Axis("filter", range(by_filter.shape[1]))
        bins = Axis("bin", BIN_EDGES[:-1], "log10 of the gradient's magnitude, lower edge")
        mute = [layer for layer in capture.layers[:-1] if layer not in capture.fired]
        if mute:
            self.note(
                "dead_share",
                f"of {', '.join(mute)} at step {capture.step}: it needs an nn.ReLU that gets what a layer gives, alone "
                "or in a sum, and is called in the training batch, not compiled.",
            )
        before = "L2 norm before clipping"
        for name, values, axes, unit, about in (
            *_by_layer(capture),
            ("filter_gradient_norm", by_filter, (filters,), before, "Norm of the gradient of each filter's weights"),
            (
                "gradient_magnitude",
                counts,
                (bins,),
                "number of weights",
                "Histogram of the gradient's entries; the first bin also holds all smaller ones, the last all larger",
            ),
        ):
            yield Measurement(name, to_array(values), (layers, *axes), capture.step, unit, source, about)


_Row = tuple[str, torch.Tensor, tuple[Axis, ...], str, str]


def _by_layer(capture: Capture) -> list[_Row]:
    weights, gradients = capture.weights, capture.gradients
    start = (capture.first or capture).weights
    earlier = capture.previous.gradients if capture.previous else {}
    rows: list[tuple[str, list[torch.Tensor], str, str]] = [
        (
            "gradient_norm",
            [norm(gradient) for gradient in gradients.values()],
            "L2 norm before clipping",
            "Norm of the gradient of the training batch's loss with respect to the layer's weight",
        ),
        (
            "update_ratio",
            [update_ratio(capture.updates[layer], weight) for layer, weight in weights.items()],
            "1",
            "Norm of the update that followed over the norm of the layer's weight",
        ),
        (
            "start_distance",
            [distance(weight, start[layer]) for layer, weight in weights.items()],
            "L2 norm of weights",
            "Distance of the layer's weight from where it was at the first look",
        ),
        (
            "gradient_cosine",
            [
                cosine(gradient, earlier.get(layer, torch.zeros_like(gradient)))  # no direction, so NaN
                for layer, gradient in gradients.items()
            ],
            "1",
            "Cosine between the gradient, before clipping, and that at the look before",
        ),
        (
            "dead_share",
            [_dead(capture.fired.get(layer), gradient) for layer, gradient in gradients.items()],
            "share of channels",
            "Share of a layer's channels whose ReLU is above zero nowhere in the training batch; NaN without a ReLU",
        ),
    ]
    return [(name, torch.stack(values), (), unit, about) for name, values, unit, about in rows]


def _dead(fired: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    return like.new_tensor(torch.nan) if fired is None else 1 - fired.to(like.dtype).mean()
