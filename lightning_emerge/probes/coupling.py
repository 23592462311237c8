"""CouplingProbe: which filters of a convolution drive which filters of the next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import ClassVar, Literal, final

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import pad

from lightning_emerge.capture import find_convolution, find_weights, is_convolution
from lightning_emerge.capture.layers import MOST, evenly
from lightning_emerge.capture.needs import Filters, Followers, Inputs, Pooled, Weights
from lightning_emerge.figures.coupling import Graph, draw_graph
from lightning_emerge.measures.coupling import KINDS, count_edges, coupling_strengths, spread_stimuli
from lightning_emerge.measures.selectivity import preferred_tokens
from lightning_emerge.probe import Probe
from lightning_emerge.records import Axis, Capture, Measurement, Record, to_array
from lightning_emerge.records.names import join_pair, split_pair
from lightning_emerge.schedules import LogSpaced, Schedule

_NONE = (
    "CouplingProbe looks at two convolutions or more that follow each other, the second with as many inputs as the "
    "first has filters; among {} there are none. Name other layers."
)
_UNIT = "standard deviations of the null"
_EDGES = ("pair", "filter_out", "filter_in")
_STRENGTHS = {
    "weight": Record(
        "coupling_weight",
        _EDGES,
        _UNIT,
        scale="diverging",
        about="Norm of the kernel from a filter to one of the next layer, against weights in random order",
    ),
    "effective": Record(
        "coupling_effective",
        _EDGES,
        _UNIT,
        scale="diverging",
        about="What a filter adds to one of the next layer where that is above zero, against weights in random order",
    ),
}
_ACTIVATION = Record(
    "coupling_activation",
    _EDGES,
    "Pearson r",
    (-1, 1),
    "diverging",
    "Correlation of a filter and one of the next layer at the same place, given the place: what goes together, and no "
    "edge",
)
_THRESHOLD = Record(
    "coupling_threshold",
    ("pair", "kind"),
    _UNIT,
    (0, None),
    about="Smallest size of a strength that counts at a false-discovery rate of 5%",
)
_COUNTED = Record("coupling_edges", ("pair", "kind"), "share", (0, 1), about="Share of the possible edges that count")


@final
class CouplingProbe(Probe):
    """Measures which filters of a convolution drive which filters of the next: a directed graph at each look.

    Records (pair, filter_out, filter_in) `coupling_weight` and `coupling_effective`: the strength of each possible edge
    in standard deviations of its null, the same filters with their weights in random order; NaN where there is no such
    filter, or one that is silent. `coupling_threshold` (pair, kind) is the smallest size of a strength that counts at a
    false-discovery rate of 5%, NaN if none does, and `coupling_edges` (pair, kind) the share of possible edges that
    count. What the kinds say, and how much of what was planted each finds, is in the documentation. By weight, kernels
    of one weight have NaN, as they are the same in any order. By effect nothing is found where fewer than about 3 edges
    of a layer of 16 filters, 5 of one of 32 or 10 of a wider one lie beyond all of the null.

    `coupling_activation` is the correlation of the two filters, -1 to 1, which describes and claims no edge.

    A pair is two of the probe's layers that follow each other, both convolutions, if the second has as many inputs as
    the first has filters. In a network with branches, name the layers of one way through it. What the probe sees of a
    layer is the module of that name: name blocks with their batch norm and ReLU where there are any. Of a bare Conv2d
    it sees neither, so that its effect is that on the sum before them, wherever the filter is above zero or below.

    Args:
        schedule: as for any probe; `LogSpaced(5)` if none is given.
        layers: as for any probe. Those that are no convolutions are left out, and if none are given,
            those with groups and those that cannot be described; two that lie on both sides of such a layer are no
            pair. If none are given and there are more than 20, ten pairs are chosen, evenly over depth.
        stimuli: of how many stimuli of the bank, spread evenly over it, at least 2; one of each token in any case. The
            orders of the weights make strengths uncertain, not the stimuli, so that more of them change little.
        seed: of the orders, the same at every look.
        on_error: as for any probe.

    Raises:
        ValueError: if there are fewer than 2 stimuli.
    """

    needs: ClassVar = (Pooled(), Filters(), Inputs(), Weights(), Followers())
    records: ClassVar = (*_STRENGTHS.values(), _ACTIVATION, _THRESHOLD, _COUNTED)

    def __init__(
        self,
        schedule: Schedule | None = None,
        layers: Sequence[str] | None = None,
        stimuli: int = 50,
        seed: int = 0,
        on_error: Literal["report", "raise"] = "report",
    ) -> None:
        super().__init__(schedule or LogSpaced(5), layers, on_error)
        if stimuli < 2:
            raise ValueError(f"CouplingProbe: stimuli is at least 2; got {stimuli}.")
        self.stimuli, self.seed = stimuli, seed

    def check(self, module: nn.Module) -> tuple[str, ...]:
        named, chosen = self.find_layers(module), self.layers is not None
        layers = tuple(layer for layer in named if is_convolution(module, layer, grouped=chosen))
        for layer in layers if chosen else ():  # of the others, those that do not fit are left out
            find_convolution(module, layer)
        weights = find_weights(module, layers)
        if not _fitting(pairwise(named), {layer: weight.read().shape for layer, weight in weights.items()}):
            raise ValueError(_NONE.format(", ".join(named)))
        return layers

    def choose(self, module: nn.Module, layers: tuple[str, ...]) -> tuple[str, ...]:
        if self.layers is not None or len(layers) <= MOST:
            return layers
        shapes = {layer: weight.read().shape for layer, weight in find_weights(module, layers).items()}
        pairs = _fitting(pairwise(self.find_layers(module)), shapes)
        kept = {layer for number in evenly(range(len(pairs)), MOST // 2) for layer in pairs[number]}
        return tuple(layer for layer in layers if layer in kept)

    def measure(self, capture: Capture) -> Iterable[Measurement]:
        bank = capture.bank
        assert bank is not None
        generator = torch.Generator().manual_seed(self.seed)
        pairs = _fitting(capture.followers, {layer: weight.shape for layer, weight in capture.weights.items()})
        if not pairs:
            raise ValueError(_NONE.format(", ".join(capture.layers)))
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        for _, layer in pairs:
            inputs = capture.inputs[layer]
            chosen = spread_stimuli(bank.labels.to(inputs.device), self.stimuli)
            weight, convolution = capture.weights[layer].float(), capture.convolutions[layer]
            found.append(coupling_strengths(inputs[chosen], weight, convolution, generator))
        size = max(max(part.shape) for part, _, _ in found)
        strengths = torch.stack([_widened(part, size) for part, _, _ in found])
        thresholds = torch.stack([least for _, least, _ in found])
        together = torch.stack([_widened(part, size) for _, _, part in found])
        sizes = [capture.weights[layer].shape[:2] for _, layer in pairs]
        filters = {f"filters_{end}": [each[k] for each in sizes] for k, end in enumerate(("out", "in"))}
        pair = Axis("pair", [join_pair(*pair) for pair in pairs], notes=filters)
        axes = (pair, Axis("filter_out", range(size)), Axis("filter_in", range(size)))
        beside = {"tokens": np.array(bank.tokens), "preferred": _preferred(capture, pairs, size)}
        for number, kind in enumerate(KINDS):
            more = {**beside, "threshold": to_array(thresholds[:, number])}
            yield _STRENGTHS[kind].of(strengths[:, number], *axes, beside=more)
        yield _ACTIVATION.of(together, *axes, beside=beside)
        kinds = Axis("kind", KINDS)
        yield _THRESHOLD.of(thresholds, pair, kinds)
        counted = [count_edges(strengths[:, k], thresholds[:, k], kind) for k, kind in enumerate(KINDS)]
        shares = torch.stack(counted, dim=1).sum(dim=(2, 3)) / strengths.isfinite().sum(dim=(2, 3))
        yield _COUNTED.of(shares, pair, kinds)

    def draw(self, measurement: Measurement) -> Figure | None:
        if measurement.name != _STRENGTHS["effective"].name:
            return None
        strengths, least = measurement.values, measurement.beside["threshold"][:, None, None]
        counted = np.where(np.abs(strengths) >= least, strengths, 0)
        pairs = [split_pair(str(label)) for label in measurement.axes[0].labels]
        layers = list(dict.fromkeys(layer for pair in pairs for layer in pair))
        preferred = dict(zip(layers, measurement.beside["preferred"], strict=True))
        edges = {(before, layer): part for (before, layer), part in zip(pairs, counted, strict=True)}
        tokens = [str(token) for token in measurement.beside["tokens"]]
        return draw_graph(Graph(preferred, edges, tokens), f"Effective couplings, step {measurement.step}")


def _fitting(followers: Iterable[tuple[str, str]], shapes: Mapping[str, Sequence[int]]) -> list[tuple[str, str]]:
    """Those of layers that follow each other which fit, by the shapes of the convolutions' weights."""
    both = [(a, b) for a, b in followers if a in shapes and b in shapes]
    return [(a, b) for a, b in both if shapes[b][1] == shapes[a][0]]


def _widened(strengths: Tensor, size: int) -> Tensor:
    return pad(strengths, (0, size - strengths.shape[-1], 0, size - strengths.shape[-2]), value=torch.nan)


def _preferred(capture: Capture, pairs: Sequence[tuple[str, str]], size: int) -> np.ndarray:
    """The token (layer, filter) that each filter of the layers in pairs prefers: its label, -1 if there is none.

    NaN beyond a layer's last filter.
    """
    assert capture.bank is not None
    found: list[Tensor] = []
    for layer in dict.fromkeys(layer for pair in pairs for layer in pair):
        rows = capture.pooled[layer]
        preferred = preferred_tokens(rows, capture.bank.labels.to(rows.device)).float()
        found.append(pad(preferred, (0, size - len(preferred)), value=torch.nan))
    return to_array(torch.stack(found))
