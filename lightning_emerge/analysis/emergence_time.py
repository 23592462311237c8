"""What it is that a series has emerged: whether, by how much, and when. The one definition for all that tells of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor, inf, sqrt
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from lightning_emerge.analysis.crossing import Gaps, Rise, fit_rise
from lightning_emerge.analysis.fits import LEVEL, SHARE, Change, null_gains

FEWEST = 8
"""Looks beside that at step 0 without which nothing can be said."""

ALPHA = 0.01
"""How often noise without a change is said to have emerged, of the slowest noise that is thought of."""

SLOWNESS = (0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98)
"""Correlations of noise with that at the look before: the least of them that is no less than that of a series."""

UNKNOWN = 0.8
"""Correlation that noise may have, unless looks are so many that they show it to be less."""

Whether: TypeAlias = Literal["emerged", "never", "unresolved"]

_Series: TypeAlias = npt.NDArray[np.floating]
_NULLS = 4999
_SEED = 20
_MOST = 500  # means are judged, not looks, of which there are more


@dataclass(frozen=True)
class Moment:
    """A step, and how surely it is known.

    Attributes:
        step: optimizer steps.
        low: the look at which the 95% interval begins.
        high: the look at which it ends.
    """

    step: float
    low: float
    high: float


@dataclass(frozen=True)
class Emergence:
    """Whether a series emerged, by how much, and when.

    Attributes:
        whether: "emerged"; "never", if it did not change by `least`; "unresolved", if these looks cannot tell.
        onset: when it left its baseline for good: where it has gone 10% of its way to its final level; None if it has
            not emerged.
        mastery: from when on it stays within 10% of its way from its final level; None if it has not emerged, or if
            fewer than three looks lie there.
        baseline: level before, in the unit of the series; of the first three looks if it has not emerged.
        level: final level; of the last three looks if it has not emerged.
        least: the least change that counts.
        detectable: the least change that these looks would have shown, midway, in noise as large as theirs: `least` or
            more; infinite if there are too few.
        looks_inside: looks between 10% and 90% of the way; None if it has not emerged.
        p_value: how often noise without a change would seem to change as much, 0.0006 to 1.
    """

    whether: Whether
    onset: Moment | None
    mastery: Moment | None
    baseline: float
    level: float
    least: float
    detectable: float
    looks_inside: int | None
    p_value: float

    @property
    def change(self) -> float:
        """From baseline to final level, below 0 for a fall."""
        return self.level - self.baseline

    @property
    def step(self) -> float | None:
        """Of the onset."""
        return self.onset and self.onset.step

    @property
    def low(self) -> float | None:
        """Where the interval of the onset begins."""
        return self.onset and self.onset.low

    @property
    def high(self) -> float | None:
        """Where the interval of the onset ends."""
        return self.onset and self.onset.high


def emergence_time(steps: Sequence[int] | npt.ArrayLike, values: npt.ArrayLike, least: float) -> Emergence:
    """Finds whether a series left its baseline for good, by how much, and when.

    **Whether.** It emerged if all of these hold:

    - The final level is at least `least` from the baseline, and as far beyond the untrained network's: what is
      significant from look to look, as the same stimuli are looked at, may be nothing that holds for others.
    - It changes more than 99% of 4,999 series of noise: a ramp or a monotone curve explains more of it, or its first
      and last looks lie further apart for their own variance. The noise has an autocorrelation of 0.8, unless many
      looks show less or what a monotone fit leaves shows more: few looks cannot tell slow noise from a rise.
    - The last three looks are nearer to the final level than to the baseline, and so many lie before the onset, the
      one at step 0 included. The untrained network is a level of its own, which is not fitted.

    It never emerged if its last three looks and its first three differ by less than `least`, and neither the last look
    nor step 0 lies apart. All else is not resolved by these looks.

    **By how much.** A baseline, a way and a final level are fitted by least squares. What overshoots has the level on
    which it settles.

    **When.** The onset is where it has gone 10% of its way, the mastery where it comes within 10% of its final level,
    both for good. Their 95% intervals are those of Banerjee & Wellner (2001, Annals of Statistics 29) for a curve of
    any shape that never falls, from look to look, with allowance for the error of the levels, for noise that differs
    from place to place and for its autocorrelation. Only the order of looks counts, however they are spaced. Nothing is
    sampled but the noise, always the same. How often intervals cover the truth is in docs/emergence.md.

    Args:
        steps: step of each look, ascending.
        values: (look,) the series; looks with NaN are left out, but a series that ends with one has not left for good.
        least: the least change that counts, 0 or more, in the unit of the series; `least_share` and `least_auc` give
            it for series of stimuli.

    Returns:
        Its emergence. Of fewer than 8 looks beside step 0 nothing is resolved.

    Raises:
        ValueError: if steps and values differ in number, the steps do not ascend, or the least change is below 0.
    """
    looks = Looks.of(steps, values)
    found = judge(looks, least)
    if not found.emerged:
        return _tell_no_change(looks, found, least)
    rise, sign = found.rise, found.rise.change.sign
    return Emergence(
        "emerged",
        looks.moment(rise.begun, rise.onset().ends()),
        looks.moment(*rise.mastery()) if rise.settles else None,
        sign * rise.baseline,
        sign * rise.level,
        least,
        found.detectable,
        looks.count_between(rise.begun, rise.done),
        found.p_value,
    )


@dataclass(frozen=True)
class Looks:
    """Looks of a series beside that at step 0, or means of neighbours if they are very many.

    Attributes:
        steps: (look,) of each look.
        values: (mean,) of as many looks each as `group` says.
        group: looks in a mean.
        start: the value at step 0; None if there is none.
        ended: whether the last look has a value.
    """

    steps: _Series
    values: _Series
    group: int
    start: float | None
    ended: bool

    @staticmethod
    def of(steps: Sequence[int] | npt.ArrayLike, values: npt.ArrayLike) -> Looks:
        """Takes a series apart.

        Raises:
            ValueError: as `emergence_time`.
        """
        at: _Series = np.asarray(steps, dtype=np.float64)
        series: _Series = np.asarray(values, dtype=np.float64)
        if at.shape != series.shape or at.ndim != 1:
            raise ValueError(f"A series has one value a step; got steps of shape {at.shape}, values of {series.shape}.")
        if (np.diff(at) <= 0).any():
            raise ValueError("The steps of a series ascend; these do not. Sort them, and keep one value of each.")
        known = np.isfinite(series)
        ended = bool(known[-1:].all())
        at, series = at[known], series[known]
        start = float(series[0]) if len(at) and at[0] == 0 else None
        if start is not None:
            at, series = at[1:], series[1:]
        group = max(1, ceil(len(series) / _MOST))
        over = len(series) % group  # what is left over is early, so that the end is whole
        at, means = at[over:], series[over:].reshape(-1, group).mean(axis=1)
        return Looks(at, means, group, start, ended)

    def span(self, first: int, last: int) -> tuple[float, float]:
        """The looks around gaps: nothing is known between two looks."""
        before, after = (first - 1) * self.group, (last + 1) * self.group - 1
        first_step = 0.0 if before < 0 and self.start is not None else float(self.steps[max(before, 0)])
        return first_step, float(self.steps[min(after, len(self.steps) - 1)])

    def moment(self, at: float, gaps: tuple[int, int]) -> Moment:
        """A place among means, and the first and the last gap in which it may be."""
        low, high = self.span(*gaps)
        return Moment(min(max(self.place(at), low), high), low, high)

    def place(self, at: float) -> float:
        """The step of a place among means."""
        middles = self.steps.reshape(-1, self.group).mean(axis=1)
        return float(np.interp(at, np.arange(len(middles)), middles))

    def count_between(self, begun: float, done: float) -> int:
        """How many looks lie between two places."""
        return int(np.count_nonzero((self.steps > self.place(begun)) & (self.steps < self.place(done))))


@dataclass(frozen=True)
class Judged:
    """Whether a series emerged; `fitted` is its fit, None of one that is too short or constant."""

    emerged: bool
    p_value: float
    detectable: float
    fitted: Rise | None = None

    @property
    def rise(self) -> Rise:
        """The fit of what emerged."""
        assert self.fitted is not None
        return self.fitted

    def onset(self) -> Gaps:
        """Where it left its baseline."""
        return self.rise.onset()


def judge(looks: Looks, least: float) -> Judged:
    """Decides whether a series emerged.

    Raises:
        ValueError: if the least change is below 0.
    """
    if not least >= 0:
        raise ValueError(f"The least change that counts is 0 or more, in the unit of the series; got {least}.")
    series = looks.values
    if len(series) < FEWEST:
        return Judged(False, 1.0, inf)
    if np.ptp(series) <= 1e-9 * max(1e-300, float(np.abs(series).max())):
        return Judged(False, 1.0, least)
    rise = fit_rise(series)
    change, nulls = rise.change, _nulls(len(series), _slowness(rise))
    beyond = (nulls >= np.array([[change.ramp], [change.monotone], [change.ends]])).sum(axis=1)
    p_value = min(1.0, 3 * float(1 + beyond.min()) / (1 + _NULLS))  # the best of three
    emerged = (
        p_value <= ALPHA and looks.ended and change.lasts and _begins(change, looks) and _is_apart(rise, looks, least)
    )
    # A step midway in white noise explains a quarter of its square.
    shown = 2 * rise.noise * sqrt(float(np.quantile(nulls[0], 1 - ALPHA / 3)))
    return Judged(bool(emerged), p_value, max(least, shown), rise)


@lru_cache(maxsize=64)
def _nulls(count: int, own: float) -> _Series:
    return null_gains(count, own, _NULLS, _SEED)


def _slowness(rise: Rise) -> float:
    """How slow the noise may be: four standard errors more than it seems, but then no more than is thought of."""
    own, error = rise.autocorrelation, 1 / sqrt(len(rise.series))
    most = max(min(own + 4 * error, UNKNOWN), own + error)
    return next((one for one in SLOWNESS if one >= most), SLOWNESS[-1])


def _begins(change: Change, looks: Looks) -> bool:
    """Whether enough looks lie before the onset, as for noise."""
    begun = change.first + SHARE * (change.last - change.first)
    return floor(begun) + 1 + (looks.start is not None) >= LEVEL


def _is_apart(rise: Rise, looks: Looks, least: float) -> bool:
    """Whether a final level is so far from the baseline, and as far beyond the untrained network's on that side."""
    return rise.way >= least and (looks.start is None or rise.level - rise.change.sign * looks.start >= least)


def _tell_no_change(looks: Looks, found: Judged, least: float) -> Emergence:
    series = looks.values
    if not len(series):
        return Emergence("unresolved", None, None, np.nan, np.nan, least, inf, None, 1.0)
    before, after = float(series[:LEVEL].mean()), float(series[-LEVEL:].mean())
    start = series[0] if looks.start is None else looks.start
    # A look apart by noise is none: 1.05 is the standard deviation of a difference by its median.
    apart = max(least, 3 * 1.05 * float(np.median(np.abs(np.diff(series))))) if len(series) > 1 else least
    same = abs(after - before) < least and abs(series[-1] - before) < apart and abs(after - start) < apart
    never = looks.ended and len(series) >= FEWEST and (same or float(np.ptp(series)) == 0)
    whether = "never" if never else "unresolved"
    return Emergence(whether, None, None, before, after, least, found.detectable, None, found.p_value)
