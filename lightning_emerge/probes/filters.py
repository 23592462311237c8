"""FilterProbe: the kernels of the first layer, the size of every filter, and how far each has turned."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, final

import torch
from matplotlib.figure import Figure

from lightning_emerge.figures.filters import draw_kernels
from lightning_emerge.measures.filters import filter_cosines, filter_norms, stack_layers
from lightning_emerge.probe import Probe
from lightning_emerge.records import Axis, Capture, Measurement, Needs, Past, to_array


@final
class FilterProbe(Probe):
    """Shows the first layer's kernels as a picture and measures every filter's norm and direction.

    Records `kernels` (filter, channel, y, x) of the first convolution that sees the image; and (layer, filter), with
    NaN beyond a layer's last filter: `filter_norm`, `filter_cosine_start` with the filter's weights at the first look,
    and `filter_cosine_before` with those at the look before.
    """

    needs: ClassVar = Needs(weights=True, past=True)

    def measure(self, capture: Capture) -> Iterable[Measurement]:
        source, weights = type(self).__name__, capture.weights
        norms = stack_layers(filter_norms(weight) for weight in weights.values())
        axes = (Axis("layer", capture.layers), Axis("filter", range(norms.shape[1])))
        beyond = "; NaN beyond a layer's last filter"
        about = f"Norm of each filter's weights without its bias{beyond}"
        yield Measurement("filter_norm", to_array(norms), axes, capture.step, "L2 norm of weights", source, about)
        for name, past, when in (
            ("filter_cosine_start", capture.first, "the first look"),
            ("filter_cosine_before", capture.previous, "the look before"),
        ):
            about = f"Cosine between each filter's weights and those at {when}{beyond}"
            yield Measurement(name, to_array(_cosines(capture, past)), axes, capture.step, "1", source, about)
        for layer, weight in weights.items():
            if weight.dim() == 4 and weight.shape[1] in (1, 3):
                names = ("filter", "channel", "y", "x")
                sides = tuple(Axis(name, range(size)) for name, size in zip(names, weight.shape, strict=True))
                yield Measurement("kernels", to_array(weight), sides, capture.step, "weight", source, layer)
                return

    def draw(self, measurement: Measurement) -> Figure | None:
        return draw_kernels(measurement) if measurement.name == "kernels" else None


def _cosines(capture: Capture, past: Past | None) -> torch.Tensor:
    """At a first look there is nothing but itself to compare with."""
    then = past.weights if past else capture.weights
    return stack_layers(filter_cosines(weight, then[layer]) for layer, weight in capture.weights.items())
