"""Charts of curves over steps: what is drawn where, in which colour, and what is named."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lightning_emerge.figures.canvas import TOKEN_COLOURS, to_pixels
from lightning_emerge.figures.curves import Band, Chart, Curve, Level, Line, draw_charts
from lightning_emerge.figures.steps import STEPS as NAME

STEPS = [0, 5, 50]
VALUES = np.array([0.1, 0.2, 0.3])


def chart(labels: tuple[str, ...], runs: int = 0, **changes: object) -> Chart:
    lines = [Line(STEPS, VALUES + k) for k in range(max(runs, 1))]
    curves = [Curve(label, lines[0], lines if runs else ()) for label in labels]
    return Chart("one", "share", curves, **changes)


def curves_of(axes: Axes) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in axes.get_lines()}


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_each_run_is_thin_and_their_mean_thick():
    (axes,) = draw_charts([chart(("a",), runs=3)], "title").axes
    *runs, mean = axes.get_lines()
    assert [line.get_ydata().tolist() for line in runs] == [(VALUES + k).tolist() for k in range(3)]
    assert max(line.get_linewidth() for line in runs) < mean.get_linewidth()
    assert axes.get_ylabel() == "share"


def test_a_legend_names_the_curves_if_there_are_several():
    assert legend(draw_charts([chart(("a", "b")), chart(("a", "b"))], "title")) == ["a", "b"]
    assert draw_charts([chart(("",))], "title").legends == []


def test_curves_that_the_first_chart_lacks_have_colours_and_names_of_their_own():
    figure = draw_charts([chart(("a", "c")), chart(("b", "c"))], "title")
    colours = [{label: line.get_color() for label, line in curves_of(axes).items()} for axes in figure.axes]
    assert len({colours[0]["a"], colours[0]["c"], colours[1]["b"]}) == 3
    assert colours[0]["c"] == colours[1]["c"]
    assert legend(figure) == ["a", "c", "b"]


def test_tokens_have_their_colours_also_where_another_chart_comes_first():
    figure = draw_charts([chart(("weight", "effective")), chart(("dax", "wug", "fep"))], "title", marked=True)
    tokens = [line.get_color() for line in figure.axes[1].get_lines()]
    assert tokens == list(TOKEN_COLOURS[:3])
    assert [line.get_color() for line in figure.axes[0].get_lines()] == list(TOKEN_COLOURS[3:5])


def test_curves_of_one_label_have_one_colour_and_those_of_one_group_one_kind_of_line():
    curves = [Curve(label, Line(STEPS, VALUES), group=group) for label in "ab" for group in ("seeds", "other")]
    figure = draw_charts([Chart("one", "share", curves)], "title")
    drawn = {(c.label, c.group): line for c, line in zip(curves, figure.axes[0].get_lines(), strict=True)}
    for (label, group), line in drawn.items():
        assert line.get_color() == TOKEN_COLOURS["ab".index(label)]
        assert line.get_linestyle() == {"seeds": "-", "other": "--"}[group]
    assert legend(figure) == ["a", "b", "seeds", "other"]


def test_colours_of_layers_run_from_dark_to_light():
    (axes,) = draw_charts([chart(("first", "middle", "last"))], "title", ordered=True).axes
    light = [sum(line.get_color()[:3]) for line in axes.get_lines()]
    assert light == sorted(light)
    assert light[-1] - light[0] > 0.5


def test_a_summary_is_black_and_takes_no_other_curves_colour():
    curves = [Curve("mean", Line(STEPS, VALUES), summary=True), *chart(("a", "b")).curves]
    figure = draw_charts([Chart("", "share", curves)], "title", marked=True)
    drawn = curves_of(figure.axes[0])
    assert [drawn[name].get_color() for name in ("mean", "a", "b")] == ["black", *TOKEN_COLOURS[:2]]
    assert [drawn[name].get_marker() for name in ("mean", "a", "b")] == ["None", "o", "s"]
    assert legend(figure) == ["a", "b", "mean"]


@pytest.mark.parametrize("count", [5, 8, 12])
def test_no_two_curves_that_are_marked_look_the_same(count):
    figure = draw_charts([chart(tuple(map(str, range(count))))], "title", marked=True)
    styles = {(line.get_color(), line.get_marker(), line.get_linestyle()) for line in figure.axes[0].get_lines()}
    assert len(styles) == count


def test_ranges_levels_and_a_logarithmic_axis():
    axes = draw_charts([chart(("a",), span=(0, 1), level=Level(0.25)), chart(("a",), log=True)], "title").axes
    low, high = axes[0].get_ylim()
    assert -0.1 < low <= 0
    assert 1 <= high < 1.1
    assert list(axes[0].get_lines()[-1].get_ydata()) == [0.25, 0.25]
    assert axes[1].get_yscale() == "log"
    assert axes[0].get_xlim()[0] > -1  # the line of a level does not widen the axis of steps


@pytest.mark.parametrize(("values", "most"), [([0, 40, 7], 40), ([0, 0, 0], 1)])
def test_counts_begin_at_zero_and_end_where_they_do(values, most):
    counts = Chart("counts", "", [Curve("a", Line(STEPS, np.array(values, float)))], (0.0, None))
    low, high = draw_charts([counts], "title").axes[0].get_ylim()
    assert -0.05 * most < low < 0
    assert most <= high < 1.2 * most


def test_a_band_lies_between_its_ends_and_is_named_with_the_level():
    band = Band("95% of others", STEPS, [0.3, 0.4, 0.4], [0.6, 0.6, 0.7])
    figure = draw_charts([chart(("a", "b"), level=Level(0.5, "chance"), band=band)], "title")
    (area,) = figure.axes[0].collections
    corners = {(round(x, 6), round(y, 6)) for x, y in area.get_paths()[0].vertices}
    assert corners == {(0, 0.3), (5, 0.4), (50, 0.4), (0, 0.6), (5, 0.6), (50, 0.7)}
    assert to_rgba(area.get_facecolor()[0]) == to_rgba("0.88")
    assert legend(figure) == ["a", "b", "chance", "95% of others"]


def test_charts_of_a_figure_have_one_axis_of_steps():
    other = Chart("two", "share", [Curve("a", Line([0, 900], np.zeros(2)))])
    upper, lower = draw_charts([chart(("a",)), other], "title", columns=1).axes
    assert upper.get_xlim() == lower.get_xlim()
    assert upper.get_xlim()[1] > 900
    assert (upper.get_xlabel(), lower.get_xlabel()) == ("", NAME)


def test_small_charts_that_share_their_values_name_the_unit_once_a_row():
    charts = [Chart(name, "r", [Curve("a", Line(STEPS, VALUES * k))]) for k, name in enumerate("abcde")]
    panels = draw_charts(charts, "title", columns=4, sharey=True).axes[:5]
    assert [axes.get_title() for axes in panels] == list("abcde")
    assert [axes.get_ylabel() for axes in panels] == ["r", "", "", "", "r"]
    assert len({axes.get_ylim() for axes in panels}) == 1
    low, high = panels[0].get_ylim()
    assert low < 0
    assert high > 1.2  # of the last chart's last value


def test_what_is_missing_leaves_a_gap():
    values = np.array([np.nan, 0.5, 0.7])
    figure = draw_charts([Chart("", "share", [Curve("a", Line(STEPS, values))])], "title")
    np.testing.assert_array_equal(figure.axes[0].get_lines()[0].get_ydata(), values)
    pixels, colour = to_pixels(figure), (255 * np.array(to_rgba(TOKEN_COLOURS[0])[:3])).round()
    columns = np.flatnonzero((pixels == colour).all(axis=2).any(axis=0))
    left, right = (figure.axes[0].transData.transform((step, 0))[0] for step in (5, 50))
    assert abs(columns[0] - left) < 4
    assert abs(columns[-1] - right) < 4


def test_charts_of_numbers_that_are_missing_are_empty():
    empty = Chart("none", "1", [Curve("a", Line([0], np.array([np.nan])))], log=True)
    figure = draw_charts([empty, empty, empty], "title")
    pixels = to_pixels(figure)
    assert not (pixels == (255 * np.array(to_rgba(TOKEN_COLOURS[0])[:3])).round()).all(axis=2).any()
    assert [axes.get_title() for axes in figure.axes] == ["none", "none", "none", ""]
