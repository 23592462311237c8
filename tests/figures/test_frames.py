"""A picture drawn on a figure that was used before is, to the pixel, the picture drawn on a new one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import lightning_emerge as le
from lightning_emerge.figures import frames
from lightning_emerge.figures.canvas import to_pixels, to_png
from lightning_emerge.figures.cka import draw_alignment
from lightning_emerge.figures.confusion import draw_confusion
from lightning_emerge.figures.embedding import Panel, draw_planes
from lightning_emerge.figures.exemplars import draw_top_exemplars
from lightning_emerge.figures.filters import draw_kernels
from lightning_emerge.figures.frames import Frame, give_back, reused
from lightning_emerge.figures.rdm import draw_rdms
from lightning_emerge.figures.tree import draw_trees
from lightning_emerge.measures.tree import average_linkage

Draw = Callable[[int, int], Figure]
"""Draws one look of a network, from a seed, with so many layers."""


def _measure(name: str, values: np.ndarray, *names: str, seed: int, **beside: np.ndarray) -> le.Measurement:
    axes = tuple(
        le.Axis(axis, [f"{axis}{k}" for k in range(size)], notes={"token": list("aabbc"[:size])} if size == 5 else {})
        for axis, size in zip(names, values.shape, strict=True)
    )
    return le.Measurement(name, values, axes, 10**seed, "1 - r", about="What is shown", beside=beside, range=(0, 1))


def _random(seed: int, *shape: int) -> np.ndarray:
    """Numbers from 0 to 1 of which those of a layer are missing at some looks."""
    values = np.random.default_rng(seed).uniform(size=shape).astype(np.float32)
    values[seed % 3 : seed % 3 + seed % 2] = np.nan
    return values


def rdms(seed: int, layers: int) -> Figure:
    return _rdms(seed, 2 * _random(seed, layers, 5, 5), 2.0, end=2)


def unbounded_rdms(seed: int, layers: int) -> Figure:
    values = 10**seed * _random(seed, layers, 5, 5)
    return _rdms(seed, values, 10.0**seed)


def _rdms(seed: int, values: np.ndarray, reach: float, end: float | None = None) -> Figure:
    names = ("layer", "stimulus", "stimulus_b")
    beside = {"cells": values, "tokens": np.array(list("aabbc")), "reach": np.full(len(values), reach)}
    measured = _measure("rdm", values, *names, seed=seed, **beside)
    return draw_rdms(replace(measured, range=(0, end)))


def alignment(seed: int, layers: int) -> Figure:
    return draw_alignment(_measure("cka", _random(seed, layers, layers), "layer", "layer_b", seed=seed))


def confusion(seed: int, layers: int) -> Figure:
    return draw_confusion(_measure("confusion", np.nan_to_num(_random(seed, layers, layers)), "token", "b", seed=seed))


def kernels(seed: int, layers: int) -> Figure:
    values = np.random.default_rng(seed).normal(size=(layers, 3, 3, 3))
    values[0, 0] = np.nan if seed == 4 else 1
    return draw_kernels(_measure("kernels", values, "filter", "channel", "y", "x", seed=seed))


def tops(seed: int, layers: int) -> Figure:
    names = ("layer", "filter", "exemplar", "channel", "y", "x")
    labels = np.random.default_rng(seed).integers(0, 3, (layers, 4, 2)).astype(np.float32)
    labels[np.random.default_rng(seed).uniform(size=(layers, 4)) < 0.3] = np.nan
    beside = {"token": labels, "tokens": np.array(["dax", "wug", "fep"]), "filters": np.arange(layers) + 2}
    return draw_top_exemplars(_measure("top_crop", _random(seed, layers, 4, 2, 3, 6, 6), *names, seed=seed, **beside))


def trees(seed: int, layers: int, reach: float | None = 2.0) -> Figure:
    rdms = torch.from_numpy(_random(seed, layers, 4, 4)).double() * (1 if reach else 10**seed)
    trees = {f"layer{k}": average_linkage(rdm + rdm.T).numpy() for k, rdm in enumerate(rdms)}
    return draw_trees(trees, ["dax", "wug", "fep", "toma"], "1 - r", 10**seed, reach)


def unbounded_trees(seed: int, layers: int) -> Figure:
    return trees(seed, layers, None)


def planes(seed: int, layers: int) -> Figure:
    found = enumerate(10**seed * _random(seed, layers, 6, 2))
    panels = [Panel(f"layer{k}: {7 * seed}%", points) for k, points in found]
    return draw_planes(panels, ["dax", "wug", "fep"] * 2, f"step {10**seed}")


DRAWN = [rdms, unbounded_rdms, alignment, confusion, kernels, tops, trees, unbounded_trees, planes]


@pytest.fixture(autouse=True)
def _nothing_is_kept() -> Iterator[None]:
    frames._FREE.clear()
    yield
    frames._FREE.clear()


def finish(figure: Figure) -> np.ndarray:
    pixels = to_pixels(figure)
    give_back(figure)
    return pixels


@pytest.mark.parametrize("draw", DRAWN)
def test_a_used_figure_shows_what_a_new_one_does(draw: Draw):
    """Over looks with other numbers, missing layers, other lengths of the step, and another network in between."""
    looks = [(0, 3), (1, 3), (4, 3), (2, 5), (3, 3), (0, 3)]
    fresh: list[np.ndarray] = []
    for seed, layers in looks:
        frames._FREE.clear()
        fresh.append(to_pixels(draw(seed, layers)))
    frames._FREE.clear()
    for (seed, layers), expected in zip(looks, fresh, strict=True):
        np.testing.assert_array_equal(finish(draw(seed, layers)), expected)
    assert not np.array_equal(fresh[0], fresh[1])
    np.testing.assert_array_equal(fresh[0], fresh[-1])


@pytest.mark.parametrize("draw", [rdms, alignment, confusion, kernels, tops, trees, planes])
def test_the_second_look_uses_the_first_ones_figure(draw: Draw):
    first = draw(0, 3)
    finish(first)
    assert draw(1, 3) is first


@pytest.mark.parametrize("draw", DRAWN)
def test_it_looks_like_what_matplotlib_draws(draw: Draw):
    """Texts and the edges of cells may lie half a pixel off, nothing more: seen from afar there is no difference."""
    figure = draw(2, 3)
    pixels = to_pixels(figure).astype(float)
    figure.canvas.draw()
    expected = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(float)
    assert np.abs(blur(pixels) - blur(expected)).max() < 30
    assert np.abs(pixels - expected).mean() < 3


def blur(pixels: np.ndarray, side: int = 8) -> np.ndarray:
    rows, columns = (size // side * side for size in pixels.shape[:2])
    return pixels[:rows, :columns].reshape(rows // side, side, columns // side, side, 3).mean(axis=(1, 3))


def test_two_figures_in_hand_are_two():
    first, second = rdms(0, 3), rdms(1, 3)
    expected = to_pixels(first)
    finish(second)
    assert rdms(2, 3) is second
    np.testing.assert_array_equal(to_pixels(first), expected)


def test_what_was_added_to_a_figure_is_shown_and_stays_out_of_later_ones():
    plain = finish(alignment(0, 3))
    for _ in range(2):
        figure = alignment(0, 3)
        figure.axes[0].text(1, 1, "mine", color="red")
        marked = finish(figure)
        assert ((marked != plain).any(axis=2)).sum() > 20
        np.testing.assert_array_equal(finish(alignment(0, 3)), plain)


def test_what_was_added_after_it_was_drawn_is_shown_too():
    figure = alignment(0, 3)
    before = to_pixels(figure)
    figure.axes[0].set_ylabel("mine", labelpad=-30, color="red")
    assert not np.array_equal(to_pixels(figure), before)
    give_back(figure)
    assert alignment(0, 3) is not figure


def test_a_file_shows_what_moves_too():
    pixels = to_pixels(kernels(0, 3))
    saved = np.asarray(Image.open(BytesIO(to_png(kernels(0, 3)))))[..., :3]
    assert np.abs(pixels.astype(float) - saved).mean() < 3
    assert (saved < 250).any(axis=2).mean() > 0.1


def test_no_more_than_a_dozen_wait_and_the_oldest_goes():
    for layers in range(1, 21):
        finish(alignment(0, layers))
    assert len(frames._FREE) == 12
    assert [frame.axes[0].images[0].get_array().shape[0] for _, frame in frames._FREE] == list(range(9, 21))


def test_only_frames_are_kept():
    give_back(Figure())
    assert frames._FREE == []


def test_threads_get_figures_of_their_own_and_the_same_pixels():
    expected = [to_pixels(trees(seed, 3)) for seed in range(5)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda seed: finish(trees(seed, 3)), [*range(5)] * 4))
    for seed, pixels in zip([*range(5)] * 4, found, strict=True):
        np.testing.assert_array_equal(pixels, expected[seed])


def test_text_keeps_its_place_and_colour_whatever_it_is_aligned_to():
    @reused
    def make() -> Frame:
        figure = Frame(4, 2)
        figure.set_layout_engine("none")
        aligned = [("left", "top"), ("center", "center"), ("right", "bottom"), ("left", "baseline")]
        figure.moving = [
            figure.text(0.2 + 0.2 * k, 0.5, "step 12 (g)", ha=ha, va=va, color="#0072B2")
            for k, (ha, va) in enumerate(aligned)
        ]
        figure.moving.append(figure.text(0.5, 0.1, "$x^2$ turned", rotation=20))
        return figure

    figure = make()
    pixels = to_pixels(figure).astype(float)
    figure.canvas.draw()
    expected = np.asarray(figure.canvas.buffer_rgba())[..., :3].astype(float)
    assert np.abs(pixels - expected).mean() < 3
    ink = [np.argwhere((drawn < 250).any(axis=2)) for drawn in (pixels, expected)]
    for one, other in zip(*((places.min(axis=0), places.max(axis=0)) for places in ink), strict=True):
        assert np.abs(one - other).max() <= 1


def test_words_beyond_the_edge_are_cut():
    @reused
    def make() -> Frame:
        figure = Frame(1, 1)
        figure.set_layout_engine("none")
        figure.moving = [figure.text(x, y, "word", ha="center", va="center") for x in (0, 1, 3) for y in (0, 1, -2)]
        return figure

    assert (to_pixels(make()) < 128).any()


def test_step_and_unit_are_still_to_be_read():
    figure = trees(3, 2)
    texts = {text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))}
    assert any("step 1000" in text for text in texts)
    assert "1 - r" in texts
