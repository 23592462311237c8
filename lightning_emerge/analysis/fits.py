"""Ramps and monotone curves fitted to series, and to noise: all that is compiled of emergence times.

A ramp is a baseline, a straight way and a final level. Running sums give the fit of any ramp in a few operations,
whatever the length of the series. A monotone curve is fitted by pooling neighbours that fall. It stands in one file
because the compiler's cache does not notice a change in another.
"""

from __future__ import annotations

from math import ceil, cos, floor, log, pi, sqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lightning_emerge.data.rendering.compiled import compiled, random_bits

_COARSE = 32
"""Looks, evenly spaced, at which a way is first tried to begin and end."""

_FINE = 1 / 16
"""Looks to which its ends are found."""

SHARE = 0.1
"""Share of its way at which a series has left its baseline, and that it still lacks when it is mastered."""

LEVEL = 3
"""Looks that have to lie at a level, so that one look which lies apart is none; step 0 may be one of the baseline's."""


class Change(NamedTuple):
    """How a series changed for good, as a ramp sees it once it is turned to rise and cut off at its final level.

    Attributes:
        sign: 1 if the series rises, -1 if it falls.
        first: where the way begins, in looks.
        last: where it ends.
        baseline: level before, of the turned series.
        level: final level of the turned series.
        again: whether what follows the way changes once more, and surely: the final level is that after the second way.
        settled: the level after a second way that is there perhaps; the final level if there is none.
        ramp: how much more a ramp explains than it leaves, as a ratio of sums of squares.
        monotone: the same of a monotone curve.
        ends: the square of the difference of the first and the last looks, over their own variance, however noisy the
            way between them.
        lasts: whether the last three looks lie nearer to the final level than to the baseline: their mean, and each of
            them but for noise.
        begins: whether the way begins after the second look.
    """

    sign: float
    first: float
    last: float
    baseline: float
    level: float
    again: bool
    settled: float
    ramp: float
    monotone: float
    ends: float
    lasts: bool
    begins: bool


def fit_ramp(series: npt.NDArray[np.floating]) -> tuple[float, float, float, float, float]:
    """Fits a ramp by least squares.

    Args:
        series: (look,), two looks or more.

    Returns:
        Where the way begins and ends, in looks, at least one apart; baseline and final level; and the sum of squares
        that is left.
    """
    count, mean = len(series), float(series.mean())
    sums, products = np.empty(count + 1), np.empty(count + 1)
    about = series - mean  # so that sums of large numbers do not cancel
    first, last, gain = _best(about, sums, products)
    baseline, level, _ = _try(sums, products, count, first, last)
    return first, last, baseline + mean, level + mean, max(float(about @ about) - gain, 0.0)


_PERHAPS, _SURELY = 3.0, 25.0
"""Squares of a second change, over those of its error, from which it is there perhaps and surely; with many looks."""


@compiled
def _try(sums, products, count, first, last):
    """Least squares of a series on a ramp: baseline, level and the sum of squares it explains."""
    width = last - first
    begin, end = int(np.ceil(first)), int(np.floor(last)) + 1  # looks begin to end - 1 lie on the way
    inside = end - begin
    low, high = begin - first, end - 1 - first  # how far the first and the last of them are from its beginning
    after = count - end
    along = inside * (low + high) / 2.0
    squares = inside * (low * low + low * high + high * high) / 3.0 + inside * (high - low) / 6.0
    # Sums over looks of r, r^2, y and r * y, where r is 0 before the way, (x - first) / width on it and 1 after it.
    r = along / width + after
    rr = squares / (width * width) + after
    y = sums[count]
    ry = (products[end] - products[begin] - first * (sums[end] - sums[begin])) / width + y - sums[end]
    spread = rr - r * r / count
    if spread <= 1e-9:
        return 0.0, 0.0, -1.0
    slope = (ry - r * y / count) / spread
    baseline = (y - slope * r) / count
    return baseline, baseline + slope, slope * slope * spread


@compiled
def _add_up(series, sums, products):
    sums[0] = 0.0
    products[0] = 0.0
    for k in range(len(series)):
        sums[k + 1] = sums[k] + series[k]
        products[k + 1] = products[k] + k * series[k]


@compiled
def _improve(sums, products, count, stride, best):
    """Tries the eight neighbours of a way at some distance; the best of them, or the way itself."""
    first, last, found = best
    for i in range(-1, 2):
        for j in range(-1, 2):
            a, b = best[0] + i * stride, best[1] + j * stride
            if a >= 0 and b <= count - 1 and b - a >= 1:
                gain = _try(sums, products, count, a, b)[2]
                if gain > found * (1 + 1e-12):
                    first, last, found = a, b, gain
    return first, last, found


@compiled
def _best(series, sums, products):
    """The way that explains most of a series: where it begins and ends, and how much it explains."""
    count = len(series)
    _add_up(series, sums, products)
    stride = float(max(1, (count - 2 + _COARSE) // _COARSE))
    best = (0.0, count - 1.0, -1.0)
    for a in np.arange(0.0, count - 1.0, stride):
        for b in np.arange(a + stride, count, stride):
            gain = _try(sums, products, count, a, b)[2]
            if gain > best[2]:
                best = (a, b, gain)
    while stride > _FINE:
        stride /= 2
        better = _improve(sums, products, count, stride, best)
        while better[2] > best[2]:
            best = better
            better = _improve(sums, products, count, stride, best)
    return best


@compiled
def _pool(series, weights, means, totals, squares, count, fresh):
    """Adds a look to a monotone fit by weighted least squares; how many levels it has then."""
    means[count], totals[count], squares[count] = series[fresh], weights[fresh], 0.0
    count += 1
    while count > 1 and means[count - 2] >= means[count - 1]:
        a, b = count - 2, count - 1
        total, step = totals[a] + totals[b], means[a] - means[b]
        squares[a] += squares[b] + totals[a] * totals[b] / total * step * step
        means[a] = (totals[a] * means[a] + totals[b] * means[b]) / total
        totals[a] = total
        count -= 1
    return count


@compiled
def bounded_fits(series, weights, most):
    """Fits the first looks of a series by curves that never fall and never exceed a bound.

    Args:
        series: (look,).
        weights: (look,) of the squares, above 0.
        most: the bound.

    Returns:
        (look + 1, look) in row j the fit of the first j looks, and 0 behind it.
    """
    count = len(series)
    fits = np.zeros((count + 1, count))
    means, totals, squares = np.empty(count), np.empty(count), np.empty(count)
    sizes, levels = np.empty(count, np.int64), 0
    for k in range(count):
        before = levels
        levels = _pool(series, weights, means, totals, squares, levels, k)
        size = 1
        for pooled in range(levels - 1, before):
            size += sizes[pooled]
        sizes[levels - 1] = size
        at = 0
        for level in range(levels):
            for _ in range(sizes[level]):
                fits[k + 1, at] = min(means[level], most)
                at += 1
    return fits


@compiled
def _monotone_rest(series, scratch):
    """The sum of squares that a curve that never falls leaves."""
    ones, means, totals, squares = scratch
    levels, rest = 0, 0.0
    for k in range(len(series)):
        levels = _pool(series, ones, means, totals, squares, levels, k)
    for level in range(levels):
        rest += squares[level]
    return rest


@compiled
def _settle(series, sums, products):
    """The level on which a series ends that changes once, and the square of the change over that of its error."""
    count = len(series)
    if count < 2 * LEVEL - 1:
        return 0.0, 0.0
    about = series - series.mean()
    first, last, gain = _best(about, sums, products)
    level = _try(sums, products, count, first, last)[1] + series.mean()
    if count - last < LEVEL:
        return level, 0.0
    freedom = count - 4
    rest = max((about * about).sum() - gain, 1e-12 * gain + 1e-300)
    return level, gain / rest * freedom / (1 + 10 / freedom)


@compiled
def _compare_ends(series, sums, squares):
    """The square of how far the last looks lie above the first, over their variance, for the numbers that do best."""
    count, best = len(series), 0.0
    sums[0] = squares[0] = 0.0
    for k in range(count):
        sums[k + 1], squares[k + 1] = sums[k] + series[k], squares[k] + series[k] * series[k]
    least = 1e-9 * squares[count] / count + 1e-300
    fewest, most = max(LEVEL, count // 8), max(LEVEL, count // 3)
    for head in range(fewest, most + 1):
        low = sums[head] / head
        own = squares[head] - head * low * low
        for tail in range(fewest, most + 1):
            high = (sums[count] - sums[count - tail]) / tail
            rest = own + squares[count] - squares[count - tail] - tail * high * high
            if high > low:
                best = max(best, (high - low) ** 2 / max(rest / (head + tail - 2), least))
    return best


@compiled
def _change(series, sums, products, scratch):
    count, mean = len(series), series.mean()
    turned = series - mean  # so that sums of large numbers do not cancel
    first, last, _ = _best(turned, sums, products)
    baseline, level, _ = _try(sums, products, count, first, last)
    sign = 1.0 if level >= baseline else -1.0
    turned *= sign
    level *= sign
    ends = _compare_ends(turned, sums, products)
    settled, surely = _settle(turned[ceil(last) :], sums, products)
    again = surely >= _SURELY
    settled = settled if surely >= _PERHAPS else level
    level = settled if again else level
    cut = np.minimum(turned, level)
    centre = cut.mean()
    cut -= centre
    first, last, gain = _best(cut, sums, products)
    baseline = _try(sums, products, count, first, last)[0] + centre
    total = (cut * cut).sum()
    least = 1e-12 * total + 1e-300
    ramp = gain / max(total - gain, least)
    rest = _monotone_rest(cut, scratch)
    monotone = (total - rest) / max(rest, least)
    end, middle = turned[count - LEVEL :], (baseline + level) / 2
    noise = sqrt(max(total - gain, 0.0) / (count - 4)) if count > 4 else 0.0
    lasts = end.mean() > middle and end.min() > middle - 2 * noise
    begins = floor(first + SHARE * (last - first)) >= 1
    mean *= sign
    return sign, first, last, baseline + mean, level + mean, again, settled + mean, ramp, monotone, ends, lasts, begins


@compiled
def _scratch(count):
    return np.ones(count), np.empty(count), np.empty(count), np.empty(count)


@compiled
def _find_change(series):
    count = len(series)
    return _change(series, np.empty(count + 1), np.empty(count + 1), _scratch(count))


def find_change(series: npt.NDArray[np.floating]) -> Change:
    """Fits what changed in a series for good.

    Args:
        series: (look,), four looks or more.
    """
    return Change(*_find_change(series))


@compiled
def null_gains(count, own, samples, seed):
    """How much noise that has not changed seems to have changed.

    Args:
        count: looks, four or more.
        own: correlation of normal noise with that at the look before.
        samples: how many series of noise.
        seed: of the noise, uint64.

    Returns:
        (3, sample) `ramp`, `monotone` and `ends` as `Change` has them; 0 of what does not last or does not begin.
    """
    sums, products, series = np.empty(count + 1), np.empty(count + 1), np.empty(count)
    scratch, found, fresh = _scratch(count), np.zeros((3, samples)), sqrt(1 - own * own)
    start, sampled = np.uint64(seed) ^ np.uint64(0x5851F42D4C957F2D), np.uint64(0)
    for k in range(samples):
        value, scale = 0.0, 1.0
        for i in range(count):
            first, second = random_bits(start, sampled), random_bits(start, sampled + np.uint64(1))
            sampled += np.uint64(2)
            # Box & Muller 1958, from 53 bits each; the first is above zero.
            radius = sqrt(-2 * log((float(first >> np.uint64(11)) + 1) * 2.0**-53))
            value = own * value + scale * radius * cos(2 * pi * float(second >> np.uint64(11)) * 2.0**-53)
            scale = fresh
            series[i] = value
        change = _change(series, sums, products, scratch)
        if change[10] and change[11]:
            found[0, k], found[1, k], found[2, k] = change[7], change[8], change[9]
    return found
