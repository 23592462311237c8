"""Pictures of how well layers tell features: parts, pairs and conjunctions."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from lightning_emerge.figures.canvas import colours_of, new_figure
from lightning_emerge.records import Measurement

_TITLES = {
    "part_auc": "What a linear read-out of each layer tells",
    "part_filter_auc": "What the best single filter of each layer tells",
    "part_transfer": "What a read-out of each layer tells in tokens that it never saw",
}
_KIND_COLOURS = {"part": "black", "pair": "#0072B2", "conjunction": "#D55E00"}


def draw_told(measurement: Measurement, low: float = 0.5) -> Figure:
    """Draws how well each layer tells each feature, on a range of colours that is the same at every step.

    Args:
        measurement: areas under the ROC curve (layer, feature); NaN is grey. Features with a note `kind` are coloured
            by it.
        low: where the colours begin; they end where the range of the record does.
    """
    layers, features = ([str(label) for label in axis.labels] for axis in measurement.axes)
    kinds = measurement.axes[1].notes.get("kind", ["part"] * len(features))
    figure = new_figure(0.34 * len(layers) + 5.2, max(0.24 * len(features) + 1.7, 3.0))
    axes = figure.subplots()
    colours, scale = colours_of(measurement)
    scale.vmin = low
    image = axes.imshow(np.ma.masked_invalid(measurement.values.T), cmap=colours, norm=scale, aspect="auto")
    axes.set_xticks(range(len(layers)), layers, rotation=90, fontsize=8)
    axes.set_yticks(range(len(features)), features, fontsize=8)
    for label, kind in zip(axes.get_yticklabels(), kinds, strict=True):
        label.set_color(_KIND_COLOURS.get(str(kind), "black"))
    axes.tick_params(length=0)
    axes.set_title(f"{_TITLES.get(measurement.name, measurement.name)}, step {measurement.step}", fontsize=10)
    for number, kind in enumerate([kind for kind in reversed(_KIND_COLOURS) if kind in kinds]):
        key = {"xycoords": "axes fraction", "textcoords": "offset points", "ha": "right", "fontsize": 8}
        axes.annotate(kind, (0, 1), (-6 - 62 * number, 6), color=_KIND_COLOURS[kind], **key)
    figure.colorbar(image, ax=axes, shrink=0.8).set_label("AUC (0.5 = chance; grey = not measurable)", fontsize=8)
    return figure
