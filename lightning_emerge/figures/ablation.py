"""Pictures of what tokens lose when detectors are silenced."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from lightning_emerge.figures.canvas import colours_of, new_figure
from lightning_emerge.records import Axis, Measurement

_LINEAR = 0.01  # up to here colours are linear


def draw_drops(measurement: Measurement) -> Figure:
    """Draws a matrix of parts and tokens for each layer, on the range of colours of the record at every step.

    Colours are linear up to 0.01 and logarithmic beyond. A frame says that the token has the part.

    Args:
        measurement: falls of a probability (layer, part, token); NaN is grey. The parts have a note `tokens`, names
            with "/" between them.
    """
    layers, parts, tokens = measurement.axes
    names = [str(token) for token in tokens.labels]
    figure = new_figure(0.46 * len(names) * len(layers.labels) + 4.0, 0.3 * len(parts.labels) + 1.6)
    panels = figure.subplots(1, len(layers.labels), sharey=True, squeeze=False)[0]
    colours, _ = colours_of(measurement)
    scale = SymLogNorm(_LINEAR, 0.5, *measurement.range)
    image = None
    for axes, layer, values in zip(panels, layers.labels, measurement.values, strict=True):
        image = axes.imshow(np.ma.masked_invalid(values), cmap=colours, norm=scale, aspect="auto")
        axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
        axes.set_yticks(range(len(parts.labels)), [str(part) for part in parts.labels], fontsize=8)
        axes.tick_params(length=0)
        axes.set_title(str(layer), fontsize=9)
        _frame(axes, parts, names)
        for row, column in np.argwhere(np.isfinite(values)):
            axes.text(
                column, row, f"{round(float(values[row, column]), 2) + 0:.2f}", ha="center", va="center", fontsize=7
            )
    figure.suptitle(f"What tokens lose without a part's detectors, step {measurement.step}", fontsize=10)
    if image is not None:
        ticks = [-1, -0.1, -0.01, 0, 0.01, 0.1, 1]
        bar = figure.colorbar(image, ax=list(panels), shrink=0.8, ticks=ticks)
        bar.ax.set_yticklabels([f"{tick:g}" for tick in ticks], fontsize=8)
        bar.set_label("fall of the right token's probability\n(frame = token has the part)", fontsize=8)
    return figure


def _frame(axes: Axes, parts: Axis, tokens: list[str]) -> None:
    for row, owners in enumerate(parts.notes.get("tokens", [""] * len(parts.labels))):
        for column, token in enumerate(tokens):
            if token in str(owners).split("/"):
                axes.add_patch(
                    Rectangle((column - 0.44, row - 0.42), 0.88, 0.84, fill=False, edgecolor="black", lw=1.2)
                )
