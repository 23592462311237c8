"""What shows a run while it goes on: event files, and the cell of a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from lightning_emerge.records import Measurement, Pixels


class Board(Protocol):
    """A sink of measurements and pictures."""

    def write(self, step: int, measurements: Sequence[Measurement], pictures: Mapping[str, Pixels]) -> None:
        """Takes what was measured and drawn at one step; it may be called from any thread."""
        ...

    def go_on(self, step: int) -> None:
        """Begins where the run stands, in the thread that trains."""
        ...

    def announce(self, step: int) -> None:
        """Says that the run has records."""
        ...

    def close(self) -> None:
        """Ends what is shown; a later `write` shows more."""
        ...
