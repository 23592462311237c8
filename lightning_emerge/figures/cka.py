"""Pictures of how alike things of one kind are: layers to each other, or steps."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from lightning_emerge.figures.canvas import EMPTY
from lightning_emerge.figures.frames import Frame, reused
from lightning_emerge.records import Measurement

_LARGEST, _LABELS = 6.0, 24


def draw_alignment(measurement: Measurement, title: str | None = None) -> Figure:
    """Draws how alike layers, or steps, are, in colours from 0 to the end of the record's range.

    Args:
        measurement: values (row, row), 1 for the same and about 0 for unrelated; NaN is grey.
        title: of the figure, if not the measure and its step.
    """
    names = tuple(str(label) for label in measurement.axes[0].labels)
    figure = _alignment_frame(names, measurement.range[1])
    image, *_, heading = figure.moving
    image.set_data(np.ma.masked_invalid(measurement.values))
    heading.set_text(title or f"{measurement.name.upper()}, step {measurement.step}")
    return figure


@reused
def _alignment_frame(names: tuple[str, ...], end: float | None) -> Frame:
    """All but the matrix of `draw_alignment`."""
    side = min(max(3.0, 0.28 * len(names)), _LARGEST)
    every = -(-len(names) // _LABELS)
    figure = Frame(side + 2.2, side + 1.2)
    axes = figure.subplots()
    colours = colormaps["viridis"].with_extremes(bad=str(EMPTY))
    empty = np.zeros((len(names), len(names)))
    image = axes.imshow(empty, cmap=colours, vmin=0, vmax=end, interpolation="nearest")
    axes.set_xticks(range(0, len(names), every), names[::every], rotation=90, fontsize=8)
    axes.set_yticks(range(0, len(names), every), names[::every], fontsize=8)
    axes.tick_params(length=0)
    figure.colorbar(image, ax=axes, shrink=0.8).set_label("1 = the same layout, 0 = unrelated")
    figure.moving = [image, *axes.spines.values(), axes.set_title("step", fontsize=10)]
    return figure
