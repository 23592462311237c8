"""Charts of curves over optimizer steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lightning_emerge.figures.canvas import TOKEN_COLOURS, TOKEN_MARKERS, add_legend, new_figure
from lightning_emerge.figures.steps import scale_steps
from lightning_emerge.figures.words import NAME
from lightning_emerge.records import FloatArray, Range

_LINES = ("-", "--", "-.", ":")
_GROUPS: tuple[Any, ...] = ("-", "--", ":", "-.", (0, (8, 2)), (0, (1, 4)), (0, (8, 2, 1, 2, 1, 2)), (0, (2, 4)))
_THIN: dict[str, Any] = {"linewidth": 0.7, "alpha": 0.45}
_SIZES = {1: (7.6, 3.1), 2: (4.4, 2.6)}  # inches of a chart, by columns
_SMALL = (2.9, 2.2)  # where there are more columns
_BAND = "0.88"


@dataclass(frozen=True)
class Line:
    """Values over steps.

    Attributes:
        steps: optimizer steps, ascending.
        values: (step,); NaN where there is none.
    """

    steps: Sequence[int]
    values: FloatArray


@dataclass(frozen=True)
class Curve:
    """One curve of a chart.

    Attributes:
        label: what it is of.
        line: what is drawn thick; of several runs, their mean.
        runs: each of several runs, drawn thin.
        group: of the runs that belong together; curves of one label have one colour, those of one group one kind of
            line.
        summary: whether it sums the others up: black, and without marks.
    """

    label: str
    line: Line
    runs: Sequence[Line] = ()
    group: str = ""
    summary: bool = False


@dataclass(frozen=True)
class Level:
    """A dotted line at one value.

    Attributes:
        value: where it is.
        label: its name in the legend, if it has one.
    """

    value: float
    label: str = ""


@dataclass(frozen=True)
class Band:
    """What lies between two values at each step.

    Attributes:
        label: its name in the legend.
        steps: optimizer steps, ascending.
        low: (step,) lower ends.
        high: (step,) upper ends.
    """

    label: str
    steps: Sequence[int]
    low: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True)
class Chart:
    """One panel.

    Attributes:
        title: what it is.
        unit: of the values.
        curves: the same label has the same colour in all charts of a figure.
        span: the fixed range of the values, or None for their own.
        log: whether the values are on a logarithmic axis, on which there is no zero.
        level: where a dotted line stands, such as chance.
        band: an area behind the curves.
    """

    title: str
    unit: str
    curves: Sequence[Curve]
    span: Range | None = None
    log: bool = False
    level: Level | None = None
    band: Band | None = None

    @property
    def lines(self) -> list[Line]:
        """All lines of all curves."""
        return [line for curve in self.curves for line in (curve.line, *curve.runs)]


def draw_charts(
    charts: Sequence[Chart],
    title: str,
    *,
    columns: int = 2,
    ordered: bool = False,
    marked: bool = False,
    sharey: bool = False,
) -> Figure:
    """Draws charts side by side, all on one axis of steps, with one legend.

    Args:
        charts: the panels.
        title: of the figure.
        columns: panels in a row at most.
        ordered: whether the curves stand in an order, as layers do: their colours then run from dark to light.
        marked: whether the looks are marked, each curve's in a shape of its own.
        sharey: whether all charts have one axis of values.
    """
    columns = min(columns, len(charts))
    rows = -(-len(charts) // columns)
    width, height = _SIZES.get(columns, _SMALL)
    figure = new_figure(max(width * columns + 0.3, 6.8), height * rows + 1.1)
    grid = list(figure.subplots(rows, columns, squeeze=False, sharey=sharey).flat)
    ink = _Ink.of_all(charts, ordered, marked)
    last = max((step for chart in charts for line in chart.lines for step in line.steps), default=0)
    for number, (axes, chart) in enumerate(zip(grid, charts, strict=False)):
        _draw(axes, chart, ink)
        scale_steps(axes, last, named=number >= len(charts) - columns)
        if sharey and number % columns:
            axes.set_ylabel("")
    for axes in grid[len(charts) :]:
        axes.set_axis_off()
    _add_legend(figure, [*ink.handles(), *_others(charts)])
    figure.suptitle(title, fontsize=11)
    return figure


@dataclass(frozen=True)
class _Ink:
    """Colour by label, kind of line by group; of one group, by label too, where there are more than colours."""

    labels: Sequence[str]
    summaries: Sequence[str]
    groups: Sequence[str]
    ordered: bool
    marked: bool

    @classmethod
    def of_all(cls, charts: Sequence[Chart], ordered: bool, marked: bool) -> _Ink:
        # The chart with most curves has the first colours, so that tokens have theirs also beside other things.
        fullest = sorted(charts, key=lambda chart: -len(chart.curves))
        curves = [curve for chart in fullest for curve in chart.curves]
        labels, summaries = (
            list(dict.fromkeys(curve.label for curve in curves if curve.summary == wanted)) for wanted in (False, True)
        )
        return cls(labels, summaries, list(dict.fromkeys(curve.group for curve in curves)), ordered, marked)

    def style(self, curve: Curve) -> dict[str, Any]:
        """How a curve's lines are drawn, but for their width."""
        kind = _GROUPS[self.groups.index(curve.group) % len(_GROUPS)] if len(self.groups) > 1 else None
        if curve.summary:
            return {"color": "black", "linestyle": kind or "-"}
        number = self.labels.index(curve.label)
        colour = TOKEN_COLOURS[number % len(TOKEN_COLOURS)]
        if self.ordered:
            colour = colormaps["viridis"](0.9 * number / max(1, len(self.labels) - 1))
        line = "-" if self.ordered else _LINES[number // len(TOKEN_COLOURS) % len(_LINES)]
        return {"color": colour, "linestyle": kind or line}

    def mark(self, curve: Curve) -> dict[str, Any]:
        """How the looks of a curve are marked."""
        if not self.marked or curve.summary:
            return {}
        return {"marker": TOKEN_MARKERS[self.labels.index(curve.label) % len(TOKEN_MARKERS)], "markersize": 3.2}

    def handles(self) -> Iterator[Artist]:
        """What the legend shows of the curves: labels, if there are several, and groups, if there are."""
        named = [*((label, False) for label in self.labels), *((label, True) for label in self.summaries)]
        for label, summary in named if len(named) > 1 else ():
            curve = Curve(label, Line([], np.zeros(0)), group=self.groups[0], summary=summary)
            yield Line2D([], [], linewidth=_width(curve), label=label, **self.style(curve), **self.mark(curve))
        for number, group in enumerate(self.groups if len(self.groups) > 1 else ()):
            yield Line2D([], [], color="0.3", linestyle=_GROUPS[number % len(_GROUPS)], linewidth=1.7, label=group)


def _width(curve: Curve) -> float:
    return 2.2 if curve.summary else 1.7


def _draw(axes: Axes, chart: Chart, ink: _Ink) -> None:
    if chart.band is not None:
        axes.fill_between(chart.band.steps, chart.band.low, chart.band.high, color=_BAND, linewidth=0)
    for curve in chart.curves:
        style = ink.style(curve)
        for line in curve.runs:
            axes.plot(line.steps, line.values, **style, **_THIN)
        own = {**style, **ink.mark(curve), "linewidth": _width(curve), "label": curve.label}
        axes.plot(curve.line.steps, curve.line.values, **own)
    if chart.level is not None:
        axes.axhline(chart.level.value, color="0.5", linestyle=":", linewidth=1.2, label=chart.level.label)
    if chart.log and any((curve.line.values > 0).any() for curve in chart.curves):
        axes.set_yscale("log", nonpositive="mask")
    if chart.span is not None:
        limit_values(axes, *chart.span)
    axes.set_title(chart.title, fontsize=10)
    axes.set_ylabel(chart.unit, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def limit_values(axes: Axes, low: float | None, high: float | None) -> None:
    """Ends the axis of values a little beyond what there can be, and where the values do at an open end."""
    least, most = axes.get_ylim()
    if low is not None and high is None and axes.dataLim.y1 <= low:
        most = low + 1
    bottom, top = least if low is None else low, most if high is None else high
    margin = 0.03 * (top - bottom)
    axes.set_ylim(bottom - (0 if low is None else margin), top + (0 if high is None else margin))


def _others(charts: Sequence[Chart]) -> list[Artist]:
    """What the legend shows beside curves: levels and bands that have names, each once."""
    levels = dict.fromkeys(chart.level.label for chart in charts if chart.level is not None and chart.level.label)
    bands = dict.fromkeys(chart.band.label for chart in charts if chart.band is not None)
    return [
        *(Line2D([], [], color="0.5", linestyle=":", linewidth=1.2, label=label) for label in levels),
        *(Patch(color=_BAND, linewidth=0, label=label) for label in bands),
    ]


def _add_legend(figure: Figure, handles: Sequence[Artist]) -> None:
    if not handles:
        return
    longest = min(NAME, max(len(str(handle.get_label())) for handle in handles))
    widest = 0.5 + 0.075 * longest  # inches, of a line and its name
    fitting = max(1, int(figure.get_size_inches()[0] / widest))
    lines = -(-len(handles) // min(8, fitting))
    columns = -(-len(handles) // lines)
    add_legend(figure, handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)
