"""Pictures of trees of tokens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import floor, log10

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_emerge.figures.canvas import TOKEN_COLOURS
from lightning_emerge.figures.frames import Frame, reused
from lightning_emerge.records import FloatArray

_INK = TOKEN_COLOURS[0]


def draw_trees(
    trees: Mapping[str, FloatArray], tokens: Sequence[str], unit: str, step: int, reach: float | None = None
) -> Figure:
    """Draws the tree of the tokens in each layer, all on one range of distances.

    Args:
        trees: by layer, one row a merge: two groups' numbers, their distance, and their size; NaN if there is none.
        tokens: names of the tokens, in the order of their numbers.
        unit: of the distances.
        step: optimizer steps taken.
        reach: the largest distance that there can be, at which all axes end; without it they end at the next of 1, 2, 5
            or 10, and so on, above the largest here.
    """
    figure = _frame(tuple(trees), tuple(tokens), unit, _round_up(trees.values()) if reach is None else reach)
    figure.moving[0].set_text(_title(step))
    for axes, tree in zip(figure.axes, trees.values(), strict=False):
        _show(axes, tree, tokens)
    return figure


def _show(axes: Axes, tree: FloatArray, tokens: Sequence[str]) -> None:
    (line,), (silence, *names) = axes.lines, axes.texts
    silent = bool(np.isnan(tree).any())
    silence.set_text("no response" if silent else "")
    order = [] if silent else _leaves(tree, 2 * len(tokens) - 2, len(tokens))
    line.set_data(_trace(tree, order))
    for row, name in enumerate(names):
        name.set_text("" if silent else tokens[order[row]])


@reused
def _frame(layers: tuple[str, ...], tokens: tuple[str, ...], unit: str, reach: float) -> Frame:
    """All but the trees of `draw_trees`: for each layer a line, a word if there is none, and a name in each row."""
    columns = min(4, len(layers))
    rows = -(-len(layers) // columns)
    figure = Frame(2.2 * columns + 0.4, 0.22 * rows * len(tokens) + 0.75 * rows + 0.7)
    grid = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    figure.moving = [figure.suptitle(_title(0), fontsize=10)]
    for axes, layer in zip(grid, layers, strict=False):
        axes.set_title(layer, fontsize=9)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.plot([], [], color=_INK, linewidth=1.4)
        axes.text(0.5, 0.5, "", transform=axes.transAxes, ha="center", va="center", color="0.5")
        key = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points", "fontsize": 8}
        for row, token in enumerate(tokens):
            axes.annotate(token, (0, row), (-2, 0), ha="right", va="center_baseline", **key)
        figure.moving += [*axes.lines, *axes.texts]
    for axes in grid[len(layers) :]:
        axes.set_axis_off()
    grid[0].set(xlim=(-0.025 * reach, 1.025 * reach), ylim=(len(tokens) - 0.5, -0.5), yticks=[])
    figure.supxlabel(unit, fontsize=9)
    return figure


def _title(step: int) -> str:
    return f"Trees of the tokens' mean responses, step {step}"


def _round_up(trees: Iterable[FloatArray]) -> float:
    """The next of 1, 2, 5 or 10, and so on, above all distances."""
    known = [float(tree[:, 2].max()) for tree in trees if len(tree) and np.isfinite(tree).all()]
    largest = max(known, default=0.0) or 1.0
    power = 10.0 ** floor(log10(largest))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= largest)


def _trace(tree: FloatArray, order: Sequence[int]) -> tuple[list[float], list[float]]:
    """A line along all merges, interrupted after each."""
    places = {leaf: (0.0, float(row)) for row, leaf in enumerate(order)}
    along: list[float] = []
    down: list[float] = []
    for number, (one, other, far, _) in enumerate(tree.tolist() if places else [], len(order)):
        (left, low), (right, high) = places[int(one)], places[int(other)]
        along += [left, far, far, right, np.nan]
        down += [low, low, high, high, np.nan]
        places[number] = far, (low + high) / 2
    return along, down


def _leaves(tree: FloatArray, number: int, tokens: int) -> list[int]:
    """The tokens under a group, so that no two lines cross."""
    if number < tokens:
        return [number]
    one, other = (int(side) for side in tree[number - tokens, :2])
    return _leaves(tree, one, tokens) + _leaves(tree, other, tokens)
