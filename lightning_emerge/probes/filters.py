"""FilterProbe: the kernels of the first layer, the size of every filter, and how far each has turned."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, final

import torch
from matplotlib.figure import Figure

from lightning_emerge.capture.needs import Past, Weights
from lightning_emerge.figures.filters import draw_kernels
from lightning_emerge.measures.filters import filter_cosines, filter_norms, stack_layers
from lightning_emerge.probe import Probe
from lightning_emerge.records import Axis, Capture, Measurement, PastLook, Record

_FILTERS, _BEYOND = ("layer", "filter"), "; NaN beyond a layer's last filter"
_NORM = Record(
    "filter_norm",
    _FILTERS,
    "L2 norm of weights",
    (0, None),
    about=f"Norm of each filter's weights without its bias{_BEYOND}",
)
_START, _LAST = (
    Record(
        f"filter_cosine_{end}",
        _FILTERS,
        range=(-1, 1),
        scale="diverging",
        about=f"Cosine between each filter's weights and those at {when}{_BEYOND}",
    )
    for end, when in (("start", "the first look"), ("before", "the look before"))
)
_KERNELS = Record(
    "kernels",
    ("layer", "filter", "channel", "y", "x"),
    "weight",
    scale="diverging",
    about="Kernels of the first convolution that sees the image",
)


@final
class FilterProbe(Probe):
    """Shows the first layer's kernels as a picture and measures every filter's norm and direction.

    Records `kernels` (layer, filter, channel, y, x) of the first convolution that sees the image, its one layer; and
    (layer, filter), with NaN beyond a layer's last filter: `filter_norm`, `filter_cosine_start` with the filter's
    weights at the first look, and `filter_cosine_before` with those at the look before.
    """

    needs: ClassVar = (Weights(), Past())
    records: ClassVar = (_NORM, _START, _LAST, _KERNELS)

    def measure(self, capture: Capture) -> Iterable[Measurement]:
        weights = capture.weights
        norms = stack_layers(filter_norms(weight) for weight in weights.values())
        axes = (Axis("layer", capture.layers), Axis("filter", range(norms.shape[1])))
        yield _NORM.of(norms, *axes)
        yield _START.of(_cosines(capture, capture.first), *axes)
        yield _LAST.of(_cosines(capture, capture.previous), *axes)
        for layer, weight in weights.items():
            if weight.dim() == 4 and weight.shape[1] in (1, 3):
                names = ("filter", "channel", "y", "x")
                sides = tuple(Axis(name, range(size)) for name, size in zip(names, weight.shape, strict=True))
                yield _KERNELS.of(weight[None], Axis("layer", [layer]), *sides)
                return

    def draw(self, measurement: Measurement) -> Figure | None:
        return draw_kernels(measurement) if measurement.name == _KERNELS.name else None


def _cosines(capture: Capture, past: PastLook | None) -> torch.Tensor:
    """At a first look there is nothing but itself to compare with."""
    then = past.weights if past else capture.weights
    return stack_layers(filter_cosines(weight, then[layer]) for layer, weight in capture.weights.items())
