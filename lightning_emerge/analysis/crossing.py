"""Where in its looks a series has gone a share of its way, with 95% intervals that take no shape for granted.

A crossing is a gap between two looks, before which a curve is below a cut and after which it is above. Whether a gap
can be the one is judged by how much worse the best curve that never falls becomes if it has to cross there (Banerjee &
Wellner 2001, Annals of Statistics 29). So only the order of the looks counts, and not how they are spaced: a step, a
ramp, a sigmoid and looks that follow the loss are all the same to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, hypot, log, sqrt
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lightning_emerge.analysis.fits import LEVEL, SHARE, Change, bounded_fits, find_change, fit_ramp

_WORSE = 2.27
"""Squared errors by which a curve may become worse: 95% of those that cross where the truth does stay below it."""

_QUIETER = 3
"""How many times as quiet as elsewhere noise may be taken to be."""

_FINEST = 1e-4
"""Share of the way below which noise counts as rounding."""

_Series: TypeAlias = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Gaps:
    """How well each gap between looks does as a crossing.

    Attributes:
        early: (gap, look) residuals, in standard errors, of curves that have to cross there, for the lowest cut that
            the levels allow. Gap j lies before look j; in gap 0 all looks are beyond the cut, in the last none is.
        late: the same for the highest cut.
    """

    early: _Series
    late: _Series

    def ends(self) -> tuple[int, int]:
        """The first and the last gap of the 95% interval."""
        return int(np.flatnonzero(_may_be(self.early))[0]), int(np.flatnonzero(_may_be(self.late))[-1])

    def best(self) -> int:
        """The gap that does best."""
        return int((np.square(self.early).sum(axis=1) + np.square(self.late).sum(axis=1)).argmin())


@dataclass(frozen=True)
class Side:
    """One end of a way: a series that leaves a baseline. For the final level it is turned round and over.

    Attributes:
        series: (look,) cut off at the other level.
        baseline: its level.
        begun: where it has gone 10% of its way, in looks.
        first: where its way begins.
        residuals: (look,) what the fit leaves.
    """

    series: _Series
    baseline: float
    begun: float
    first: float
    residuals: _Series

    def variances(self, way: float) -> _Series:
        """Of each look's noise, with what neighbours share: the local one, as far as few looks can tell it."""
        count = len(self.residuals)
        width = max(4, count // 6) + 1
        weights = np.maximum(0.0, width - np.abs(np.subtract.outer(np.arange(count), np.arange(count))))
        local = weights @ np.square(self.residuals) / weights.sum(axis=1) * count / (count - 4)
        variances = np.maximum(local, _usual(self.residuals) / _QUIETER**2) * _slowness(self.series)
        return np.maximum(variances, (_FINEST * way) ** 2)

    def error(self, way: float) -> float:
        """Standard error of the level."""
        variance = max(_usual(self.residuals) * _slowness(self.series), (_FINEST * way) ** 2)
        return sqrt(variance / (floor(self.first) + 1))

    def cross(self, way: float, error: float) -> Gaps:
        """Where it leaves its baseline, with so large an error of the other level."""
        own = hypot((1 - SHARE) * self.error(way), SHARE * error)
        return _cross(self.series, self.variances(way), self.baseline + SHARE * way, own)


@dataclass(frozen=True)
class Rise:
    """A series turned so that it rises, as its fits see it.

    Attributes:
        change: its ramp.
        series: (look,).
        level: final level.
        start: the baseline's side.
        end: that of the final level, where time runs back.
    """

    change: Change
    series: _Series
    level: float
    start: Side
    end: Side

    @property
    def baseline(self) -> float:
        """Level before."""
        return self.start.baseline

    @property
    def way(self) -> float:
        """From baseline to final level."""
        return self.level - self.baseline

    @property
    def begun(self) -> float:
        """Where it has gone 10% of its way, in looks."""
        return self.start.begun

    @property
    def done(self) -> float:
        """Where it has first gone 90%."""
        return max(self._back(self.end.begun), self.begun)

    @property
    def noise(self) -> float:
        """Standard deviation from look to look."""
        return sqrt(_pooled(self.start.residuals))

    @property
    def autocorrelation(self) -> float:
        """Of what a monotone fit leaves, which follows a way of any shape, from look to look, 0 to 1."""
        return _neighbours(self.start.series)

    @property
    def settles(self) -> bool:
        """Whether enough looks lie at the final level."""
        return floor(self.end.begun) + 1 >= LEVEL

    def onset(self) -> Gaps:
        """Where it leaves its baseline."""
        return self.start.cross(self.way, self.end.error(self.way))

    def mastery(self) -> tuple[float, tuple[int, int]]:
        """Where it comes near its final level for good, in looks, and the first and the last gap at which it may."""
        count = len(self.series)
        low, high = self.end.cross(self.way, self.start.error(self.way)).ends()
        first, last = count - high, count - low
        if self.change.settled >= self.level and not self.change.again:
            return self.done, (first, last)
        above = self._settling()
        if not self.change.again or _may_be(above.early)[-1]:  # it may have been near all the time
            return self.done, (first, max(last, count - above.ends()[0]))
        return count - above.best() - 0.5, (count - above.ends()[1], count - above.ends()[0])

    def _back(self, look: float) -> float:
        return len(self.series) - 1 - look

    def _settling(self) -> Gaps:
        """Where it comes near from above, where time runs back."""
        way = self.change.settled - self.baseline
        turned = self.series[min(ceil(self.change.last), len(self.series) - LEVEL) :][::-1]
        fit = bounded_fits(turned, np.ones(len(turned)), np.inf)[-1]
        freedom = max(len(turned) - 1.5 * len(np.unique(fit)), 1.0)  # Meyer & Woodroofe 2000
        variance = float(np.square(turned - fit).sum()) / freedom * _slowness(self.start.series)
        variances = np.full(len(turned), max(variance, (_FINEST * way) ** 2))
        error = hypot((1 + SHARE) * self.end.error(way), SHARE * self.start.error(way))
        return _cross(turned, variances, self.change.settled + SHARE * way, error)


def fit_rise(series: _Series) -> Rise:
    """Fits a baseline, a way and a final level to a series, which may fall as well.

    The way is straight or logistic, whichever leaves less. It says how much, and roughly where; intervals do not
    depend on it.

    Args:
        series: (look,), eight looks or more that are not all the same.
    """
    change = find_change(series)
    turned = change.sign * series
    start = _see(np.minimum(turned, change.level))
    late = np.clip(turned, start.baseline, change.level if change.again else np.inf)
    end = _see(-late[::-1])
    return Rise(change, turned, change.level if change.again else -end.baseline, start, end)


def _see(series: _Series) -> Side:
    first, last, *_ = fit_ramp(series)
    fits = [_fit(series, way) for way in _ways(len(series), first, last)]
    rest = [float(np.square(series - fitted).sum()) for _, fitted in fits]
    curved = rest[1] < rest[0]
    baseline, fitted = fits[curved]
    along = 0.5 - log((1 - SHARE) / SHARE) / _STEEPNESS if curved else SHARE
    return Side(series, baseline, first + along * (last - first), first, series - fitted)


def correlate(one: Rise, other: Rise) -> float:
    """How far noise at the same look is alike in two series, -0.9 to 0.9; 0 where that may be chance."""
    a, b = one.start.residuals, other.start.residuals
    size = float(np.sqrt((a @ a) * (b @ b)))
    if len(a) != len(b) or not size:
        return 0.0
    alike = float(a @ b) / size
    return min(max(alike, -0.9), 0.9) if abs(alike) > 2 / sqrt(len(a)) else 0.0


def pairs(one: _Series, other: _Series, alike: float) -> npt.NDArray[np.bool_]:
    """Which pairs of gaps can be the crossings of two series.

    Args:
        one: (gap, look) residuals in standard errors, as `Gaps` has them.
        other: (gap, look) of the other series; of as many looks unless `alike` is 0.
        alike: correlation of their noise at the same look.

    Returns:
        (gap, gap).
    """
    costs = np.add.outer(np.square(one).sum(axis=1), np.square(other).sum(axis=1))
    if alike:
        costs = (costs - 2 * alike * one @ other.T) / (1 - alike**2)
    return costs <= costs.min() + _WORSE


def _may_be(residuals: _Series) -> npt.NDArray[np.bool_]:
    costs = np.square(residuals).sum(axis=1)
    return costs <= costs.min() + _WORSE


def _cross(series: _Series, variances: _Series, cut: float, error: float) -> Gaps:
    weights = 1 / variances
    early, late = (_fit_gaps(series, weights, own) for own in (cut - error, cut + error))
    return Gaps(*((series - fits) * np.sqrt(weights) for fits in (early, late)))


def _fit_gaps(series: _Series, weights: _Series, cut: float) -> _Series:
    """(gap, look) the best curve that never falls and crosses a cut in each gap."""
    after = -bounded_fits(-series[::-1], weights[::-1], -cut)[::-1, ::-1]
    return bounded_fits(series, weights, cut) + after


def _fit(series: _Series, way: _Series) -> tuple[float, _Series]:
    about = way - way.mean()
    slope = float(about @ series) / float(about @ about)
    baseline = float(series.mean()) - slope * float(way.mean())
    return baseline, baseline + slope * way


_MEETS = 0.15
"""Share of the way at which a ramp fitted to a logistic curve by least squares meets it."""

_STEEPNESS = 2 * log((1 - _MEETS) / _MEETS) / (1 - 2 * _MEETS)


def _ways(count: int, first: float, last: float) -> tuple[_Series, _Series]:
    """A ramp from 0 to 1, and the logistic curve that it would be fitted to."""
    along = (np.arange(count) - first) / (last - first)
    return np.clip(along, 0, 1), 0.5 + 0.5 * np.tanh(0.5 * _STEEPNESS * (along - 0.5))


def _pooled(residuals: _Series) -> float:
    return float(residuals @ residuals) / (len(residuals) - 4)  # four numbers are fitted


def _usual(residuals: _Series) -> float:
    """The variance that noise mostly has: looks further away than normal noise ever is count as much as such noise."""
    bound = 2.5 * 1.4826 * float(np.median(np.abs(residuals)))
    return _pooled(np.clip(residuals, -bound, bound))


def _neighbours(series: _Series) -> float:
    """Correlation of neighbours in what a monotone fit leaves, 0 to 1, with about so much added as it takes away."""
    residuals = series - bounded_fits(series, np.ones(len(series)), np.inf)[-1]
    power, count = float(residuals @ residuals), len(residuals)
    own = float(residuals[1:] @ residuals[:-1]) / power if power else 0.0
    return min(max((count * own + 4) / (count - 4), 0.0), 1.0)


def _slowness(series: _Series) -> float:
    """How many times as large the variance of a mean is as if neighbours had nothing in common."""
    own = min(_neighbours(series), 0.9)
    return (1 + own) / (1 - own)
