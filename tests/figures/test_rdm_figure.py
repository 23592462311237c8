"""Pictures of RDMs: fixed colours, order by token, names, grey for what is not there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.text import Text

from lightning_emerge.figures import rdm
from lightning_emerge.figures.canvas import to_pixels
from lightning_emerge.figures.rdm import draw_rdm_steps, draw_rdms
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
    return Measurement("rdm", values.astype(np.float32), axes, step, "1 - Pearson r")


def texts(figure: Figure) -> dict[str, tuple[float, float]]:
    return {found.get_text(): found.get_position() for found in figure.findobj(Text) if found.get_text()}


def colour(figure: Figure, column: float, row: float) -> list[int]:
    pixels = to_pixels(figure)
    x, y = figure.axes[0].transData.transform((column, row))
    return pixels[len(pixels) - 1 - int(y), int(x)].tolist()


def viridis(value: float) -> list[float]:
    return pytest.approx([255 * channel for channel in colormaps["viridis"](float(value))[:3]], abs=1.5)


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
    assert colour(second, 3, 0) == viridis(1)


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


@pytest.mark.parametrize(("layers", "size"), [(1, 1), (6, 10)])
def test_it_is_drawn(layers, size):
    values = np.random.default_rng(0).uniform(0, 2, (layers, size, size))
    pixels = to_pixels(draw_rdms(make(values, [f"token{k % 5}" for k in range(size)])))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20


def test_layers_are_rows_and_steps_are_columns_on_the_same_colours():
    rdms = np.stack([np.stack([pairs(4, (step + 1) / 10 + layer / 2)[0] for layer in range(2)]) for step in range(3)])
    rdms[2, 1] = np.nan
    figure = draw_rdm_steps(rdms, [0, 7, 90], ["conv1_1", "fc1"], ["a", "a", "b", "b"], "1 - Pearson r")
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


def test_large_rdms_are_averaged_over_neighbours_and_keep_their_blocks():
    tokens = [str(k // 100) for k in range(500)]
    values = (np.asarray(tokens)[:, None] != np.asarray(tokens)).astype(np.float32)
    values[:7, :7] = np.nan
    shrunk = rdm._shrink(values)
    assert shrunk.shape == (167, 167)
    assert np.isnan(shrunk[:2, :2]).all()
    assert np.isfinite(shrunk[3:, 3:]).all()
    np.testing.assert_allclose(shrunk[10, 10:30], 0)
    np.testing.assert_allclose(shrunk[10, 40:], 1)
    assert rdm._shrink(values[:200, :200]) is not None
    np.testing.assert_array_equal(rdm._shrink(values[:200, :200]), values[:200, :200])
    pair = np.random.default_rng(0).random((201, 201))
    np.testing.assert_allclose(
        rdm._shrink(pair)[:100, :100], pair[:200, :200].reshape(100, 2, 100, 2).mean(axis=(1, 3))
    )
