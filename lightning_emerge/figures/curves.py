"""Curves over training steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_emerge.figures.canvas import TOKEN_COLOURS, TOKEN_MARKERS, add_legend, new_figure, scale_steps

_LINES = ("-", "--", "-.", ":")


def draw_emergence(
    steps: Sequence[int], accuracy: npt.ArrayLike, confidence: npt.ArrayLike, tokens: Sequence[str]
) -> Figure:
    """Draws how the tokens emerge on the stimulus bank over optimizer steps.

    Args:
        steps: optimizer steps of the looks, ascending.
        accuracy: (step, token) share of each token's stimuli that were told right, 0 to 1.
        confidence: (step, token) mean probability given to the right token, 0 to 1.
        tokens: names of the tokens.
    """
    figure = new_figure(7.6, 6.4)
    upper, lower = figure.subplots(2, sharex=True)
    _draw_tokens(upper, steps, np.asarray(accuracy), tokens)
    upper.set_ylabel("share of stimuli told right")
    upper.set_title("Emergence of the tokens on the stimulus bank")
    add_legend(upper, upper.lines, frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.01, 0.5))
    _draw_tokens(lower, steps, np.asarray(confidence), tokens)
    lower.set_ylabel("probability of the right token")
    lower.set_xlabel("optimizer steps (linear to 10, then logarithmic)")
    return figure


def _draw_tokens(axes: Axes, steps: Sequence[int], values: npt.NDArray[np.floating], tokens: Sequence[str]) -> None:
    for k, token in enumerate(tokens):
        colour, marker = TOKEN_COLOURS[k % len(TOKEN_COLOURS)], TOKEN_MARKERS[k % len(TOKEN_MARKERS)]
        style = _LINES[k // len(TOKEN_COLOURS) % len(_LINES)]
        axes.plot(steps, values[:, k], style, color=colour, marker=marker, markersize=3.5, linewidth=1, label=token)
    axes.plot(steps, np.ma.masked_invalid(values).mean(axis=1), color="black", linewidth=2.2, label="mean")
    axes.axhline(1 / len(tokens), color="0.5", linestyle=":", linewidth=1.2, label="chance")
    scale_steps(axes, max(steps))
    axes.set_xlim(-0.3, max(steps) * 1.05 + 1)
    axes.set_ylim(-0.03, 1.03)
    axes.spines[["top", "right"]].set_visible(False)
