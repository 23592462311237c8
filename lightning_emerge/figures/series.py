"""Curves over optimizer steps, of one run or of several with their mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lightning_emerge.figures.canvas import DECADES, TOKEN_COLOURS, add_legend, new_figure, scale_steps
from lightning_emerge.figures.words import NAME
from lightning_emerge.records import FloatArray

_LINES = ("-", "--", "-.", ":")


@dataclass(frozen=True)
class Line:
    """Values over steps.

    Attributes:
        steps: optimizer steps, ascending.
        values: (step,).
    """

    steps: Sequence[int]
    values: FloatArray


@dataclass(frozen=True)
class Series:
    """One curve of a chart.

    Attributes:
        label: what it is of.
        line: what is drawn thick; of several runs, their mean.
        runs: each of several runs, drawn thin.
    """

    label: str
    line: Line
    runs: Sequence[Line] = ()


@dataclass(frozen=True)
class Chart:
    """One panel.

    Attributes:
        title: what it is.
        unit: of the values.
        series: its curves; those of all charts of a figure have the same labels.
        span: the fixed range of the values, or None for their own.
        log: whether the values are on a logarithmic axis, on which there is no zero.
        level: where a dotted line stands, such as chance.
    """

    title: str
    unit: str
    series: Sequence[Series]
    span: tuple[float, float] | None = None
    log: bool = False
    level: float | None = None


def draw_charts(charts: Sequence[Chart], title: str, *, ordered: bool = False) -> Figure:
    """Draws charts side by side over one axis of steps, linear to 10 and logarithmic beyond.

    Args:
        charts: the panels.
        title: of the figure.
        ordered: whether the curves stand in an order, as layers do: their colours then run from dark to light.
    """
    columns = min(2, len(charts))
    rows = -(-len(charts) // columns)
    figure = new_figure(max(4.4 * columns + 0.3, 6.8), 2.6 * rows + 1.1)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    drawn = [_draw(axes, chart, ordered) for axes, chart in zip(grid, charts, strict=False)]
    handles = drawn[0]
    for axes in grid[len(charts) :]:
        axes.set_axis_off()
    for axes in grid[max(0, len(charts) - columns) : len(charts)]:
        axes.set_xlabel("optimizer steps", fontsize=9)
    if len(handles) > 1:
        longest = min(NAME, max(len(series.label) for series in charts[0].series))
        widest = 0.5 + 0.075 * longest  # inches, of a line and its name
        fitting = max(1, int(figure.get_size_inches()[0] / widest))
        count = min(6, fitting, len(handles))
        add_legend(figure, handles, loc="outside lower center", ncols=count, frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=11)
    return figure


def _draw(axes: Axes, chart: Chart, ordered: bool) -> list[Line2D]:
    """Draws a panel; gives the line of each series."""
    lines: list[Line2D] = []
    for number, series in enumerate(chart.series):
        colour, style = _ink(number, len(chart.series), ordered)
        for line in series.runs:
            axes.plot(line.steps, line.values, style, color=colour, linewidth=0.7, alpha=0.45)
        lines += axes.plot(
            series.line.steps, series.line.values, style, color=colour, linewidth=1.7, label=series.label
        )
    if chart.level is not None:
        axes.axhline(chart.level, color="0.5", linestyle=":", linewidth=1.2)
    last = max((step for series in chart.series for step in series.line.steps), default=0)
    scale_steps(axes, last, DECADES)
    axes.set_xlim(-0.3, last * 1.1 + 0.5)
    if chart.log and any((series.line.values > 0).any() for series in chart.series):
        axes.set_yscale("log", nonpositive="mask")
    if chart.span is not None:
        low, high = chart.span
        axes.set_ylim(low - 0.03 * (high - low), high + 0.03 * (high - low))
    axes.set_title(chart.title, fontsize=10)
    axes.set_ylabel(chart.unit, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return lines


def _ink(number: int, count: int, ordered: bool) -> tuple[object, str]:
    if ordered:
        return colormaps["viridis"](0.9 * number / max(1, count - 1)), "-"
    return TOKEN_COLOURS[number % len(TOKEN_COLOURS)], _LINES[number // len(TOKEN_COLOURS) % len(_LINES)]
