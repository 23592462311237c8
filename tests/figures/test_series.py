"""Curves of several runs, with their mean."""

from __future__ import annotations

import numpy as np

from lightning_emerge.figures.canvas import to_pixels
from lightning_emerge.figures.series import Chart, Line, Series, draw_charts

STEPS = [0, 5, 50]


def chart(labels: tuple[str, ...], runs: int = 0, **changes: object) -> Chart:
    lines = [Line(STEPS, np.array([0.1, 0.2, 0.3]) + k) for k in range(max(runs, 1))]
    series = [Series(label, lines[0], lines if runs else ()) for label in labels]
    return Chart("one", "share", series, **changes)


def test_each_run_is_thin_and_their_mean_thick():
    (axes,) = draw_charts([chart(("a",), runs=3)], "title").axes
    widths = sorted(line.get_linewidth() for line in axes.get_lines())
    assert len(widths) == 4
    assert widths[2] < widths[3]
    assert axes.get_ylabel() == "share"


def test_a_legend_names_the_curves_if_there_are_several():
    figure = draw_charts([chart(("a", "b")), chart(("a", "b"))], "title")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
    assert draw_charts([chart(("",))], "title").legends == []


def test_curves_that_the_first_chart_lacks_have_colours_and_names_of_their_own():
    figure = draw_charts([chart(("a", "c")), chart(("b", "c"))], "title")
    colours = [{line.get_label(): line.get_color() for line in axes.get_lines()} for axes in figure.axes]
    assert len({colours[0]["a"], colours[0]["c"], colours[1]["b"]}) == 3
    assert colours[0]["c"] == colours[1]["c"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "c", "b"]


def test_colours_of_layers_run_from_dark_to_light():
    (axes,) = draw_charts([chart(("first", "middle", "last"))], "title", ordered=True).axes
    light = [sum(line.get_color()[:3]) for line in axes.get_lines()]
    assert light == sorted(light)


def test_ranges_levels_and_a_logarithmic_axis():
    axes = draw_charts([chart(("a",), span=(0, 1), level=0.25), chart(("a",), log=True)], "title").axes
    low, high = axes[0].get_ylim()
    assert -0.1 < low <= 0
    assert 1 <= high < 1.1
    assert 0.25 in np.asarray(axes[0].get_lines()[-1].get_ydata())
    assert axes[1].get_yscale() == "log"
    assert axes[0].get_xlim()[0] > -1  # the line of a level does not widen the axis of steps


def test_three_charts_of_numbers_that_are_missing_can_be_drawn():
    empty = Chart("none", "1", [Series("a", Line([0], np.array([np.nan])))], log=True)
    figure = draw_charts([empty, empty, empty], "title")
    assert len(np.unique(to_pixels(figure).reshape(-1, 3), axis=0)) > 5
