"""A timeline: what emerged when, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple, TypeAlias

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_emerge.figures.canvas import TOKEN_COLOURS, TOKEN_MARKERS, new_figure
from lightning_emerge.figures.steps import STEPS, scale_steps

_TITLES = {
    "token": "tokens\n(probability of the right one)",
    "layer": "tokens read out of layers\n(ridge accuracy)",
    "part": "parts told by one filter\n(AUC, cross-validated)",
    "pair": "pairs told by one filter\n(AUC, cross-validated)",
    "conjunction": "conjunctions told by one filter\n(AUC, cross-validated)",
    "grammar": "couplings that follow the grammar\n(AUC)",
    "coupling": "coupled layers\n(share of effective edges)",
}


Span: TypeAlias = tuple[float, float, float]
"""A step, and where its 95% interval begins and ends."""


class Row(NamedTuple):
    """One line of a timeline.

    Attributes:
        group: what it is of.
        name: what it is of in the group.
        onset: None for what has not emerged.
        mastery: None for what has not emerged, or not settled.
        never: whether it surely has not emerged; else these looks do not tell.
    """

    group: str
    name: str
    onset: Span | None
    mastery: Span | None
    never: bool


def draw_rows(rows: Sequence[Row], last: int) -> Figure:
    """Draws when things emerged: a panel for each group, a line for each thing, with its 95% intervals.

    An onset is a full mark, a mastery a hollow one, and a thin line joins the two. What never emerged says so, and has
    no line; what these looks do not resolve has a dotted one from end to end.

    Args:
        rows: in the order in which they are drawn, those of a group together.
        last: optimizer steps at the last look.
    """
    groups = [(name, list(own)) for name, own in groupby(rows, key=lambda row: row.group)]
    heights = [len(own) + 1.2 for _, own in groups]
    figure = new_figure(8.4, 0.19 * sum(heights) + 1.1)
    grid = figure.subplots(len(groups), squeeze=False, sharex=True, gridspec_kw={"height_ratios": heights})[:, 0]
    for number, (axes, (name, own)) in enumerate(zip(grid, groups, strict=True)):
        colour, marker = TOKEN_COLOURS[number % len(TOKEN_COLOURS)], TOKEN_MARKERS[number % len(TOKEN_MARKERS)]
        for at, row in enumerate(own):
            _draw_row(axes, at, row, colour, marker)
        axes.set_yticks(range(len(own)), [row.name for row in own], fontsize=7)
        axes.set_ylim(len(own) - 0.4, -0.6)
        axes.set_title(_TITLES.get(name, name).replace("\n", " "), fontsize=8, loc="left")
        axes.grid(axis="x", color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    scale_steps(grid[-1], last, named=False)
    grid[-1].set_xlabel(f"{STEPS}; full: onset, hollow: mastery, bars: 95% intervals", fontsize=9)
    grid[-1].tick_params(axis="x", labelsize=8)
    figure.suptitle("When each left its baseline, and came near its final level, for good", fontsize=11)
    return figure


def _draw_row(axes: Axes, at: int, row: Row, colour: str, marker: str) -> None:
    if row.onset is None:
        said = "never" if row.never else "not resolved"
        axes.text(1.01, at, said, transform=axes.get_yaxis_transform(), fontsize=7, va="center")
        if not row.never:
            axes.axhline(at, color="0.6", linewidth=1, linestyle=":")
        return
    step, low, high = row.onset
    axes.plot([low, high], [at, at], color=colour, linewidth=2.6, alpha=0.55, solid_capstyle="butt")
    axes.plot([step], [at], marker, color=colour, markersize=4.5)
    if row.mastery is None:
        axes.text(1.01, at, "not settled", transform=axes.get_yaxis_transform(), fontsize=7, va="center")
        return
    end, low, high = row.mastery
    axes.plot([low, high], [at, at], color=colour, linewidth=2.6, alpha=0.3, solid_capstyle="butt")
    axes.plot([step, end], [at, at], color=colour, linewidth=0.7, zorder=1)
    axes.plot([end], [at], marker, color=colour, markersize=4.5, markerfacecolor="white")
