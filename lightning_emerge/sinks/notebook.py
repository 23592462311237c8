"""A notebook: the latest picture of each kind below the cell that trains, while it trains."""

from __future__ import annotations

import os
import sys
from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from math import isfinite
from typing import Any

from lightning_emerge.records import Measurement, Pixels
from lightning_emerge.sinks.png import encode_png

SWITCH = "LIGHTNING_EMERGE_INLINE"
"""The variable of the environment that says "off" where nothing is to be shown."""


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return hasattr(shell, "kernel")


def notebook_sinks() -> list[NotebookSink]:
    """Makes a sink for the cell that runs, if there is one and pictures are not switched off."""
    return [NotebookSink()] if in_notebook() and os.environ.get(SWITCH, "") != "off" else []


class NotebookSink:
    """Shows where a run stands, and the latest picture of each kind, below the cell in which it begins.

    What it shows takes the place of what it showed before, so that a run of many looks leaves no more than the last.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, float] = {}
        self._pictures: dict[str, tuple[int, bytes]] = {}
        self._cell: Any = None

    def go_on(self, step: int) -> None:
        """Takes its place below the cell that runs."""
        from IPython.display import HTML, display

        if self._cell is None:
            self._cell = display(HTML(self._page(step)), display_id=True)

    def write(self, step: int, measurements: Sequence[Measurement], pictures: Mapping[str, Pixels]) -> None:
        """Shows what was measured as one number, and what was drawn, at one step."""
        from IPython.display import HTML

        self._numbers |= {one.name: float(one.values) for one in measurements if not one.axes and isfinite(one.values)}
        self._pictures |= {name: (step, encode_png(pixels)) for name, pixels in pictures.items()}
        self._cell.update(HTML(self._page(step)))

    def announce(self, step: int) -> None:
        """A cell needs no word of records."""

    def close(self) -> None:
        """What is shown stays."""

    def _page(self, step: int) -> str:
        said = " · ".join([f"<b>Step {step}</b>", *(f"{escape(k)} {v:.4g}" for k, v in self._numbers.items())])
        drawn = "".join(_figure(name, at, png) for name, (at, png) in self._pictures.items())
        return f'<div>{said}</div><div style="display:flex;flex-wrap:wrap;gap:8px">{drawn}</div>'


def _figure(name: str, step: int, png: bytes) -> str:
    return (
        f'<figure style="margin:0;max-width:480px"><img style="max-width:100%" alt="{escape(name)}" '
        f'src="data:image/png;base64,{b64encode(png).decode()}">'
        f"<figcaption>{escape(name)}, step {step}</figcaption></figure>"
    )
