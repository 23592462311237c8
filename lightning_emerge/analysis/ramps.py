"""Ramps fitted to series, and to resamples of them: all that is compiled of emergence times.

A ramp is a baseline, a straight way and a final level. Running sums give the fit of any ramp in a few operations,
whatever the length of the series: a resample costs one pass of it and some thousands of fits. It stands in one file
because the compiler's cache does not notice a change in another.
"""

from __future__ import annotations

from math import cos, log, pi, sqrt

import numpy as np
import numpy.typing as npt

from lightning_emerge.data.rendering.compiled import compiled, random_bits

_COARSE = 32
"""Looks, evenly spaced, at which a way is first tried to begin and end."""

_FINE = 1 / 16
"""Looks to which its ends are found."""


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
def _resample(source, base, block, out, seed, sampled):
    """Adds blocks of a series, sampled with replacement from its circle, to another; how many numbers were sampled."""
    count = len(source)
    k = 0
    while k < count:
        at = np.int64(random_bits(seed, sampled) % np.uint64(count))
        sampled += np.uint64(1)
        for _ in range(block):
            if k == count:
                break
            out[k] = base[k] + source[at]
            k += 1
            at += 1
            if at == count:
                at = 0
    return sampled


@compiled
def crossings(fitted, residuals, block, samples, seed, share):
    """Where, in looks, a fitted series has gone a share of its way in each resample of its residuals."""
    count = len(fitted)
    sums, products, series = np.empty(count + 1), np.empty(count + 1), np.empty(count)
    found = np.empty(samples)
    start, sampled = np.uint64(seed), np.uint64(0)
    for k in range(samples):
        sampled = _resample(residuals, fitted, block, series, start, sampled)
        first, last, _ = _best(series, sums, products)
        found[k] = first + share * (last - first)
    return found


@compiled
def null_gains(count, own, samples, seed):
    """How much better than no change a ramp fits normal noise whose neighbours have a correlation of `own`."""
    sums, products, series = np.empty(count + 1), np.empty(count + 1), np.empty(count)
    found = np.empty(samples)
    start, sampled = np.uint64(seed) ^ np.uint64(0x5851F42D4C957F2D), np.uint64(0)
    for k in range(samples):
        value, fresh = 0.0, 1.0
        for i in range(count):
            first, second = random_bits(start, sampled), random_bits(start, sampled + np.uint64(1))
            sampled += np.uint64(2)
            # Box & Muller 1958, from 53 bits each; the first is above zero.
            radius = sqrt(-2 * log((float(first >> np.uint64(11)) + 1) * 2.0**-53))
            value = own * value + fresh * radius * cos(2 * pi * float(second >> np.uint64(11)) * 2.0**-53)
            fresh = sqrt(1 - own * own)
            series[i] = value
        mean = series.mean()
        total = 0.0
        for i in range(count):
            series[i] -= mean
            total += series[i] * series[i]
        gain = _best(series, sums, products)[2]
        found[k] = gain / (total - gain)
    return found
