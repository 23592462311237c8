"""Calibrates every record: what it says where there is nothing, and how much it finds of what was planted.

make calibration

Each record is measured by its own probe on captures that are drawn 40 times, with nothing to find and with an effect
whose size is known from a closed form or an independent oracle. Nothing is handed to the measure: noise, means, folds
and thresholds are its own. The table goes into docs/probes.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, sqrt
from pathlib import Path

import numpy as np
import torch
from trials import TRIALS
from trials.common import Array, Trial, mean

import lightning_emerge as le

PAGE = Path(__file__).with_name("probes.md")
BEGIN, END = "<!-- calibration: made by `make calibration` -->", "<!-- calibration: end -->"
DRAWS = 40


@dataclass(frozen=True)
class Found:
    """What one record said.

    Attributes:
        record: its name.
        nothing: what there is where there is nothing to find.
        expected: what the record should say there; None if it has no value of its own.
        null: what it says, the mean over draws.
        z: how many standard errors that is from what it should be.
        effect: what is planted.
        truth: what the record should say of it; None if that is not known.
        planted: what it says, the mean over draws.
    """

    record: str
    nothing: str
    expected: float | None
    null: float
    z: float | None
    effect: str
    truth: float | None
    planted: float

    @property
    def recovery(self) -> float | None:
        """Share of the planted effect that is found, from what the record should say without it."""
        start = self.expected or 0.0
        if self.truth is None or self.truth == start:
            return None
        return (self.planted - start) / (self.truth - start)


def calibrate(draws: int = DRAWS) -> list[Found]:
    """Goes through all trials.

    Args:
        draws: of each world, 2 or more; seeds are 0, 1, ...
    """
    return [found for trial in TRIALS for found in _try(trial(), draws)]


def _try(trial: Trial, draws: int) -> list[Found]:
    nulls, effects = (
        [look(trial.probe(seed), world(seed)) for seed in range(draws)] for world in (trial.nothing, trial.planted)
    )
    found: list[Found] = []
    for row in trial.rows:
        null, planted = (np.array([row.read(look[row.record]) for look in looks]) for looks in (nulls, effects))
        z = None if row.expected is None else _deviation(null, row.expected)
        means = mean(null), mean(planted)
        found.append(Found(row.record, trial.null, row.expected, means[0], z, trial.effect, row.truth, means[1]))
    return found


def look(probe: le.Probe, capture: le.Capture) -> dict[str, Array]:
    """What a probe records of a capture, by name."""
    return {measurement.name: measurement.values.astype(np.float64) for measurement in probe.measure(capture)}


def _deviation(values: Array, expected: float) -> float:
    """Standard errors from the mean to what is expected; values that do not vary are right but for float32."""
    error = float(values.std(ddof=1)) / sqrt(len(values))
    away = float(values.mean()) - expected
    return 0.0 if abs(away) <= 1e-5 * max(1.0, abs(expected)) else away / error if error else float("inf")


def write_table(rows: Sequence[Found], page: Path = PAGE) -> None:
    """Puts the table in place of the one that the page has.

    Raises:
        ValueError: if the page has no place for it.
    """
    text = page.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(
            f"The table stands between {BEGIN!r} and {END!r}; {page} has no such place. Put both lines in."
        )
    before, rest = text.split(BEGIN)
    head = ("record", "nothing there", "should be", "is", "z", "planted", "should be", "is", "recovery")
    lines = [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *map(_cells, rows))]
    page.write_text("\n".join([before + BEGIN, "", *lines, "", END + rest.split(END)[1]]))


def _cells(row: Found) -> list[str]:
    return [
        f"`{row.record}`",
        row.nothing,
        _number(row.expected),
        _number(row.null),
        "" if row.z is None else f"{row.z:+.1f}",
        row.effect,
        _number(row.truth),
        _number(row.planted),
        "" if row.recovery is None else f"{row.recovery:.0%}",
    ]


def _number(value: float | None) -> str:
    return "" if value is None else "not measurable" if isnan(value) else f"{value:.3g}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    write_table(calibrate())
