"""Figures without pyplot, and mosaics."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from lightning_emerge.figures.canvas import TOKEN_COLOURS, TOKEN_MARKERS, mosaic, new_figure, to_files, to_pixels


def test_pixels_are_rgb_of_the_size_that_was_asked_for():
    pixels = to_pixels(new_figure(1.5, 0.8))
    assert pixels.shape == (80, 150, 3)
    assert pixels.dtype == np.uint8
    assert (pixels == 255).all()


def draw_line() -> np.ndarray:
    figure = new_figure(1, 1)
    figure.subplots().plot([0, 1], [1, 0])
    return to_pixels(figure)


def test_the_same_figure_has_the_same_pixels_from_any_thread():
    with ThreadPoolExecutor(2) as pool:
        first, *others = [*pool.map(lambda _: draw_line(), range(3)), draw_line()]
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 2
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_rows_of_pixels_run_downwards():
    figure = new_figure(1, 1)
    figure.text(0.5, 0.9, "M", ha="center", color="red")
    ink = np.argwhere((to_pixels(figure) != 255).any(axis=2))
    assert ink[:, 0].max() < 50


def labelled() -> Figure:
    figure = new_figure(3, 2)
    for axes in figure.subplots(1, 2):
        axes.plot([0, 1000], [1, 0], label="a name")
        axes.set(title="of two lines,\nand wide", xlabel="step", ylabel="share")
        axes.legend()
    figure.colorbar(axes.imshow([[0, 1]], aspect="auto"), ax=axes)
    return figure


def test_a_figure_is_laid_out_once_for_both_files_and_is_left_as_it_was(monkeypatch):
    figure, layouts = labelled(), []
    engine = figure.get_layout_engine()
    execute = engine.execute
    monkeypatch.setattr(engine, "execute", lambda laid_out: layouts.append(laid_out) or execute(laid_out))
    png, svg = to_files(figure)
    assert layouts == [figure]
    assert (figure.get_layout_engine(), figure.dpi) == (engine, 100)
    content = BytesIO()
    labelled().savefig(content, format="png")  # which draws twice
    ours, theirs = (np.asarray(Image.open(source)) for source in (BytesIO(png), content))
    np.testing.assert_array_equal(ours, theirs)
    assert b"<!-- of two lines," in svg
    assert to_files(labelled()) == (png, svg)


def test_pyplot_keeps_nothing():
    plt = sys.modules.get("matplotlib.pyplot")
    to_pixels(new_figure(1, 1))
    assert plt is None or plt.get_fignums() == []


def test_tokens_look_different():
    assert len({to_rgb(colour) for colour in TOKEN_COLOURS}) == len(set(TOKEN_MARKERS)) == 8


@pytest.mark.parametrize(("count", "columns", "gap"), [(1, 1, 2), (3, 3, 1), (5, 2, 2), (4, 4, 0), (2, 5, 3)])
def test_a_mosaic_holds_each_tile_once_on_white(count, columns, gap):
    tiles = np.random.default_rng(0).uniform(0, 0.9, (count, 4, 3, 3))
    sheet, corners = mosaic(tiles, columns, gap)
    rest = sheet.copy()
    for k, (x, y) in enumerate(corners):
        np.testing.assert_array_equal(sheet[y : y + 4, x : x + 3], tiles[k])
        rest[y : y + 4, x : x + 3] = 1
    assert (rest == 1).all()
    assert len(set(corners)) == count
    assert corners == sorted(corners, key=lambda corner: corner[::-1])
    assert {x for x, _ in corners} == {k * (3 + gap) for k in range(min(columns, count))}
