"""Emergence times: the step at which a series leaves its baseline for good, with a confidence interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log, sqrt
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from lightning_emerge.analysis.ramps import crossings, fit_ramp, null_gains
from lightning_emerge.measures.chance import exceedance

SHARE = 0.15
"""Share of its way from baseline to final level at which a series has left its baseline.

A ramp fitted to a sigmoid by least squares meets it there, so that the shape of the way matters least.
"""

FEWEST = 8
"""Looks beside that at step 0 without which nothing can be said."""

LEVEL = 3
"""Looks that have to lie at a level, so that one look which lies apart is none; step 0 may be one of the baseline's."""

_Series: TypeAlias = npt.NDArray[np.floating]
_RESAMPLES = 400
_NULLS = 199
_ALPHA = 0.005
_MOST = 1000  # means are tested for a change, not looks, of which there are more


@dataclass(frozen=True)
class Emergence:
    """When a series left its baseline for good.

    Attributes:
        step: optimizer steps; None if these looks do not show that it did.
        low: the look at which the 95% interval begins; None with `step`.
        high: the look at which it ends; None with `step`.
        baseline: level before, in the unit of the series; its mean if it never left.
        level: level after; its mean if it never left.
        p_value: how often a series without a change would seem to change as much, 0.005 to 1.
    """

    step: float | None
    low: float | None
    high: float | None
    baseline: float
    level: float
    p_value: float


@dataclass(frozen=True)
class Lead:
    """How many optimizer steps one series left its baseline before another.

    Attributes:
        steps: above zero if the first was first; None if one of them never left.
        low: lower end of the 95% interval.
        high: upper end of it.
    """

    steps: float | None
    low: float | None
    high: float | None


def emergence_time(
    steps: Sequence[int] | npt.ArrayLike, values: npt.ArrayLike, least: float, seed: int = 0
) -> Emergence:
    """Finds the step at which a series leaves its baseline for good.

    A baseline, a straight way up or down and a final level are fitted by least squares. The looks count as evenly
    spaced, so a series of log-spaced looks is fitted on a logarithmic axis. It has left its baseline where it has gone
    15% of its way: a fitted ramp meets a step, a ramp and a sigmoid there alike, though no sigmoid has a kink.

    The interval is that of a moving-block bootstrap of the residuals (Künsch 1989, Annals of Statistics 17), with
    blocks as long as their first autocorrelation asks for (Carlstein 1986, Annals of Statistics 14), widened to the
    looks around it. How often it covers the truth of simulated series is in docs/construction.md.

    A series left its baseline if all of these hold:

    - A ramp fits it better than any of 199 series of normal noise with the residuals' first autocorrelation.
    - The final level is at least `least` from the baseline: what is significant from look to look, as the same stimuli
      are looked at, may be nothing that holds for others, or too small to matter.
    - Three looks or more lie at the final level and at the baseline, so that one which lies apart is no level.
    - Its last tenth is nearer to the final level than to the baseline, so that a hump is not for good.

    The untrained network is a level of its own: a look at step 0 is not fitted, as the first update may take a series
    elsewhere once. It is one of the baseline's looks, and the final level lies at least `least` beyond it too.

    Args:
        steps: step of each look, ascending.
        values: (look,) the series; looks with NaN are left out, but a series that ends with one has not left for good.
        least: the least change that counts, 0 or more, in the unit of the series; `least_share` and `least_auc` give
            it for series of stimuli.
        seed: of the resampling.

    Returns:
        Its emergence; "never" (None) is an answer, and that of any series with fewer than 8 looks beside step 0.

    Raises:
        ValueError: if steps and values differ in number, the steps do not ascend, or the least change is below 0.
    """
    looks = _clean(steps, values)
    at, series = looks.steps, looks.values
    found = _leave(looks, least, seed)
    if not found.left:
        mean = float(series.mean()) if len(series) else float("nan")
        return Emergence(None, None, None, mean, mean, found.p_value)
    samples = found.sample(found.block, seed)
    low, high = _interval(samples, found.crossing)
    # Nothing is known between two looks.
    where = found.crossing, np.floor(low), np.ceil(high)
    step, low, high = (float(one) for one in _steps(at, np.array(where)))
    return Emergence(step, low, high, found.baseline, found.level, found.p_value)


def lead_time(
    steps: Sequence[int] | npt.ArrayLike,
    leader: npt.ArrayLike,
    follower: npt.ArrayLike,
    least: tuple[float, float],
    seed: int = 0,
) -> Lead:
    """Finds how long before another a series leaves its baseline for good.

    Where both have the same looks, the residuals of both are resampled in the same blocks, so that what disturbs both
    alike at a look does not count as uncertainty of the lead. No lead is known better than the looks around both.

    Args:
        steps: step of each look, ascending.
        leader: (look,) the series that is thought to come first; looks with NaN are left out.
        follower: (look,) the other.
        least: the least change that counts of the one and of the other, as for `emergence_time`.
        seed: of the resampling.

    Returns:
        The lead, above zero if `leader` is first.

    Raises:
        ValueError: as `emergence_time`.
    """
    pairs = [_clean(steps, values) for values in (leader, follower)]
    found = [_leave(looks, own, seed) for looks, own in zip(pairs, least, strict=True)]
    if not all(one.left for one in found):
        return Lead(None, None, None)
    block = max(one.block for one in found)
    (early, early_samples), (late, late_samples) = (
        (_steps(looks.steps, np.array(one.crossing)), _steps(looks.steps, one.sample(block, seed)))
        for looks, one in zip(pairs, found, strict=True)
    )
    lows, highs = (
        [float(_steps(looks.steps, end(np.array(one.crossing)))) for looks, one in zip(pairs, found, strict=True)]
        for end in (np.floor, np.ceil)
    )
    low, high = _interval(late_samples - early_samples, float(late - early))
    # Nothing is known between two looks.
    return Lead(float(late - early), min(low, lows[1] - highs[0]), max(high, highs[1] - lows[0]))


def _interval(samples: _Series, estimate: float) -> tuple[float, float]:
    low, high = np.quantile(samples, [0.025, 0.975])
    return min(float(low), estimate), max(float(high), estimate)


@dataclass(frozen=True)
class _Looks:
    """Looks of a series beside that at step 0, the value there, and whether its last look has one."""

    steps: _Series
    values: _Series
    start: float | None
    ended: bool


@dataclass(frozen=True)
class _Leaving:
    """A series as its fit sees it."""

    p_value: float
    left: bool = False
    crossing: float = 0.0
    baseline: float = 0.0
    level: float = 0.0
    block: int = 1
    fitted: _Series | None = None
    residuals: _Series | None = None

    def sample(self, block: int, seed: int) -> _Series:
        """Crossings, in looks, of resamples."""
        return crossings(self.fitted, self.residuals, block, _RESAMPLES, seed, SHARE)


def _leave(looks: _Looks, least: float, seed: int) -> _Leaving:
    if not least >= 0:
        raise ValueError(f"The least change that counts is 0 or more, in the unit of the series; got {least}.")
    series, start = looks.values, looks.start
    count = len(series)
    if count < FEWEST or np.ptp(series) <= 1e-9 * max(1e-300, float(np.abs(series).max())):
        return _Leaving(1.0)
    first, last, baseline, level, rest = fit_ramp(series)
    ramp, logistic = (baseline + (level - baseline) * way for way in _ways(count, first, last))
    # A logistic curve has the wider interval, so it is taken where both fit alike.
    fitted = logistic if np.square(series - logistic).sum() < rest * (1 + 2 / count) else ramp
    residuals = series - fitted
    block = _block(residuals)
    p_value = _change(series, seed)
    tail = series[-max(1, count // 10) :].mean()
    left = (
        p_value <= _ALPHA
        and abs(tail - level) <= abs(tail - baseline)
        and looks.ended
        and _is_apart(level, baseline, start, least)
        and floor(first) + 1 + (start is not None) >= LEVEL
        and count - ceil(last) >= LEVEL
    )
    crossing = first + SHARE * (last - first)
    spread = sqrt(count / (count - 4))  # four numbers are fitted
    return _Leaving(p_value, bool(left), crossing, baseline, level, block, fitted, residuals * spread)


def _is_apart(level: float, baseline: float, start: float | None, least: float) -> bool:
    """Whether a final level is so far from the baseline, and as far beyond the untrained network's on that side."""
    way = level - baseline
    return abs(way) >= least and (start is None or (level - start) * np.sign(way) >= least)


def _change(series: _Series, seed: int) -> float:
    """How often noise without a change seems to change as much as a series."""
    group = ceil(len(series) / _MOST)
    means = series[: len(series) // group * group].reshape(-1, group).mean(axis=1)
    first, last, baseline, level, rest = fit_ramp(means)
    centred = means - means.mean()
    total = float(centred @ centred)
    own = _neighbours(means - baseline - (level - baseline) * _ways(len(means), first, last)[0])
    nulls = null_gains(len(means), own, _NULLS, seed)
    gain = torch.tensor([(total - rest) / max(rest, 1e-12 * total)], dtype=torch.float64)
    return float(exceedance(gain, torch.from_numpy(nulls)))


def _clean(steps: Sequence[int] | npt.ArrayLike, values: npt.ArrayLike) -> _Looks:
    at: _Series = np.asarray(steps, dtype=np.float64)
    series: _Series = np.asarray(values, dtype=np.float64)
    if at.shape != series.shape or at.ndim != 1:
        raise ValueError(f"A series has one value a step; got steps of shape {at.shape}, values of {series.shape}.")
    if (np.diff(at) <= 0).any():
        raise ValueError("The steps of a series ascend; these do not. Sort them, and keep one value of each.")
    known = np.isfinite(series)
    ended = bool(known[-1:].all())
    at, series = at[known], series[known]
    if len(at) and at[0] == 0:
        return _Looks(at[1:], series[1:], float(series[0]), ended)
    return _Looks(at, series, None, ended)


def _steps(at: _Series, looks: _Series) -> _Series:
    return np.interp(looks, np.arange(len(at)), at).astype(np.float64)


def _ways(count: int, first: float, last: float) -> tuple[_Series, _Series]:
    """A ramp from 0 to 1, and the logistic curve that meets it at `SHARE` and at one minus that."""
    along = (np.arange(count) - first) / (last - first)
    steepness = 2 * log((1 - SHARE) / SHARE) / (1 - 2 * SHARE)
    return np.clip(along, 0, 1), 0.5 + 0.5 * np.tanh(0.5 * steepness * (along - 0.5))


def _block(residuals: _Series) -> int:
    """Looks in a block: those that estimate the variance of a first-order autoregression's mean best."""
    own, count = _neighbours(residuals), len(residuals)
    length = ceil((2 * own / (1 - own**2)) ** (2 / 3) * count ** (1 / 3))
    return min(max(length, 1), max(count // 4, 1))


def _neighbours(residuals: _Series) -> float:
    """First autocorrelation, 0 to 0.9, with about so much added as a fit takes away."""
    power = float(residuals @ residuals)
    own = float(residuals[1:] @ residuals[:-1]) / power if power else 0.0
    count = len(residuals)
    return min(max((count * own + 4) / (count - 4), 0.0), 0.9)
