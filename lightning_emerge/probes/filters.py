"""FilterProbe: the kernels of the first layer and the size of every filter."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, final

import torch
from matplotlib.figure import Figure
from torch.nn.functional import pad

from lightning_emerge.figures.kernels import draw_kernels
from lightning_emerge.measures.filters import filter_norms
from lightning_emerge.probe import Probe
from lightning_emerge.records import Axis, Capture, Measurement, Needs, to_array


@final
class FilterProbe(Probe):
    """Shows the first layer's kernels as a picture and measures the norm of each layer's filters.

    Records `kernels` (filter, channel, y, x) of the first convolution that sees the image, and `filter_norm`
    (layer, filter), with NaN beyond a layer's last filter.
    """

    needs: ClassVar = Needs(weights=True)

    def measure(self, capture: Capture) -> Iterable[Measurement]:
        source = type(self).__name__
        norms = [filter_norms(weight) for weight in capture.weights.values()]
        widest = max(len(row) for row in norms)
        padded = torch.stack([pad(row, (0, widest - len(row)), value=torch.nan) for row in norms])
        yield Measurement(
            "filter_norm",
            to_array(padded),
            (Axis("layer", capture.layers), Axis("filter", range(widest))),
            capture.step,
            "L2 norm of weights",
            source,
            "Norm of each filter's weights without its bias; NaN beyond a layer's last filter",
        )
        for layer, weight in capture.weights.items():
            if weight.dim() == 4 and weight.shape[1] in (1, 3):
                names = ("filter", "channel", "y", "x")
                axes = tuple(Axis(name, range(size)) for name, size in zip(names, weight.shape, strict=True))
                yield Measurement("kernels", to_array(weight), axes, capture.step, "weight", source, layer)
                return

    def draw(self, measurement: Measurement) -> Figure | None:
        return draw_kernels(measurement) if measurement.name == "kernels" else None
