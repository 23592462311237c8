"""Pictures of trees of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_emerge.figures.canvas import new_figure
from lightning_emerge.records import FloatArray


def draw_trees(
    trees: Mapping[str, FloatArray], tokens: Sequence[str], unit: str, step: int, reach: float | None = None
) -> Figure:
    """Draws the tree of the tokens in each layer, all on one range of distances.

    Args:
        trees: by layer, one row a merge: two groups' numbers, their distance, and their size; NaN if there is none.
        tokens: names of the tokens, in the order of their numbers.
        unit: of the distances.
        step: optimizer steps taken.
        reach: the largest distance that there can be, at which all axes end; without it they end at the largest here.
    """
    columns = min(4, len(trees))
    rows = -(-len(trees) // columns)
    figure = new_figure(2.2 * columns + 0.4, 0.22 * rows * len(tokens) + 0.75 * rows + 0.7)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True)
    grid = list(grid.flat)
    for axes, (layer, tree) in zip(grid, trees.items(), strict=False):
        _draw_tree(axes, tree, tokens)
        axes.set_title(layer, fontsize=9)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0, labelsize=8)
    for axes in grid[len(trees) :]:
        axes.set_axis_off()
    if reach is not None:
        grid[0].set_xlim(-0.025 * reach, 1.025 * reach)
    figure.suptitle(f"Trees of the tokens' mean responses, step {step}", fontsize=10)
    figure.supxlabel(unit, fontsize=9)
    return figure


def _draw_tree(axes: Axes, tree: FloatArray, tokens: Sequence[str]) -> None:
    if np.isnan(tree).any():
        axes.set_yticks([])
        axes.text(0.6, 0.5, "no response", ha="center", va="center", color="0.5")
        return
    order = _leaves(tree, 2 * len(tokens) - 2, len(tokens))
    places = {leaf: (0.0, float(order.index(leaf))) for leaf in range(len(tokens))}
    for number, (one, other, far, _) in enumerate(tree.tolist(), len(tokens)):
        (left, low), (right, high) = places[int(one)], places[int(other)]
        axes.plot([left, far, far, right], [low, low, high, high], color="#0072B2", linewidth=1.4)
        places[number] = far, (low + high) / 2
    axes.set_yticks(range(len(tokens)), [tokens[leaf] for leaf in order])
    axes.set_ylim(len(tokens) - 0.5, -0.5)


def _leaves(tree: FloatArray, number: int, tokens: int) -> list[int]:
    """The tokens under a group, so that no two lines cross."""
    if number < tokens:
        return [number]
    one, other = (int(side) for side in tree[number - tokens, :2])
    return _leaves(tree, one, tokens) + _leaves(tree, other, tokens)
