"""GradientProbe: what pulls at each layer's weights, and how far they give way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, final

import torch

from lightning_emerge.capture.needs import Past, Training
from lightning_emerge.measures.filters import filter_norms, stack_layers
from lightning_emerge.measures.gradient import BIN_EDGES, cosine, distance, magnitude_histogram, norm, update_ratio
from lightning_emerge.probe import Probe
from lightning_emerge.records import Axis, Capture, Measurement, Record

_BEFORE, _ABOVE = "L2 norm before clipping", (0, None)
_NORM = Record(
    "gradient_norm",
    ("layer",),
    _BEFORE,
    _ABOVE,
    "log",
    "Norm of the gradient of the training batch's loss with respect to the layer's weight",
)
_RATIO = Record(
    "update_ratio",
    ("layer",),
    range=_ABOVE,
    scale="log",
    about="Norm of the update that followed over the norm of the layer's weight",
)
_START = Record(
    "start_distance",
    ("layer",),
    "L2 norm of weights",
    _ABOVE,
    about="Distance of the layer's weight from where it was at the first look",
)
_COSINE = Record(
    "gradient_cosine",
    ("layer",),
    range=(-1, 1),
    scale="diverging",
    about="Cosine between the gradient, before clipping, and that at the look before",
)
_DEAD = Record(
    "dead_share",
    ("layer",),
    "share of channels",
    (0, 1),
    about="Share of a layer's channels whose ReLU is above zero nowhere in the training batch; NaN without a ReLU",
)
_FILTER = Record(
    "filter_gradient_norm",
    ("layer", "filter"),
    _BEFORE,
    _ABOVE,
    "log",
    "Norm of the gradient of each filter's weights",
)
_MAGNITUDE = Record(
    "gradient_magnitude",
    ("layer", "bin"),
    "number of weights",
    _ABOVE,
    about="Histogram of the gradient's entries; the first bin also holds all smaller ones, the last all larger",
)


@final
class GradientProbe(Probe):
    """Measures the training batch's gradient, and the update it led to, by layer.

    The gradient at step k is the one that the (k + 1)-th update is made from: of the whole batch (accumulated, averaged
    over processes), unscaled, before clipping. The last step has none, as no update follows it.

    Records by layer `gradient_norm`, `update_ratio`, `start_distance`, `gradient_cosine` and `dead_share`;
    `filter_gradient_norm` (layer, filter), with NaN beyond a layer's last filter; and `gradient_magnitude`
    (layer, bin).
    """

    needs: ClassVar = (Training(), Past())
    records: ClassVar = (_NORM, _RATIO, _START, _COSINE, _DEAD, _FILTER, _MAGNITUDE)

    def measure(self, capture: Capture) -> Iterable[Measurement]:
        layers = Axis("layer", capture.layers)
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
        weights, start = capture.weights, (capture.first or capture).weights
        earlier = capture.previous.gradients if capture.previous else {}
        pairs = [
            (gradient, earlier.get(layer, torch.zeros_like(gradient)))  # no direction, so NaN
            for layer, gradient in gradients.items()
        ]
        for record, values in (
            (_NORM, [norm(gradient) for gradient in gradients.values()]),
            (_RATIO, [update_ratio(capture.updates[layer], weight) for layer, weight in weights.items()]),
            (_START, [distance(weight, start[layer]) for layer, weight in weights.items()]),
            (_COSINE, [cosine(*pair) for pair in pairs]),
            (_DEAD, [_dead(capture.fired.get(layer), gradient) for layer, gradient in gradients.items()]),
        ):
            yield record.of(torch.stack(values), layers)
        yield _FILTER.of(by_filter, layers, filters)
        yield _MAGNITUDE.of(counts, layers, bins)


def _dead(fired: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    return like.new_tensor(torch.nan) if fired is None else 1 - fired.to(like.dtype).mean()
