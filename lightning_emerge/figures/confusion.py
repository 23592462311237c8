"""Pictures of confusion matrices."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from lightning_emerge.figures.frames import Frame, reused
from lightning_emerge.records import Measurement, Range


def draw_confusion(measurement: Measurement) -> Figure:
    """Draws which token was taken for which, as shares of each token's exemplars.

    Args:
        measurement: values (token, predicted), each row adding up to 1.
    """
    names = tuple(str(label) for label in measurement.axes[0].labels)
    figure = _frame(names, measurement.range)
    image, title, *cells = figure.moving
    image.set_data(measurement.values)
    title.set_text(f"{measurement.about}, step {measurement.step}")
    for cell, share in zip(cells, measurement.values.flat, strict=False):
        cell.set(text=f"{share:.2f}", color=_ink(float(share)))
    return figure


@reused
def _frame(names: tuple[str, ...], span: Range) -> Frame:
    """All but the shares of `draw_confusion`."""
    count = len(names)
    figure = Frame(1.9 + 0.55 * count, 1.3 + 0.5 * count)
    axes = figure.subplots()
    image = axes.imshow(np.zeros((count, count)), cmap="viridis", vmin=span[0], vmax=span[1], interpolation="nearest")
    axes.set_xticks(range(count), names, rotation=90)
    axes.set_yticks(range(count), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("token shown")
    title = axes.set_title("step", fontsize=10)
    figure.colorbar(image, ax=axes).set_label("share of the token's exemplars")
    places = [(column, row) for row in range(count) for column in range(count)] if count <= 20 else []
    cells = [axes.text(*place, "0.00", ha="center", va="center", fontsize=8) for place in places]
    figure.moving = [image, title, *cells]
    return figure


def _ink(share: float) -> str:
    return "black" if share > 0.6 else "white"
