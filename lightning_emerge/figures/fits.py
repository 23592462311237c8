"""Curves of what layers are like, over steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from lightning_emerge.figures.canvas import DECADES, TOKEN_COLOURS, add_legend, new_figure, scale_steps
from lightning_emerge.records import FloatArray

_LINES = ("-", "--", "-.", ":")


def draw_fits(
    steps: Sequence[int], fits: FloatArray, layers: Sequence[str], models: Sequence[str], unit: str, title: str
) -> Figure:
    """Draws, in a panel for each layer, how alike it and each of some models are, over optimizer steps.

    Args:
        steps: optimizer steps of the looks, ascending.
        fits: (step, layer, model).
        layers: names of the layers.
        models: names of the models.
        unit: of the fits.
        title: of the figure.
    """
    columns = min(4, len(layers))
    rows = -(-len(layers) // columns)
    figure = new_figure(2.6 * columns + 0.4, 2.1 * rows + 1.0)
    grid = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    for number, (axes, layer) in enumerate(zip(grid, layers, strict=False)):
        for k, model in enumerate(models):
            colour, style = TOKEN_COLOURS[k % len(TOKEN_COLOURS)], _LINES[k % len(_LINES)]
            axes.plot(steps, fits[:, number, k], style, color=colour, linewidth=1.4, label=model)
        axes.axhline(0, color="0.7", linewidth=0.8)
        scale_steps(axes, max(steps), DECADES)
        axes.set_title(layer, fontsize=9)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(layers) :]:
        axes.set_axis_off()
    for axes in grid[-columns:]:
        axes.set_xlabel("optimizer steps", fontsize=9)
    low, high = (float(np.nan_to_num(end(fits, initial=0.0))) for end in (np.nanmin, np.nanmax))
    grid[0].set_ylim(low - 0.05, high + 0.05)
    handles = grid[0].lines[: len(models)]
    add_legend(figure, handles, loc="outside lower center", ncols=min(8, len(models)), frameon=False, fontsize=9)
    figure.suptitle(title, fontsize=11)
    figure.supylabel(unit, fontsize=9)
    return figure
