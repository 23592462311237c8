"""Pictures of stimuli as points in a plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Affine2D

from lightning_emerge.figures.canvas import TOKEN_COLOURS, TOKEN_MARKERS, add_legend, new_figure
from lightning_emerge.figures.frames import Frame, reused
from lightning_emerge.records import FloatArray


@dataclass(frozen=True)
class Panel:
    """One plane of points.

    Attributes:
        title: what it is, and how far to trust it.
        points: (stimulus, 2); NaN if there is none.
    """

    title: str
    points: FloatArray


def draw_planes(panels: Sequence[Panel], tokens: Sequence[str], title: str) -> Figure:
    """Draws planes of points, each stimulus in the colour and with the marker of its token.

    Args:
        panels: the planes.
        tokens: token of each stimulus.
        title: of the figure.
    """
    figure = _frame(len(panels), tuple(tokens))
    figure.moving[0].set_text(title)
    for axes, panel in zip(figure.axes, panels, strict=False):
        _show(axes, panel, tokens)
    return figure


@reused
def _frame(count: int, tokens: tuple[str, ...]) -> Frame:
    """All but the points of `draw_planes`."""
    columns = min(4, count)
    rows = -(-count // columns)
    figure = Frame(2.3 * columns, 2.4 * rows + 0.8)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    figure.moving = [figure.suptitle("step", fontsize=10)]
    for axes in grid[:count]:
        _make_plane(axes, tokens)
        figure.moving += [axes.title, *axes.collections]
    for axes in grid[count:]:
        axes.set_axis_off()
    _legend(figure, tokens)
    return figure


@dataclass(frozen=True)
class Journey:
    """One layer over the steps.

    Attributes:
        panels: its planes at some steps.
        path: the centres of its tokens (step, token, 2), the tokens in the order of their first stimulus.
        ends: its stimuli (stimulus, 2) at the last step, in the plane of the path.
    """

    panels: Sequence[Panel]
    path: FloatArray
    ends: FloatArray


def draw_journeys(journeys: Mapping[str, Journey], tokens: Sequence[str]) -> Figure:
    """Draws, for each layer, its planes at some steps and the paths of its tokens' centres over all steps.

    Args:
        journeys: by layer.
        tokens: token of each stimulus.
    """
    columns = max(len(journey.panels) for journey in journeys.values()) + 1
    figure = new_figure(2.1 * columns + 0.3, 2.25 * len(journeys) + 0.7)
    grid = figure.subplots(len(journeys), columns, squeeze=False)
    for line, (layer, journey) in zip(grid, journeys.items(), strict=True):
        for axes, panel in zip(line, journey.panels, strict=False):
            _make_plane(axes, tokens)
            _show(axes, panel, tokens)
        line[0].set_ylabel(layer, fontsize=10)
        _draw_paths(line[-1], journey)
    _legend(figure, tokens)
    return figure


def _make_plane(axes: Axes, tokens: Sequence[str]) -> None:
    """Makes room for a title and the points of each token, for `_show` to fill."""
    axes.set(xlim=(-1.08, 1.08), ylim=(-1.08, 1.08))
    _bare(axes, "title")
    axes.set_aspect("equal")
    appearances = zip(cycle(TOKEN_COLOURS), cycle(TOKEN_MARKERS), dict.fromkeys(tokens), strict=False)
    for colour, marker, name in appearances:
        axes.scatter([], [], s=7, color=colour, marker=marker, linewidths=0, alpha=0.8, label=name)


def _show(axes: Axes, panel: Panel, tokens: Sequence[str]) -> None:
    """Puts points in a plane, all in view, on one scale in both directions."""
    axes.title.set_text(panel.title)
    known = panel.points[np.isfinite(panel.points).all(axis=1)]
    low, high = (known.min(axis=0), known.max(axis=0)) if len(known) else np.array([[-1.0] * 2, [1.0] * 2])
    place = Affine2D().translate(*-(low + high) / 2).scale(2 / ((high - low).max() or 1))
    names = np.array(tokens)
    for points in axes.collections:
        points.set_offsets(panel.points[names == points.get_label()])
        points.set_offset_transform(place + axes.transData)


def _draw_paths(axes: Axes, journey: Journey) -> None:
    axes.scatter(*journey.ends.T, s=4, color="0.85", linewidths=0)
    for number in range(journey.path.shape[1]):
        colour = TOKEN_COLOURS[number % len(TOKEN_COLOURS)]
        axes.plot(*journey.path[:, number].T, "-", color=colour, linewidth=1.2)
        axes.plot(*journey.path[-1, number], TOKEN_MARKERS[number % len(TOKEN_MARKERS)], color=colour, markersize=6)
    _bare(axes, "paths of the tokens' centres")
    axes.set_aspect("equal", "datalim")


def _bare(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=8)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color("0.8")


def _legend(figure: Figure, tokens: Sequence[str]) -> None:
    handles, count = figure.axes[0].collections, min(8, len(dict.fromkeys(tokens)))
    style = {"loc": "outside lower center", "ncols": count, "frameon": False, "fontsize": 9, "markerscale": 2}
    add_legend(figure, handles, **style)
