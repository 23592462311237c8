"""Emergence times of simulated series whose truth is known."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from scipy.optimize import minimize

from lightning_emerge.analysis.emergence_time import Emergence, emergence_time
from lightning_emerge.analysis.fits import SHARE, fit_ramp
from lightning_emerge.analysis.lead_time import lead_time

NAN = float("nan")
LEAST = (0.1, 0.1)


def curve(shape: str, count: int, middle: float, width: float) -> tuple[np.ndarray, float]:
    """A noiseless series from 0 to 1, and where it has gone the share of its way that counts."""
    at = np.arange(count, dtype=float)
    if shape == "step":
        after = round(middle)
        return (at >= after).astype(float), after - 1 + SHARE
    if shape == "ramp":
        return np.clip((at - middle) / width + 0.5, 0, 1), middle + (SHARE - 0.5) * width
    scale = width / 5.5
    return 1 / (1 + np.exp(-(at - middle) / scale)), middle - scale * np.log((1 - SHARE) / SHARE)


SHAPES = ("step", "ramp", "sigmoid")


def simulate(shape: str, count: int, noise: float, seed: int):
    """The emergence that is found in a noisy series, and the truth."""
    rng = np.random.default_rng([seed, count, round(100 * noise), len(shape)])
    clean, truth = curve(shape, count, rng.uniform(0.35, 0.65) * count, rng.uniform(0.15, 0.3) * count)
    # Not from step 0, which is a level of its own.
    return emergence_time(np.arange(count) + 1, clean + noise * rng.standard_normal(count), 0.1), truth + 1


@cache
def draws(noise: float) -> list[tuple[str, Emergence, float]]:
    return [(shape, *simulate(shape, 200, noise, seed)) for seed in range(134) for shape in SHAPES][:400]


@pytest.mark.parametrize("noise", [0.2, 0.3, 0.5])
def test_the_interval_covers_the_truth_as_often_as_it_says(noise):
    found = [(one, truth) for _, one, truth in draws(noise) if one.step is not None]
    assert len(found) / 400 > (0.99 if noise < 0.5 else 0.93)  # slow noise of 200 looks may be half a height
    covered = np.mean([one.low <= truth <= one.high for one, truth in found])
    assert 0.92 <= covered <= 0.98


@pytest.mark.parametrize("shape", SHAPES)
def test_the_shape_of_the_way_does_not_move_the_step(shape):
    found = [(one.step - truth, one.high - one.low) for own, one, truth in draws(0.2) if own == shape]
    off, widths = np.array(found).T
    assert abs(np.median(off)) < 0.15 * np.median(widths)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("noise", "width"), [(0.02, 6), (0.1, 18)])
def test_little_noise_leaves_little_doubt(shape, noise, width):
    # An interval is never narrower than the looks around it, so it may cover more than 98 of 100. It takes no shape for
    # granted, so that it is wider than a fitted step would have it.
    found = [simulate(shape, 200, noise, seed) for seed in range(100)]
    assert np.mean([one.low <= truth <= one.high for one, truth in found]) >= 0.92
    assert np.mean([one.high - one.low for one, _ in found]) < width


@pytest.mark.parametrize("count", [47, 200])
@pytest.mark.parametrize("own", [0.0, 0.3, 0.6])
def test_a_flat_series_never_leaves(count, own):
    rng = np.random.default_rng([count, round(10 * own)])
    never = 0
    for _ in range(400):
        noise = rng.standard_normal(count + 50)
        for k in range(1, len(noise)):
            noise[k] += own * noise[k - 1]
        never += emergence_time(np.arange(count), noise[50:], 0.1).step is None
    assert never / 400 >= 0.95


def test_a_noiseless_step_lies_between_its_two_looks():
    found = emergence_time([*range(10), 12, 15, 20, 30, 40, 60, 80, 100, 120, 150], [1] * 12 + [3] * 8, 0.1)
    assert (found.low, found.high) == (15, 20)
    assert found.step == pytest.approx(15 + SHARE * 5)
    assert (found.baseline, found.level) == pytest.approx((1, 3))


def test_the_looks_are_as_good_as_evenly_spaced():
    rng = np.random.default_rng(3)
    values = curve("sigmoid", 60, 30, 15)[0] + 0.1 * rng.standard_normal(60)
    even, spaced = emergence_time(np.arange(60), values, 0.1), emergence_time(np.arange(60) ** 2, values, 0.1)
    assert spaced.low == even.low**2
    assert spaced.high == even.high**2


@pytest.mark.parametrize("change", [lambda y: -y, lambda y: 1e6 * y + 1e9, lambda y: 1e-9 * y])
def test_neither_sign_nor_unit_matters(change):
    values = curve("ramp", 100, 50, 20)[0] + 0.1 * np.random.default_rng(4).standard_normal(100)
    own, other = emergence_time(np.arange(100), values, 0), emergence_time(np.arange(100), change(values), 0)
    assert (other.low, other.high) == (own.low, own.high)
    assert other.level == pytest.approx(change(own.level), rel=1e-6)


def test_a_hump_is_not_for_good():
    values = np.zeros(100)
    values[30:60] = 1
    assert (
        emergence_time(np.arange(100), values + 0.05 * np.random.default_rng(5).standard_normal(100), 0.1).step is None
    )


def test_a_relapse_counts_against_an_early_rise():
    values = np.zeros(100)
    values[[10, 11, 12]] = 1
    values[50:] = 1
    found = emergence_time(np.arange(100), values + 0.05 * np.random.default_rng(6).standard_normal(100), 0.1)
    assert found.low >= 40


def test_looks_with_nan_are_left_out():
    values = curve("step", 80, 40, 1)[0] + 0.1 * np.random.default_rng(7).standard_normal(80)
    gaps = np.full(159, NAN)
    gaps[::2] = values
    own, other = emergence_time(np.arange(0, 160, 2), values, 0.1), emergence_time(np.arange(159), gaps, 0.1)
    assert own.step is not None
    assert own == other


def test_what_ends_with_nan_has_not_left_for_good():
    values = np.append(curve("step", 80, 40, 1)[0], NAN)
    assert emergence_time(np.arange(80), values[:-1], 0.1).step is not None
    assert emergence_time(np.arange(81), values, 0.1).step is None


@pytest.mark.parametrize("values", [[], [1.0], [0, 0, 0, 1, 1, 1, 1], [2.0] * 50, [NAN] * 50, [0.1 + 0.2] * 20])
def test_what_cannot_be_told_is_never(values):
    found = emergence_time(np.arange(len(values)), values, 0.1)
    assert (found.step, found.low, found.high, found.p_value) == (None, None, None, 1)


@pytest.mark.parametrize(
    ("steps", "values", "message"),
    [([0, 1], [0, 1, 2], "one value a step"), ([0, 2, 1], [0, 1, 2], "ascend"), ([0, 0, 1], [0, 1, 2], "ascend")],
)
def test_series_that_are_none_are_refused(steps, values, message):
    with pytest.raises(ValueError, match=message):
        emergence_time(steps, values, 0.1)


@pytest.mark.parametrize("seed", range(5))
def test_the_ramp_is_the_one_of_least_squares(seed):
    rng = np.random.default_rng(seed)
    values = 3 + 2 * curve("ramp", 120, 60, 40)[0] + 0.2 * rng.standard_normal(120)

    def rest(ends: np.ndarray) -> float:
        way = np.clip((np.arange(120) - ends[0]) / max(ends[1] - ends[0], 1e-6), 0, 1)
        design = np.stack([np.ones(120), way], axis=1)
        return float(np.square(values - design @ np.linalg.lstsq(design, values, rcond=None)[0]).sum())

    best = minimize(rest, [40.0, 80.0], method="Nelder-Mead", options={"xatol": 1e-3})
    first, last, baseline, level, left = fit_ramp(values)
    assert left == pytest.approx(best.fun, rel=1e-3)
    assert left == pytest.approx(rest(np.array([first, last])), rel=1e-9)
    assert (first, last) == pytest.approx(tuple(best.x), abs=0.5)
    assert (baseline, level) == pytest.approx((3, 5), abs=0.1)


def _pair(rng: np.random.Generator, gap: float, shared: float) -> tuple[np.ndarray, np.ndarray]:
    common = shared * rng.standard_normal(100)
    own = (0.15 * rng.standard_normal(100) for _ in range(2))
    early, late = (
        curve("ramp", 100, 40 + middle, 12)[0] + common + noise for middle, noise in zip((0, gap), own, strict=True)
    )
    return early, late


@pytest.mark.parametrize("gap", [0, 20])
def test_a_lead_covers_the_truth(gap):
    rng = np.random.default_rng(9)
    leads = [lead_time(np.arange(100), *_pair(rng, gap, 0.0), LEAST) for seed in range(200)]
    assert np.mean([lead.low <= gap <= lead.high for lead in leads]) >= 0.92
    assert np.mean([lead.steps for lead in leads]) == pytest.approx(gap, abs=0.5)
    assert np.mean([lead.high - lead.low for lead in leads]) < 24


def test_what_disturbs_both_alike_does_not_blur_the_lead():
    rng, at = np.random.default_rng(10), np.arange(1, 101)
    leads = [lead_time(at, *_pair(rng, 0, 0.3), LEAST) for _ in range(50)]
    apart = [lead_time(at, _pair(rng, 0, 0.3)[0], _pair(rng, 0, 0.3)[1], LEAST) for _ in range(50)]
    widths = [[one.high - one.low for one in own if one.steps is not None] for own in (leads, apart)]
    assert min(map(len, widths)) >= 45
    assert np.mean(widths[0]) < 0.8 * np.mean(widths[1])
    assert np.mean([one.low <= 0 <= one.high for one in leads if one.steps is not None]) >= 0.92


def test_what_never_leaves_leads_nothing():
    flat, late = np.random.default_rng(11).standard_normal(100), curve("step", 100, 50, 1)[0]
    assert lead_time(np.arange(100), late, flat, LEAST).steps is None
    assert lead_time(np.arange(100), flat, late, LEAST).steps is None


def test_a_lead_turned_round_is_a_lag():
    early, late = _pair(np.random.default_rng(12), 20, 0.0)
    there, back = lead_time(np.arange(100), early, late, LEAST), lead_time(np.arange(100), late, early, LEAST)
    assert back.steps == pytest.approx(-there.steps)
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
