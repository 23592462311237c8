"""Pictures of confusion matrices."""

from __future__ import annotations

from matplotlib.figure import Figure

from lightning_emerge.figures.canvas import new_figure
from lightning_emerge.records import Measurement


def draw_confusion(measurement: Measurement) -> Figure:
    """Draws which token was taken for which, as shares of each token's exemplars.

    Args:
        measurement: values (token, predicted), each row adding up to 1.
    """
    names = [str(label) for label in measurement.axes[0].labels]
    figure = new_figure(1.9 + 0.55 * len(names), 1.3 + 0.5 * len(names))
    axes = figure.subplots()
    image = axes.imshow(measurement.values, cmap="viridis", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    if len(names) <= 20:
        for (row, column), share in ((at, measurement.values[at]) for at in _cells(len(names))):
            axes.text(column, row, f"{share:.2f}", ha="center", va="center", fontsize=8, color=_ink(share))
    axes.set_xlabel("predicted")
    axes.set_ylabel("token shown")
    axes.set_title(f"{measurement.about}, step {measurement.step}", fontsize=10)
    figure.colorbar(image, ax=axes).set_label("share of the token's exemplars")
    return figure


def _cells(size: int) -> list[tuple[int, int]]:
    return [(row, column) for row in range(size) for column in range(size)]


def _ink(share: float) -> str:
    return "black" if share > 0.6 else "white"
