"""Curves of the tokens' emergence: what is drawn where, and what is named."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lightning_emerge.figures.canvas import to_pixels
from lightning_emerge.figures.curves import draw_emergence


def draw(steps: Sequence[int], tokens: int) -> tuple[Figure, np.ndarray, np.ndarray]:
    accuracy, confidence = np.random.default_rng(0).uniform(size=(2, len(steps), tokens))
    return draw_emergence(steps, accuracy, confidence, [f"token{k}" for k in range(tokens)]), accuracy, confidence


def lines(figure: Figure, panel: int) -> dict[str, Line2D]:
    return {str(line.get_label()): line for line in figure.axes[panel].get_lines()}


def test_each_token_has_its_own_series_and_chance_is_one_over_the_tokens():
    steps = [0, 3, 10, 200]
    figure, accuracy, confidence = draw(steps, 4)
    for panel, values in enumerate((accuracy, confidence)):
        drawn = lines(figure, panel)
        assert list(drawn) == ["token0", "token1", "token2", "token3", "mean", "chance"]
        for k in range(4):
            np.testing.assert_array_equal(drawn[f"token{k}"].get_xdata(), steps)
            np.testing.assert_array_equal(drawn[f"token{k}"].get_ydata(), values[:, k])
        np.testing.assert_allclose(drawn["mean"].get_ydata(), [np.mean(row) for row in values])
        assert list(drawn["chance"].get_ydata()) == [0.25, 0.25]


@pytest.mark.parametrize(("steps", "tokens"), [([0], 5), ([7], 1), ([0, 1, 2], 2), ([0, 5, 20, 50_000], 12)])
def test_everything_is_named(steps, tokens):
    figure, _, _ = draw(steps, tokens)
    upper, lower = figure.axes
    assert upper.get_ylabel() == "share of stimuli told right"
    assert lower.get_ylabel() == "probability of the right token"
    assert "optimizer steps" in lower.get_xlabel()
    named = [text.get_text() for text in upper.get_legend().get_texts()]
    assert named == [*(f"token{k}" for k in range(tokens)), "mean", "chance"]


@pytest.mark.parametrize(("steps", "tokens"), [([0], 1), ([0, 5, 20, 50_000], 12)])
def test_it_is_drawn(steps, tokens):
    figure, _, _ = draw(steps, tokens)
    assert len(np.unique(to_pixels(figure).reshape(-1, 3), axis=0)) > 20


@pytest.mark.parametrize("steps", [[0], [0, 4, 100], [50_000]])
def test_every_look_and_every_share_is_in_view(steps):
    figure, _, _ = draw(steps, 2)
    for axes in figure.axes:
        left, right = axes.get_xlim()
        low, high = axes.get_ylim()
        assert left < min(steps)
        assert max(steps) < right
        assert low < 0
        assert high > 1


@pytest.mark.parametrize("tokens", [5, 8, 12])
def test_no_two_tokens_look_the_same(tokens):
    drawn = lines(draw([0, 1], tokens)[0], 0)
    looks = [
        (line.get_color(), line.get_marker(), line.get_linestyle()) for name, line in drawn.items() if "token" in name
    ]
    assert len(set(looks)) == tokens


def test_a_series_that_was_not_measurable_at_first_is_drawn_from_where_it_is():
    values = np.array([[np.nan, np.nan], [0.5, 0.5], [1, 1]])
    figure = draw_emergence([0, 1, 2], values, values, ["a", "b"])
    assert len(np.unique(to_pixels(figure).reshape(-1, 3), axis=0)) > 20
