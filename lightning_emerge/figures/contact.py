"""The contact sheet: what the exemplars look like, what they are made of, and how far they vary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_emerge.figures.canvas import mosaic, new_figure

_MOST_TOKENS, _MOST_PARTS = 12, 24
_INK, _PALE = "#0072B2", "0.88"


@dataclass(frozen=True)
class Span:
    """A range that is in use, within the range that is allowed.

    Attributes:
        low: lower end in use.
        high: upper end in use.
        lowest: lower end allowed.
        highest: upper end allowed.
        unit: what the numbers are shares or counts of.
    """

    low: float
    high: float
    lowest: float
    highest: float
    unit: str


@dataclass(frozen=True)
class Sheet:
    """What a contact sheet shows.

    Attributes:
        images: uint8 (token, exemplar, channel, y, x).
        tokens: names of the tokens.
        title: what the exemplars are.
        parts: names of the parts, if the tokens are made of parts.
        stands: bool (part, token), which part stands in which token.
        spans: each nuisance's range, by name.
    """

    images: npt.NDArray[np.uint8]
    tokens: Sequence[str]
    title: str
    parts: Sequence[str] = ()
    stands: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), bool))
    spans: Mapping[str, Span] = field(default_factory=dict[str, Span])


def draw_sheet(sheet: Sheet) -> Figure:
    """Draws a contact sheet: exemplars by token and, if there are parts, which token has which, and the nuisances.

    Of many tokens or parts the first are shown, and the sheet says of how many.
    """
    rows = min(len(sheet.tokens), _MOST_TOKENS)
    columns = sheet.images.shape[1]
    width = 11.0
    upper = min((width - 1.2) / columns, 1.1) * rows + 0.9
    if not sheet.parts:
        figure = new_figure(width, upper)
        _draw_exemplars(figure.subplots(), sheet, rows)
        return figure
    parts = min(len(sheet.parts), _MOST_PARTS)
    lower = max(0.26 * max(parts, len(sheet.spans)) + 1.4, 0.34 * rows + 1.4)
    figure = new_figure(width, upper + lower)
    figure.set_layout_engine("constrained", h_pad=0.08, w_pad=0.08)
    top, bottom = figure.subfigures(2, squeeze=False, height_ratios=(upper, lower))[:, 0]
    _draw_exemplars(top.subplots(), sheet, rows)
    table, shared, nuisances = bottom.subplots(1, 3, width_ratios=(rows + 2, rows + 1, max(rows, 5)))
    _draw_parts(table, sheet, parts, rows)
    _draw_shared(shared, sheet, rows)
    _draw_spans(nuisances, sheet.spans)
    return figure


def _draw_exemplars(axes: Axes, sheet: Sheet, rows: int) -> None:
    tiles = sheet.images[:rows].transpose(0, 1, 3, 4, 2)
    side, columns = tiles.shape[2], tiles.shape[1]
    pixels, corners = mosaic(tiles.reshape(-1, *tiles.shape[2:]), columns, max(1, side // 16))
    axes.imshow(pixels, interpolation="nearest")
    axes.set_yticks([corners[row * columns][1] + side / 2 for row in range(rows)], sheet.tokens[:rows])
    axes.set_xticks([corners[column][0] + side / 2 for column in range(columns)], [str(k) for k in range(columns)])
    axes.set_xlabel("exemplar")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title(sheet.title + _cut(rows, len(sheet.tokens), "tokens"), fontsize=11)


def _draw_parts(axes: Axes, sheet: Sheet, parts: int, tokens: int) -> None:
    stands = sheet.stands[:parts, :tokens]
    _grid(axes, np.where(stands, 1.0, 0.0))
    for part, token in zip(*np.nonzero(stands), strict=True):
        axes.text(token, part, "●", color="white", ha="center", va="center", fontsize=8)
    axes.set_yticks(range(parts), [f"{sheet.parts[k]} ({sheet.stands[k].sum()})" for k in range(parts)], fontsize=8)
    _name_tokens(axes, sheet, tokens)
    axes.set_title("Parts (tokens that have it)" + _cut(parts, len(sheet.parts), "parts"), fontsize=10)


def _draw_shared(axes: Axes, sheet: Sheet, tokens: int) -> None:
    stands = sheet.stands[:, :tokens].astype(int)
    counts = stands.T @ stands
    _grid(axes, counts / max(1, counts.max()) * 0.9)
    for row in range(tokens):
        for column in range(tokens):
            dark = counts[row, column] > counts.max() / 2
            colour = "white" if dark else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=colour, fontsize=8)
    axes.set_yticks(range(tokens), sheet.tokens[:tokens], fontsize=8)
    _name_tokens(axes, sheet, tokens)
    axes.set_title("Parts that two tokens share", fontsize=10)


def _grid(axes: Axes, values: npt.NDArray[np.floating]) -> None:
    axes.imshow(values, cmap="Blues", vmin=-0.1, vmax=1.0, aspect="auto")
    axes.set_xticks(np.arange(values.shape[1] + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(values.shape[0] + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)


def _name_tokens(axes: Axes, sheet: Sheet, tokens: int) -> None:
    axes.set_xticks(range(tokens), sheet.tokens[:tokens], fontsize=8, rotation=90 if tokens > 6 else 0)


def _draw_spans(axes: Axes, spans: Mapping[str, Span]) -> None:
    """Each nuisance on an axis of its own, from the lowest to the highest value that is allowed."""
    for row, span in enumerate(spans.values()):
        length = span.highest - span.lowest
        low, high = (span.low - span.lowest) / length, (span.high - span.lowest) / length
        axes.barh(row, 1, color=_PALE, height=0.55)
        axes.barh(row, max(high - low, 0.008), left=low, color=_INK, height=0.55)
        used = f"{span.low:g} to {span.high:g}" if span.low != span.high else f"{span.high:g}"
        axes.text(1.03, row, f"{used}  {span.unit}", va="center", fontsize=8)
    axes.set_yticks(range(len(spans)), list(spans), fontsize=8)
    axes.set_xticks([0, 1], ["least", "most allowed"], fontsize=8)
    axes.set_xlim(0, 1)
    axes.set_ylim(len(spans) - 0.5, -0.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("Nuisances, as set", fontsize=10)


def _cut(shown: int, there: int, what: str) -> str:
    return f"; the first {shown} of {there} {what}" if shown < there else ""
