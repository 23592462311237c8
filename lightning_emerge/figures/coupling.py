"""Graphs of coupled filters, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lightning_emerge.figures.canvas import EMPTY, TOKEN_COLOURS, TOKEN_MARKERS, add_legend, new_figure
from lightning_emerge.records import FloatArray

STRONGEST = 300
"""So many edges are drawn at most; more cannot be told apart."""

_FULL = 15.0  # standard deviations at which a line is as wide as it gets
_MORE, _LESS = "#404040", "#8E44AD"


@dataclass(frozen=True)
class Graph:
    """Filters and the edges between them.

    Attributes:
        preferred: layer -> (filter,) label of the token that each filter prefers, below 0 if none; NaN is no filter.
            Layers in the network's order.
        edges: (layer, next layer) -> (filter of the next, filter) strength of each edge; 0 or NaN where there is none.
        tokens: names of the tokens.
    """

    preferred: Mapping[str, FloatArray]
    edges: Mapping[tuple[str, str], FloatArray]
    tokens: Sequence[str]


def draw_graph(graph: Graph, title: str) -> Figure:
    """Draws filters in columns, a layer each, in the order of their numbers, and the strongest edges between them.

    A filter has the same place at every step. Its colour is the token that it prefers. Lines are as wide as the edge is
    strong, on a range that is the same at every step.
    """
    layers = list(graph.preferred)
    figure = new_figure(max(5.0, 0.85 * len(layers) + 1.6), 6.4)
    axes = figure.subplots()
    places = {layer: _places(column, graph.preferred[layer]) for column, layer in enumerate(layers)}
    total, drawn = _draw_edges(axes, graph, places)
    for layer in layers:
        _draw_filters(axes, places[layer], graph.preferred[layer], len(graph.tokens))
    axes.set_xticks(range(len(layers)), layers, rotation=45 if len(layers) > 6 else 0, fontsize=9)
    axes.set_yticks([])
    axes.set_xlim(-0.4, len(layers) - 0.6)
    axes.set_ylim(1.02, -0.02)
    axes.set_ylabel("filters of the layer, the first at the top")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    few = f"{drawn} strongest of {total} edges" if drawn < total else f"{total} edges"
    axes.set_title(f"{title}: {few}", fontsize=11)
    add_legend(figure, _legend(graph.tokens), loc="outside right center", frameon=False, fontsize=9)
    return figure


def _places(column: int, preferred: FloatArray) -> npt.NDArray[np.float64]:
    """Points (filter, 2), spread over the whole height."""
    count = int(np.isfinite(preferred).sum())
    return np.stack([np.full(count, float(column)), (np.arange(count) + 0.5) / max(1, count)], axis=1)


def _draw_edges(axes: Axes, graph: Graph, places: Mapping[str, npt.NDArray[np.float64]]) -> tuple[int, int]:
    """Draws the strongest edges, the weaker ones first; gives how many there are and how many are drawn."""
    lines: list[npt.NDArray[np.float64]] = [np.zeros((0, 2, 2))]
    sizes: list[FloatArray] = [np.zeros(0)]
    for (before, after), strengths in graph.edges.items():
        to, fro = np.nonzero(np.nan_to_num(strengths))
        lines.append(np.stack([places[before][fro], places[after][to]], axis=1))
        sizes.append(strengths[to, fro])
    every, size = np.concatenate(lines), np.concatenate(sizes)
    chosen = np.argsort(np.abs(size), kind="stable")[-STRONGEST:]
    for sign, colour, style in ((1, _MORE, "solid"), (-1, _LESS, "dashed")):
        own = chosen[size[chosen] * sign > 0]
        if not len(own):
            continue
        share = np.minimum(np.abs(size[own]) / _FULL, 1)
        axes.add_collection(
            LineCollection(
                list(every[own]),
                colors=colour,
                linestyles=style,
                linewidths=0.3 + 1.1 * share,
                alpha=0.2 + 0.5 * share,
                zorder=1,
            )
        )
    return len(size), len(chosen)


def _draw_filters(axes: Axes, points: npt.NDArray[np.float64], preferred: FloatArray, tokens: int) -> None:
    labels = preferred[: len(points)].astype(int)
    area = 30.0 if len(points) <= 32 else 12.0
    for label in range(-1, tokens):
        own = points[labels == label]
        colour, marker = _appearance(label)
        axes.scatter(own[:, 0], own[:, 1], s=area, color=colour, marker=marker, linewidths=0, zorder=2)


def _appearance(label: int) -> tuple[str, str]:
    if label < 0:
        return str(EMPTY), "o"
    return TOKEN_COLOURS[label % len(TOKEN_COLOURS)], TOKEN_MARKERS[label % len(TOKEN_MARKERS)]


def _legend(tokens: Sequence[str]) -> list[Line2D]:
    names = {**dict(enumerate(tokens)), -1: "none (silent)"}
    appearances = [(name, *_appearance(label)) for label, name in names.items()]
    return [
        *(
            Line2D([], [], linestyle="", marker=marker, color=colour, label=name)
            for name, colour, marker in appearances
        ),
        Line2D([], [], color=_MORE, label="more than\nby chance"),
        Line2D([], [], color=_LESS, linestyle="dashed", label="less than\nby chance"),
    ]
