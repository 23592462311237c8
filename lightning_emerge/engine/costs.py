"""What looking costs: seconds of each probe, and their share of the fit."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lightning_emerge.records import Axis, Measurement

CAPTURE, WAIT, WRITE, LOG = "capture", "waiting", "writing", "logging"
"""What belongs to no probe: passing the bank and copying weights, waiting for the writer, writing, calling loggers."""


@dataclass
class Cost:
    """Of one probe.

    Attributes:
        looks: how often it looked.
        seconds: of training, which waited meanwhile.
        beside: seconds beside training, in the writer's thread.
    """

    looks: int = 0
    seconds: float = 0.0
    beside: float = 0.0


class Costs:
    """Adds up the time that looking takes from a fit, from when it is made."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self.rows: dict[str, Cost] = {}

    @contextmanager
    def spend(self, name: str) -> Iterator[None]:
        """Times a look, for which training waits."""
        began = time.monotonic()
        row = self.rows.setdefault(name, Cost())
        try:
            yield
        finally:
            row.looks += 1
            row.seconds += time.monotonic() - began

    @contextmanager
    def spend_beside(self, name: str) -> Iterator[None]:
        """Times what is done while training goes on."""
        began = time.monotonic()
        row = self.rows.setdefault(name, Cost())
        try:
            yield
        finally:
            row.beside += time.monotonic() - began

    def measure(self, step: int) -> list[Measurement]:
        """Says what has been spent so far: seconds by probe, and the share of the fit that training waited."""
        elapsed = max(time.monotonic() - self._began, 1e-9)
        rows = dict(self.rows)
        axis = (Axis("probe", [name.replace(" ", "_") for name in rows]),)
        seconds = np.array([row.seconds + row.beside for row in rows.values()])
        shares = np.array([row.seconds for row in rows.values()]) / elapsed
        about = "What looking has cost so far"
        return [
            Measurement("probe_seconds", seconds, axis, step, "s", "Costs", about),
            Measurement("probe_share", shares, axis, step, "share of the fit that training waited", "Costs", about),
        ]

    def plain(self) -> dict[str, Any]:
        """The same as plain values: the seconds that have passed, and those of each row."""
        rows = {name: asdict(row) for name, row in dict(self.rows).items()}
        return {"seconds": time.monotonic() - self._began, "rows": rows}

    def table(self) -> list[str]:
        """The same as lines of a table."""
        elapsed = max(time.monotonic() - self._began, 1e-9)
        width = max(map(len, ["all", *self.rows])) + 1
        lines = [f"{'':{width}} {'looks':>6} {'training waited':>17} {'share':>7} {'beside it':>10}"]
        total = Cost(0, sum(row.seconds for row in self.rows.values()), sum(row.beside for row in self.rows.values()))
        for name, row in [*self.rows.items(), ("all", total)]:
            looks = str(row.looks) if row.looks else ""
            lines.append(
                f"{name:{width}} {looks:>6} {row.seconds:15.2f} s {row.seconds / elapsed:7.1%} {row.beside:8.2f} s"
            )
        return lines
