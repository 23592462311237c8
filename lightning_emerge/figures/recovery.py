"""How well couplings follow the grammar, over steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.artist import Artist
from matplotlib.figure import Figure

from lightning_emerge.figures.canvas import TOKEN_COLOURS, TOKEN_MARKERS, add_legend, new_figure, scale_steps


def draw_recovery(
    runs: Mapping[str, tuple[Sequence[int], Sequence[float]]],
    chance: tuple[Sequence[int], Sequence[float], Sequence[float]],
) -> Figure:
    """Draws how surely couplings tell which parts make up which wholes, over optimizer steps.

    Args:
        runs: name -> steps and AUC of its looks, 0 to 1.
        chance: steps, and the ends of what 95% of shuffled grammars have.
    """
    figure = new_figure(7.6, 4.4)
    axes = figure.subplots()
    steps, low, high = chance
    chances = axes.fill_between(steps, low, high, color="0.88", linewidth=0, label="95% of shuffled\ngrammars")
    handles: list[Artist] = [chances]
    axes.axhline(0.5, color="0.5", linestyle=":", linewidth=1.2)
    for number, (name, (looks, areas)) in enumerate(runs.items()):
        colour, marker = TOKEN_COLOURS[number % len(TOKEN_COLOURS)], TOKEN_MARKERS[number % len(TOKEN_MARKERS)]
        handles += axes.plot(looks, areas, color=colour, marker=marker, markersize=3.5, linewidth=1.2, label=name)
    scale_steps(axes, max(steps))
    axes.set_xlim(-0.3, max(steps) * 1.05 + 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("optimizer steps (linear to 10, then logarithmic)")
    axes.set_ylabel("AUC, parts and wholes that have them")
    axes.set_title("Do couplings follow the grammar?", fontsize=11)
    add_legend(axes, handles, frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.01, 0.5))
    axes.spines[["top", "right"]].set_visible(False)
    return figure
