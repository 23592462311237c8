"""Curves over training steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_emerge.figures.canvas import TOKEN_COLOURS, TOKEN_MARKERS, new_figure


def draw_emergence(
    steps: Sequence[int], accuracy: npt.ArrayLike, tokens: Sequence[str], title: str = "Emergence of the tokens"
) -> Figure:
    """Draws the accuracy of each token on the stimulus bank over optimizer steps, and their mean.

    Args:
        steps: optimizer steps of the looks, ascending.
        accuracy: (step, token) share of each token's stimuli that were told right, 0 to 1.
        tokens: names of the tokens.
        title: of the picture.
    """
    figure = new_figure(7.2, 4.2)
    draw_emergence_on(figure.subplots(), steps, accuracy, tokens)
    figure.axes[0].set_title(title)
    figure.axes[0].legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return figure


def draw_emergence_on(axes: Axes, steps: Sequence[int], accuracy: npt.ArrayLike, tokens: Sequence[str]) -> None:
    """Draws `draw_emergence`'s curves on given axes."""
    import numpy as np

    values = np.asarray(accuracy)
    for k, token in enumerate(tokens):
        axes.plot(
            steps,
            values[:, k],
            color=TOKEN_COLOURS[k % len(TOKEN_COLOURS)],
            marker=TOKEN_MARKERS[k % len(TOKEN_MARKERS)],
            markersize=3.5,
            linewidth=1.2,
            label=token,
        )
    axes.plot(steps, values.mean(axis=1), color="black", linewidth=2.2, label="mean")
    axes.axhline(1 / len(tokens), color="0.5", linestyle=":", linewidth=1, label="chance")
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(0, max(steps) * 1.05 + 1)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("optimizer steps (logarithmic beyond 1)")
    axes.set_ylabel("accuracy on the stimulus bank")
    axes.spines[["top", "right"]].set_visible(False)
