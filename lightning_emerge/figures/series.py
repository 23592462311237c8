"""Curves over optimizer steps, of one run or of several with their mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lightning_emerge.figures.canvas import DECADES, TOKEN_COLOURS, add_legend, new_figure, scale_steps
from lightning_emerge.figures.words import NAME
from lightning_emerge.records import FloatArray

_LINES = ("-", "--", "-.", ":")
_GROUPS: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (8, 2)), (0, (1, 4)), (0, (8, 2, 1, 2, 1, 2)), (0, (2, 4)))


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
        group: of the runs that belong together; curves of one label have one colour, those of one group one kind of
            line.
    """

    label: str
    line: Line
    runs: Sequence[Line] = ()
    group: str = ""


@dataclass(frozen=True)
class Chart:
    """One panel.

    Attributes:
        title: what it is.
        unit: of the values.
        series: its curves; the same label has the same colour in all charts of a figure.
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
    labels = list(dict.fromkeys(series.label for chart in charts for series in chart.series))
    groups = list(dict.fromkeys(series.group for chart in charts for series in chart.series))
    ink = _Ink(labels, groups, ordered)
    for axes, chart in zip(grid, charts, strict=False):
        _draw(axes, chart, ink)
    for axes in grid[len(charts) :]:
        axes.set_axis_off()
    for axes in grid[max(0, len(charts) - columns) : len(charts)]:
        axes.set_xlabel("optimizer steps", fontsize=9)
    handles = [*(ink.of_labels() if len(labels) > 1 else []), *(ink.of_groups() if len(groups) > 1 else [])]
    if handles:
        longest = min(NAME, max(len(str(handle.get_label())) for handle in handles))
        widest = 0.5 + 0.075 * longest  # inches, of a line and its name
        fitting = max(1, int(figure.get_size_inches()[0] / widest))
        count = min(6, fitting, len(handles))
        add_legend(figure, handles, loc="outside lower center", ncols=count, frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=11)
    return figure


@dataclass(frozen=True)
class _Ink:
    """Colour by label, kind of line by group; of one group, by label too, where there are more than colours."""

    labels: Sequence[str]
    groups: Sequence[str]
    ordered: bool

    def of(self, label: str, group: str) -> tuple[Any, Any]:
        number = self.labels.index(label)
        colour = TOKEN_COLOURS[number % len(TOKEN_COLOURS)]
        if self.ordered:
            colour = colormaps["viridis"](0.9 * number / max(1, len(self.labels) - 1))
        if len(self.groups) > 1:
            return colour, _GROUPS[self.groups.index(group) % len(_GROUPS)]
        return colour, "-" if self.ordered else _LINES[number // len(TOKEN_COLOURS) % len(_LINES)]

    def of_labels(self) -> list[Line2D]:
        inks = [self.of(label, self.groups[0]) for label in self.labels]
        return [
            Line2D([], [], color=colour, linestyle=style, linewidth=1.7, label=label)
            for label, (colour, style) in zip(self.labels, inks, strict=True)
        ]

    def of_groups(self) -> list[Line2D]:
        return [
            Line2D([], [], color="0.3", linestyle=self.of(self.labels[0], group)[1], linewidth=1.7, label=group)
            for group in self.groups
        ]


def _draw(axes: Axes, chart: Chart, ink: _Ink) -> None:
    for series in chart.series:
        colour, style = ink.of(series.label, series.group)
        for line in series.runs:
            axes.plot(line.steps, line.values, color=colour, linestyle=style, linewidth=0.7, alpha=0.45)
        axes.plot(
            series.line.steps, series.line.values, color=colour, linestyle=style, linewidth=1.7, label=series.label
        )
    if chart.level is not None:
        axes.axhline(chart.level, color="0.5", linestyle=":", linewidth=1.2)
    lines = [line for series in chart.series for line in (series.line, *series.runs)]
    last = max((step for line in lines for step in line.steps), default=0)
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
