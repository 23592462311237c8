"""Pictures of RDMs: fixed colours, order by token, names, grey for what is not there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.text import Text

from lightning_emerge.figures.canvas import to_pixels
from lightning_emerge.figures.rdm import MOST_CELLS, draw_rdm_steps, draw_rdms
from lightning_emerge.measures.rdm import in_order
from lightning_emerge.records import Axis, Measurement

GREY = pytest.approx([0.85 * 255] * 3, abs=1)


def make(values: np.ndarray, tokens: Sequence[str], step: int = 0) -> Measurement:
    layers, size, _ = values.shape
    ids = [f"{token}/{k}" for k, token in enumerate(tokens)]
    axes = (
        Axis("layer", [f"layer{k}" for k in range(layers)]),
        Axis("stimulus", ids, notes={"token": tokens}),
        Axis("stimulus_b", ids),
    )
    assert size == len(tokens)
    order = sorted(range(size), key=lambda k: list(tokens).index(tokens[k]))
    beside = {
        "cells": in_order(torch.from_numpy(values), torch.tensor(order), MOST_CELLS).numpy(),
        "tokens": np.array([tokens[k] for k in order]),
        "reach": np.full(layers, 2.0),
    }
    return Measurement("rdm", values.astype(np.float32), axes, step, "1 - Pearson r", beside=beside, range=(0, 2))


def texts(figure: Figure) -> dict[str, tuple[float, float]]:
    return {found.get_text(): found.get_position() for found in figure.findobj(Text) if found.get_text()}


def colour(figure: Figure, column: float, row: float) -> list[int]:
    pixels = to_pixels(figure)
    x, y = figure.axes[0].transData.transform((column, row))
    return pixels[len(pixels) - 1 - int(y), int(x)].tolist()


def viridis(value: float, end: float = 2.0) -> list[float]:
    return pytest.approx([255 * channel for channel in colormaps["viridis"](value / end)[:3]], abs=1.5)


def pairs(size: int, value: float) -> np.ndarray:
    return np.where(np.eye(size, dtype=bool), 0.0, value)[None]


def test_a_distance_has_one_colour_at_every_step():
    early, late = pairs(4, 0.01), pairs(4, 1.9)
    for values in (early, late):
        values[0, 0, 1] = values[0, 1, 0] = 0.4
    first, second = draw_rdms(make(early, "aabb", 0)), draw_rdms(make(late, "aabb", 900))
    assert colour(first, 1, 0) == colour(second, 1, 0) == viridis(0.4)
    assert colour(first, 2, 2) == colour(second, 2, 2) == viridis(0)
    assert colour(first, 3, 0) == viridis(0.01)
    assert colour(second, 3, 0) == viridis(1.9)


def test_rows_run_down_and_columns_across():
    values = pairs(3, 0.2)
    values[0, 2, 0] = 0.9  # not symmetric, to tell the two apart
    figure = draw_rdms(make(values, "abc"))
    assert colour(figure, 0, 2) == viridis(0.9)
    assert colour(figure, 2, 0) == viridis(0.2)


def test_stimuli_are_put_in_the_order_of_their_tokens():
    tokens = ["wug", "dax", "wug", "dax", "fep", "wug"]
    same = np.array(tokens)[:, None] == np.array(tokens)[None, :]
    figure = draw_rdms(make(np.where(same, 0.0, 1.0)[None], tokens))
    for column, row, value in ((1, 0, 0), (2, 0, 0), (3, 0, 1), (4, 3, 0), (5, 3, 1), (5, 5, 0)):
        assert colour(figure, column, row) == viridis(value)
    labels = figure.axes[0].get_yticklabels()
    assert [label.get_text() for label in labels] == ["wug", "dax", "fep"]
    assert [label.get_position()[1] for label in labels] == sorted(label.get_position()[1] for label in labels)


def test_a_layer_without_responses_is_grey():
    values = np.concatenate([pairs(4, 0.5), np.full((1, 4, 4), np.nan)])
    values[0, 1, :] = values[0, :, 1] = np.nan
    figure = draw_rdms(make(values, "aabb"))
    assert colour(figure, 2, 1) == GREY
    assert colour(figure, 1, 1) == GREY
    assert colour(figure, 3, 0) == viridis(0.5)
    middle, top = texts(figure)["layer1"]
    for down in (1, 2, 3):
        assert colour(figure, middle - 0.5, top + down) == GREY


@pytest.mark.parametrize(
    ("layers", "size", "tokens"),
    [(1, 1, 1), (1, 2, 2), (2, 6, 1), (5, 10, 5), (16, 10, 5), (3, 24, 12)],
)
def test_every_layer_and_token_is_named(layers, size, tokens):
    values = np.random.default_rng(0).uniform(0, 2, (layers, size, size))
    figure = draw_rdms(make(values, [f"token{k % tokens}" for k in range(size)], step=37))
    found = " ".join(texts(figure))
    assert all(f"layer{k}" in texts(figure) for k in range(layers))
    assert all(f"token{k}" in texts(figure) for k in range(tokens))
    assert "1 - Pearson r" in found
    assert "step 37" in found


def test_a_bank_that_panels_have_no_pixels_for_keeps_its_blocks_and_its_names():
    tokens = [f"token{k // 150}" for k in range(450)]
    same = np.array(tokens)[:, None] == np.array(tokens)
    figure = draw_rdms(make(np.where(same, 0.2, 0.8)[None], tokens))
    assert figure.axes[0].images[0].get_array().shape[:2] == (150, 150)
    assert colour(figure, 25, 25) == colour(figure, 125, 125) == viridis(0.2)
    assert colour(figure, 25, 75) == viridis(0.8)
    assert list(figure.axes[0].get_yticks()) == [25, 75, 125]


def test_distances_without_an_end_are_multiples_of_what_their_layer_reaches():
    values = np.concatenate([pairs(3, 4.0), pairs(3, 40.0), pairs(3, 1.0)])
    given = make(values, "abc")
    given = replace(given, range=(0, None), beside={**given.beside, "reach": np.array([8.0, 80.0, np.nan])})
    figure = draw_rdms(given)
    assert colour(figure, 1, 0) == viridis(0.5, 1)
    for layer, expected in (("layer1", viridis(0.5, 1)), ("layer2", GREY)):
        middle, top = texts(figure)[layer]
        assert colour(figure, middle, top + 0.9) == expected
    assert "over the layer's mean distance" in " ".join(text.get_text() for text in figure.findobj(Text))


def test_layers_are_rows_and_steps_are_columns_on_the_same_colours():
    rdms = np.stack([np.stack([pairs(4, (step + 1) / 10 + layer / 2)[0] for layer in range(2)]) for step in range(3)])
    rdms[2, 1] = np.nan
    figure = draw_rdm_steps(rdms, [0, 7, 90], ["conv1_1", "fc1"], ["a", "a", "b", "b"], "1 - Pearson r", 2.0)
    columns = {tick.get_text(): tick.get_position()[0] for tick in figure.axes[0].get_xticklabels()}
    rows = {tick.get_text(): tick.get_position()[1] for tick in figure.axes[0].get_yticklabels()}
    assert list(columns) == ["0", "7", "90"]
    assert list(rows) == ["conv1_1", "fc1"]
    for k, (step, layer) in enumerate((step, layer) for layer in rows for step in columns):
        # From the middle of a tile: its third row and second column of four.
        found = colour(figure, columns[step] - 1, rows[layer])
        assert found == (GREY if k == 5 else viridis((k % 3 + 1) / 10 + k // 3 / 2))
    assert any("1 - Pearson r" in text for text in texts(figure))
    assert any("a, b" in text for text in texts(figure))


def test_over_steps_distances_without_an_end_are_shares_of_their_layers_largest():
    rdms = np.stack([np.stack([pairs(4, value * 10**layer)[0] for layer in range(3)]) for value in (2.0, 4.0)])
    rdms[:, 2] = np.nan
    figure = draw_rdm_steps(rdms, [0, 7], ["a", "b", "c"], list("ppqq"), "squared difference")
    columns = [tick.get_position()[0] for tick in figure.axes[0].get_xticklabels()]
    rows = [tick.get_position()[1] for tick in figure.axes[0].get_yticklabels()]
    found = [[colour(figure, column - 1, row) for column in columns] for row in rows]
    assert found == [[viridis(0.5, 1), viridis(1, 1)]] * 2 + [[GREY, GREY]]


def test_the_bar_of_colours_ends_where_the_range_does():
    tokens, values = list("aabb"), pairs(4, 0.5)
    open_ = replace(make(values, tokens), range=(0, None))
    bars = [draw_rdms(measured).axes[1] for measured in (make(values, tokens), open_)]
    bars += [draw_rdm_steps(values[None], [0], ["a"], tokens, "r", end).axes[1] for end in (2.0, None)]
    assert [bar.get_ylim() for bar in bars] == [(0, 2), (0, 2), (0, 2), (0, 1)]
    assert ["2 = opposite" in bar.get_ylabel() for bar in bars] == [True, False, True, False]
