"""Names from data are drawn as they are written, by every function that draws, whatever they are."""

from __future__ import annotations

import pkgutil
import sys
from collections.abc import Callable, Sequence
from html import unescape
from importlib import import_module
from io import BytesIO

import numpy as np
import pytest
import torch
from children import run_group
from matplotlib import rc_context
from matplotlib.figure import Figure

import lightning_emerge as le
from lightning_emerge import figures
from lightning_emerge.figures.ablation import draw_drops
from lightning_emerge.figures.biography import Biography, draw_biography
from lightning_emerge.figures.canvas import new_figure, to_pixels
from lightning_emerge.figures.cka import draw_alignment
from lightning_emerge.figures.confusion import draw_confusion
from lightning_emerge.figures.contact import Sheet, Span, draw_sheet
from lightning_emerge.figures.coupling import Graph, draw_graph
from lightning_emerge.figures.curves import Chart, Curve, Line, draw_charts
from lightning_emerge.figures.embedding import Journey, Panel, draw_journeys, draw_planes
from lightning_emerge.figures.exemplars import draw_top_exemplars
from lightning_emerge.figures.filters import draw_kernels
from lightning_emerge.figures.frames import Frame, give_back
from lightning_emerge.figures.maximisation import draw_maximised, draw_maximised_steps
from lightning_emerge.figures.parts import draw_told
from lightning_emerge.figures.rdm import draw_rdm_steps, draw_rdms
from lightning_emerge.figures.timeline import Row, draw_rows
from lightning_emerge.figures.token_gradient import draw_token_cosines
from lightning_emerge.figures.tree import draw_trees
from lightning_emerge.figures.words import NAME, printable
from lightning_emerge.measures.tree import average_linkage

RANDOM = np.random.default_rng(0)
WRITTEN = ("price$x^$y", "_background", "a/b", "%s{0}")
"""Drawn letter by letter."""

ODD = ("caf\udce9", "a\0b\tc", "\U0001f600", "long" * 75, "$\\frac{$")
"""Drawn in other letters, or in boxes."""

STEPS = [0, 10]
Draw = Callable[[Sequence[str]], Figure]
"""Draws four things by their names, a `_background` among them: tokens, layers or parts, whatever the figure has."""


def uniform(*shape: int) -> np.ndarray:
    return RANDOM.uniform(0.1, 0.9, shape).astype(np.float32)


def measure(*axes: tuple[str, Sequence[object]], values: np.ndarray | None = None, **beside: object) -> le.Measurement:
    """Of named axes, the first with each note that a figure may read."""
    made = [le.Axis(name, list(labels)) for name, labels in axes]
    found = uniform(*(len(axis.labels) for axis in made)) if values is None else values
    name = str(axes[0][1][0]).encode("ascii", "replace").decode()
    return le.Measurement(name, found, tuple(made), 3, "1 - r", about=str(axes[0][1][0]), beside=beside)


def drops(names: Sequence[str]) -> Figure:
    parts = le.Axis("part", names, notes={"tokens": [f"{names[0]}/{names[1]}"] * 4})
    axes = (le.Axis("layer", names[:2]), parts, le.Axis("token", names))
    return draw_drops(le.Measurement("ablation_drop", uniform(2, 4, 4), axes, 3))


def biography(names: Sequence[str]) -> Figure:
    charts = [Chart(names[0], "", [Curve(name, Line(STEPS, uniform(2))) for name in own]) for own in (names, ["one"])]
    return draw_biography(Biography(names[1], STEPS, {names[2]: [uniform(4, 4, 3), None]}, charts))


def graph(names: Sequence[str]) -> Figure:
    preferred = {name: np.array([0.0, 1, -1]) for name in names}
    return draw_graph(Graph(preferred, {(names[0], names[1]): uniform(3, 3)}, names), names[2])


def planes(names: Sequence[str]) -> Figure:
    return draw_planes([Panel(name, uniform(4, 2)) for name in names], names, names[0])


def journeys(names: Sequence[str]) -> Figure:
    made = {name: Journey([Panel("one", uniform(4, 2))], uniform(2, 4, 2), uniform(4, 2)) for name in names}
    return draw_journeys(made, names)


def top_exemplars(names: Sequence[str]) -> Figure:
    labels = RANDOM.integers(0, 4, (4, 2, 2)).astype(float)
    beside = {"token": labels, "tokens": np.array(names), "filters": np.array([2, 2, 2, 1])}
    axes = [
        ("layer", names),
        ("filter", names[:2]),
        *((n, range(k)) for n, k in zip("ecyx", (2, 3, 4, 4), strict=True)),
    ]
    return draw_top_exemplars(measure(*axes, **beside))


def told(names: Sequence[str]) -> Figure:
    features = le.Axis("feature", names, notes={"kind": ["part", "pair", *names[:2]]})
    return draw_told(le.Measurement("part_auc", uniform(4, 4), (le.Axis("layer", names), features), 3))


def maximised(names: Sequence[str]) -> Figure:
    layers = le.Axis("layer", names, notes={"filters": [2] * 4})
    rest = (le.Axis("filter", names[:2]), *(le.Axis(n, range(k)) for n, k in zip("cyx", (3, 4, 4), strict=True)))
    return draw_maximised(le.Measurement("maximised", uniform(4, 2, 3, 4, 4), (layers, *rest), 3))


def rdms(names: Sequence[str]) -> Figure:
    stimuli = le.Axis("stimulus", range(4), notes={"token": names})
    axes = (le.Axis("layer", names), stimuli, le.Axis("stimulus_b", range(4)))
    beside = {"cells": uniform(4, 4, 4), "tokens": np.array(names), "reach": np.ones(4)}
    return draw_rdms(le.Measurement("rdm", uniform(4, 4, 4), axes, 3, names[3], beside=beside))


def charts(names: Sequence[str]) -> Figure:
    curves = [Curve(name, Line(STEPS, uniform(2)), [Line(STEPS, uniform(2))]) for name in names]
    return draw_charts([Chart(name, name, curves, log=name == names[0]) for name in names], names[0])


def sheet(names: Sequence[str]) -> Figure:
    spans = {name: Span(0.1, 0.2, 0, 1, name) for name in names}
    images = np.zeros((4, 2, 3, 8, 8), np.uint8)
    return draw_sheet(Sheet(images, names, names[0], names, np.eye(4, dtype=bool), spans))


def timeline(names: Sequence[str]) -> Figure:
    rows = [Row(name, name, (3, 2, 4), (6, 5, 7), False) for name in names]
    return draw_rows([*rows, Row("token", names[0], None, None, False)], 10)


def trees(names: Sequence[str]) -> Figure:
    distances = np.random.default_rng(0).uniform(size=(4, 4))  # the same each time, as a frame is reused for one reach
    tree = average_linkage(torch.from_numpy(distances)).numpy()
    return draw_trees(dict.fromkeys(names, tree), names, names[0], 3)


DRAW: dict[str, Draw] = {
    "draw_drops": drops,
    "draw_biography": biography,
    "draw_confusion": lambda names: draw_confusion(measure(("token", names), ("predicted", names))),
    "draw_graph": graph,
    "draw_planes": planes,
    "draw_journeys": journeys,
    "draw_top_exemplars": top_exemplars,
    "draw_kernels": lambda names: draw_kernels(
        measure(("filter", names), *((n, range(k)) for n, k in zip("cyx", (3, 3, 3), strict=True)))
    ),
    "draw_alignment": lambda names: draw_alignment(measure(("layer", names), ("layer_b", names))),
    "draw_told": told,
    "draw_maximised": maximised,
    "draw_maximised_steps": lambda names: draw_maximised_steps(uniform(2, 2, 3, 4, 4), STEPS, names[0]),
    "draw_rdms": rdms,
    "draw_rdm_steps": lambda names: draw_rdm_steps(uniform(2, 4, 4, 4), STEPS, names, names, names[0]),
    "draw_charts": charts,
    "draw_sheet": sheet,
    "draw_rows": timeline,
    "draw_token_cosines": lambda names: draw_token_cosines(
        measure(("layer", names), ("token", names), ("token_b", names))
    ),
    "draw_trees": trees,
}
OF_ONE = {"draw_kernels", "draw_maximised_steps"}
"""Name a layer alone."""

LEGENDS = {
    *("draw_biography", "draw_graph", "draw_planes", "draw_journeys", "draw_top_exemplars", "draw_charts"),
}


def test_all_functions_that_draw_are_tried():
    rooms = [import_module(f"{figures.__name__}.{room.name}") for room in pkgutil.iter_modules(figures.__path__)]
    found = {name for room in rooms for name in vars(room) if name.startswith("draw_")}
    assert found == DRAW.keys()


def words(figure: Figure) -> str:
    """All that is written in a figure, in its SVG file."""
    content = BytesIO()
    figure.set_layout_engine("none")  # wherever they stand
    with rc_context({"svg.fonttype": "none"}):
        figure.savefig(content, format="svg")
    return unescape(content.getvalue().decode())


@pytest.mark.parametrize("name", DRAW)
def test_names_are_drawn_letter_by_letter(name):
    figure = DRAW[name](WRITTEN)
    said = words(figure)
    for wanted in WRITTEN[:1] if name in OF_ONE else WRITTEN:
        assert wanted in said


@pytest.mark.parametrize("name", sorted(LEGENDS))
def test_each_name_is_in_the_legend(name):
    figure = DRAW[name](WRITTEN)
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    assert legends
    for legend in legends:
        assert {text.get_text() for text in legend.get_texts()} >= set(WRITTEN)


def test_no_other_figure_has_a_legend():
    for name in DRAW.keys() - LEGENDS:
        figure = DRAW[name](WRITTEN)
        assert not [*figure.legends, *(axes for axes in figure.axes if axes.get_legend())], name


@pytest.mark.parametrize("odd", ODD, ids=ascii)
@pytest.mark.parametrize("name", DRAW)
@pytest.mark.filterwarnings("ignore:Glyph", "ignore:constrained_layout")  # silent outside of pytest
def test_names_that_cannot_be_drawn_are_drawn_in_other_letters(name, odd):
    names = (odd, "wug", f"{odd}2", "fep")
    figure = DRAW[name](names)
    to_pixels(figure)
    if isinstance(figure, Frame):
        give_back(figure)
        assert DRAW[name](names) is figure
        to_pixels(figure)
    said = words(figure)
    shown = [printable(odd), printable(odd, NAME)] if name not in OF_ONE else [printable(odd)[:12]]  # in a long title
    assert any(one in said for one in shown)


def test_what_is_no_name_is_left_as_it_is():
    figure = new_figure(3, 3)
    axes = figure.subplots()
    axes.semilogy([1, 2], [1e-3, 1e3])
    before = new_figure(3, 3)
    before.subplots().semilogy([1, 2], [1e-3, 1e3])
    with_ticks = to_pixels(figure)
    assert axes.yaxis.get_major_ticks()[2].label1.get_parse_math()
    np.testing.assert_array_equal(with_ticks, to_pixels(before))


@pytest.mark.parametrize(
    ("given", "drawn"),
    [
        ("dax", "dax"),
        ("two\nlines", "two\nlines"),
        ("a\tb", "a\\tb"),
        ("\0", "\\x00"),
        ("caf\udce9", "caf\\udce9"),
        ("\u2028", "\\u2028"),
        ("café 猫", "café 猫"),
        ("non\u00a0breaking", "non\u00a0breaking"),
    ],
)
def test_what_has_no_letter_is_escaped(given, drawn):
    assert printable(given) == printable(drawn) == drawn


def test_long_names_lose_their_middle_and_stay_apart():
    one, other = (printable("x" * 300 + end, NAME) for end in "ab")
    assert len(one) == len(other) == NAME
    assert one != other
    assert "…" in one
    assert printable(one, NAME) == one
    assert [len(line) for line in printable("x" * 300 + "\n" + "y" * 5, 30).split("\n")] == [30, 5]


def test_scripts_that_the_font_lacks_cost_no_warning():
    code = (
        "import warnings; warnings.resetwarnings(); warnings.simplefilter('error')\n"
        "from lightning_emerge.figures.canvas import new_figure, to_pixels\n"
        "figure = new_figure(1, 1); figure.subplots().set_title('\\u732b' * 60); to_pixels(figure)"
    )
    done = run_group([sys.executable, "-c", code])
    assert (done.returncode, done.stderr) == (0, "")
