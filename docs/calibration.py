"""Calibrates every record: what it says where there is nothing, and how much it finds of what was planted.

make calibration

Each record is measured by its own probe on captures that are drawn 40 times, with nothing to find and with an effect
whose size is known from a closed form or an independent oracle. Nothing is handed to the measure: noise, means, folds
and thresholds are its own. The table goes into docs/probes.md, and so does one of networks that are lazy or build
features by construction.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isnan, nan, sqrt
from pathlib import Path

import numpy as np
import torch
from marked import put_table
from trials import TRIALS, laziness
from trials.common import Array, Trial

import lightning_emerge as le

PAGE = Path(__file__).with_name("probes.md")
BEGIN, END = "<!-- calibration: made by `make calibration` -->", "<!-- calibration: end -->"
REGIMES = "<!-- regimes: made by `make calibration` -->", "<!-- regimes: end -->"
DRAWS = 40
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Sample:
    """What a record said, over draws.

    Attributes:
        mean: of the draws in which it was measurable; NaN if it was in none.
        error: its standard error; 0 if the draws do not differ, NaN if there are none.
        known: in how many draws it was measurable.
    """

    mean: float
    error: float
    known: int


@dataclass(frozen=True)
class Found:
    """What one record said.

    Attributes:
        record: its name.
        nothing: what there is where there is nothing to find.
        expected: what the record should say there; None if that was not worked out.
        null: what it says.
        effect: what is planted.
        truth: what the record should say of it; None if that is not known.
        planted: what it says.
    """

    record: str
    nothing: str
    expected: float | None
    null: Sample
    effect: str
    truth: float | None
    planted: Sample

    @property
    def exact(self) -> bool:
        """Whether it says what it should where there is nothing, in every draw alike but for float32."""
        return self.expected is not None and max(abs(self.null.mean - self.expected), self.null.error) < _ROUNDING

    @property
    def z(self) -> float | None:
        """How many standard errors it is from what it should say where there is nothing."""
        if self.expected is None or self.exact:
            return None
        return (self.null.mean - self.expected) / self.null.error if self.null.error else inf

    @property
    def recovery(self) -> float | None:
        """Share of the planted effect that is found, from what the record says without it."""
        start = self.null.mean if self.expected is None else self.expected
        if self.truth is None or isnan(start):
            return None
        return (self.planted.mean - start) / (self.truth - start)


def calibrate(draws: int = DRAWS) -> list[Found]:
    """Goes through all trials.

    Args:
        draws: of each world, 2 or more; seeds are 0, 1, ...
    """
    return [found for trial in TRIALS for found in _try(trial(), draws)]


def _try(trial: Trial, draws: int) -> list[Found]:
    worlds = (trial.nothing, trial.planted)
    nulls, effects = ([look(trial.probe(seed), world(seed)) for seed in range(draws)] for world in worlds)
    found: list[Found] = []
    for row in trial.rows:
        null, planted = (_sample([row.read(look[row.record]) for look in looks]) for looks in (nulls, effects))
        found.append(Found(row.record, trial.null, row.expected, null, trial.effect, row.truth, planted))
    return found


def _sample(values: Sequence[float]) -> Sample:
    known = np.array([value for value in values if not isnan(value)])
    if len(known) < 2:
        return Sample(float(known.mean()) if len(known) else nan, nan, len(known))
    return Sample(float(known.mean()), float(known.std(ddof=1)) / sqrt(len(known)), len(known))


def look(probe: le.Probe, capture: le.Capture) -> dict[str, Array]:
    """What a probe records of a capture, by name."""
    return {measurement.name: measurement.values.astype(np.float64) for measurement in probe.measure(capture)}


def write_table(rows: Sequence[Found], page: Path = PAGE) -> None:
    """Puts the table in place of the one that the page has.

    Raises:
        ValueError: if the page has no place for it.
    """
    head = ("record", "nothing there", "should be", "is", "z", "planted", "should be", "is", "recovery")
    put_table(page, (BEGIN, END), [head, *map(_cells, rows)])


def _cells(row: Found) -> list[str]:
    return [
        f"`{row.record}`",
        row.nothing,
        "" if row.expected is None else f"{row.expected:.3g}",
        _said(row.null),
        "exact" if row.exact else "" if row.z is None else f"{row.z:+.1f}",
        row.effect,
        "" if row.truth is None else f"{row.truth:.3g}",
        _said(row.planted),
        "" if row.recovery is None else f"{row.recovery:.0%}",
    ]


def _said(sample: Sample) -> str:
    if isnan(sample.mean):
        return "NaN"
    few = "" if sample.known == DRAWS else f" (in {sample.known} of {DRAWS})"
    return f"{sample.mean:.3g}{few}" if not sample.error > _ROUNDING else f"{sample.mean:.3g} ± {sample.error:.1g}{few}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    write_table(calibrate())
    put_table(PAGE, REGIMES, laziness.rows())
