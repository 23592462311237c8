"""The contact sheet: every exemplar in its place, the parts table as it is, ranges to scale."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from lightning_emerge.figures.canvas import to_pixels
from lightning_emerge.figures.contact import Sheet, Span, draw_sheet


def texts(figure: Figure) -> list[str]:
    return [found.get_text() for found in figure.findobj(Text)]


def make(tokens: int = 3, parts: int = 4, columns: int = 2, spans: dict[str, Span] | None = None) -> Sheet:
    images = np.arange(tokens * columns, dtype=np.uint8).reshape(tokens, columns, 1, 1, 1) * 20 + 10
    return Sheet(
        np.broadcast_to(images, (tokens, columns, 3, 8, 8)),
        [f"token{k}" for k in range(tokens)],
        "Exemplars",
        [f"part{k}" for k in range(parts)],
        np.random.default_rng(0).random((parts, tokens)) < 0.5,
        spans or {"noise": Span(0.1, 0.1, 0, 0.5, "of full range")},
    )


def test_each_token_is_a_row_and_each_exemplar_a_column():
    figure = draw_sheet(make())
    axes = figure.axes[0]
    pixels = axes.get_images()[0].get_array()
    rows, columns = axes.get_yticks(), axes.get_xticks()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["token0", "token1", "token2"]
    for row, y in enumerate(rows):
        for column, x in enumerate(columns):
            assert pixels[int(y), int(x)].tolist() == [(2 * row + column) * 20 + 10] * 3


def test_the_table_has_a_mark_where_a_part_stands():
    sheet = make()
    axes = draw_sheet(sheet).axes[1]
    marks = {(round(mark.get_position()[1]), round(mark.get_position()[0])) for mark in axes.texts}
    assert marks == set(zip(*map(np.ndarray.tolist, np.nonzero(sheet.stands)), strict=True))
    counts = [f"part{k} ({sheet.stands[k].sum()})" for k in range(4)]
    assert [label.get_text() for label in axes.get_yticklabels()] == counts


def test_shared_parts_are_counted():
    sheet = make(parts=9)
    axes = draw_sheet(sheet).axes[2]
    own = [set(np.flatnonzero(sheet.stands[:, k])) for k in range(3)]
    for text in axes.texts:
        column, row = map(round, text.get_position())
        assert text.get_text() == str(len(own[row] & own[column]))


def test_ranges_are_drawn_to_scale_and_named_with_their_units():
    spans = {"scale": Span(0.6, 1.2, 0.3, 1.5, "two thirds"), "noise": Span(0.1, 0.1, 0, 0.5, "of full range")}
    figure = draw_sheet(make(spans=spans))
    bars = [patch for patch in figure.axes[3].patches if isinstance(patch, Rectangle)]
    scale = bars[1]
    assert scale.get_x() == pytest.approx(0.25)
    assert scale.get_width() == pytest.approx(0.5)
    assert bars[3].get_x() == pytest.approx(0.2)
    assert "0.6 to 1.2  two thirds" in texts(figure)
    assert "0.1  of full range" in texts(figure)


def test_photographs_have_no_table():
    figure = draw_sheet(Sheet(np.zeros((2, 3, 3, 8, 8), np.uint8), ["a", "b"], "Photographs"))
    assert len(figure.axes) == 1


def test_of_many_tokens_the_first_are_shown_and_it_says_so():
    figure = draw_sheet(make(tokens=40, parts=60))
    said = texts(figure)
    assert "Exemplars; the first 12 of 40 tokens" in said
    assert any("the first 24 of 60 parts" in text for text in said)
    assert "token12" not in said


def test_nothing_is_cut_off_at_the_edges():
    for sheet in (make(), make(tokens=12, parts=24, columns=10)):
        pixels = to_pixels(draw_sheet(sheet))
        edge = np.concatenate([pixels[:2].ravel(), pixels[-2:].ravel(), pixels[:, :2].ravel(), pixels[:, -2:].ravel()])
        assert (edge == 255).all()
