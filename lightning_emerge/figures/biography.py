"""The biography of one filter: pictures and curves on one axis of steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_emerge.figures.canvas import EMPTY, TOKEN_COLOURS, TOKEN_MARKERS, add_legend
from lightning_emerge.figures.curves import Chart, limit_values
from lightning_emerge.figures.words import PlainFigure

_CELL = 0.9  # inches


@dataclass(frozen=True)
class Biography:
    """What is known of one filter.

    Attributes:
        name: of the filter, with its layer.
        columns: optimizer steps of the pictures.
        strips: name -> a picture (y, x, 3) from 0 to 1 for each column, or None where there is none.
        charts: what was measured; a chart of several curves has one for each token.
        dead: the columns at which no stimulus drove the filter.
    """

    name: str
    columns: Sequence[int]
    strips: Mapping[str, Sequence[npt.NDArray[np.floating] | None]]
    charts: Sequence[Chart]
    dead: Sequence[int] = field(default_factory=list[int])


def draw_biography(biography: Biography) -> Figure:
    """Draws a filter's biography: a row of pictures for each strip, a panel for each chart, one axis of steps.

    The axis is even from column to column, and linear in steps between two of them.
    """
    columns, strips, charts = biography.columns, biography.strips, biography.charts
    heights = [_CELL] * len(strips) + [1.15] * len(charts)
    figure = PlainFigure(figsize=(_CELL * len(columns) + 3.0, sum(heights) + 1.2), dpi=100)
    width, height = figure.get_size_inches()
    panels = figure.subplots(
        len(heights),
        squeeze=False,
        sharex=True,
        gridspec_kw={
            "height_ratios": heights,
            "left": 1.5 / width,
            "right": 1 - 1.5 / width,
            "bottom": 0.6 / height,
            "top": 1 - 0.45 / height,
            "hspace": 0.12,
        },
    )[:, 0]
    for axes, (name, pictures) in zip(panels, strips.items(), strict=False):
        _draw_strip(axes, name, pictures, [step in biography.dead for step in columns])
    for axes, chart in zip(panels[len(strips) :], charts, strict=True):
        _draw_chart(axes, chart, columns)
    panels[-1].set_xlim(-0.5, len(columns) - 0.5)
    panels[-1].set_xticks(range(len(columns)), [str(step) for step in columns])
    panels[-1].set_xlabel("optimizer steps, even from picture to picture")
    panels[0].set_title(f"Biography of {biography.name}", fontsize=11)
    return figure


def _draw_strip(
    axes: Axes, name: str, pictures: Sequence[npt.NDArray[np.floating] | None], dead: Sequence[bool]
) -> None:
    for number, picture in enumerate(pictures):
        if picture is not None:
            shown = np.where(np.isfinite(picture), picture, EMPTY).clip(0, 1)
            axes.imshow(shown, extent=(number - 0.46, number + 0.46, 0, 1), aspect="auto", interpolation="nearest")
        else:
            text = "dead" if dead[number] else ""
            axes.text(number, 0.5, text, ha="center", va="center", fontsize=8)
    axes.set_ylim(-0.04, 1.04)
    axes.set_yticks([])
    axes.tick_params(axis="x", length=0)
    axes.spines[:].set_visible(False)
    axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)


def _draw_chart(axes: Axes, chart: Chart, columns: Sequence[int]) -> None:
    several = len(chart.curves) > 1
    for k, curve in enumerate(chart.curves):
        at = np.interp(curve.line.steps, columns, np.arange(len(columns)))
        colour = TOKEN_COLOURS[k % len(TOKEN_COLOURS)] if several else "black"
        marker = TOKEN_MARKERS[k % len(TOKEN_MARKERS)] if several else "."
        axes.plot(at, curve.line.values, color=colour, marker=marker, markersize=3, linewidth=1, label=curve.label)
    if several:
        add_legend(axes, axes.lines, frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5))
    limit_values(axes, *(chart.span or (None, None)))
    axes.set_ylabel(chart.title, rotation=0, ha="right", va="center", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
