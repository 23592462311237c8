"""Simulated series in which nothing emerges, as runs have them, and some in which something does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import torch

from lightning_emerge.analysis.effects import least_share
from lightning_emerge.analysis.emergence_time import emergence_time
from lightning_emerge.analysis.fits import SHARE
from lightning_emerge.analysis.timeline import run_timeline
from lightning_emerge.measures.geometry import deal_folds
from lightning_emerge.measures.parts import best_filter_auc
from lightning_emerge.records import Axis, Measurement
from lightning_emerge.store.write import ArraySink

FEW = [0, 30, 40, 53, 71, 94, 133, 178, 237, 316, 422, 562, 624]
"""The looks of configs/vgg5.yaml."""

MANY = sorted({0, 624, *(round(10 ** (k / 20)) for k in range(56))})
"""The looks of configs/probes/dense.yaml."""

Make = Callable[[np.random.Generator, int], np.ndarray]


def drift(rho: float) -> Make:
    """The share of 50 stimuli that are classified correctly, 0.2 in the mean, without learning."""

    def make(rng: np.random.Generator, count: int) -> np.ndarray:
        answers = rng.standard_normal(50)
        found = []
        for _ in range(count):
            found.append(np.mean(answers < NormalDist().inv_cdf(0.2)))
            answers = rho * answers + np.sqrt(1 - rho**2) * rng.standard_normal(50)
        return np.array(found)

    return make


def level(change: Callable[[np.ndarray], None]) -> Make:
    """A level of 0.3 with little noise, to which something is done."""

    def make(rng: np.random.Generator, count: int) -> np.ndarray:
        values = 0.3 + 0.01 * rng.standard_normal(count)
        change(values)
        return values

    return make


def first_apart(values: np.ndarray) -> None:
    values[0] -= 0.25


def last_apart(values: np.ndarray) -> None:
    values[-1] += 0.4


def last_two_apart(values: np.ndarray) -> None:
    values[-2:] += 0.4


def both_apart(values: np.ndarray) -> None:
    values[0] -= 0.25
    values[-1] += 0.4


def back_again(values: np.ndarray) -> None:
    values[0] += 0.4  # what an untrained network has already, the first updates take away
    values[1 : len(values) // 2] -= 0.2
    values[len(values) // 2 :] += 0.4


def small(values: np.ndarray) -> None:
    values -= 0.104 + 0.9 * (values - 0.3)
    values[len(values) // 2 :] += 0.013  # from 0.196 to 0.209


CASES = {
    "noise": drift(0),
    "slow noise": drift(0.9),
    "slower noise": drift(0.99),
    **{change.__name__: level(change) for change in (first_apart, last_apart, last_two_apart, both_apart)},
    "back_again": level(back_again),
    "small": level(small),
}


@pytest.mark.parametrize("steps", [FEW, MANY], ids=["few", "many"])
@pytest.mark.parametrize("case", CASES)
def test_what_did_not_emerge_is_not_said_to_have(case, steps):
    found = [
        emergence_time(steps, CASES[case](np.random.default_rng([seed, len(steps)]), len(steps)), least_share(50))
        for seed in range(200)
    ]
    assert sum(one.step is not None for one in found) <= 1  # of 200: nominal are 0.5%


@pytest.mark.parametrize(("steps", "stimuli", "least"), [(FEW, 50, 0.6), (MANY, 50, 0.95), (MANY, 250, 0.95)])
def test_what_did_emerge_is_found_where_it_did(steps, stimuli, least):
    count, found, covered = len(steps), 0, 0
    for seed in range(200):
        rng = np.random.default_rng([seed, count, stimuli])
        middle, scale = rng.uniform(0.35, 0.65) * count, rng.uniform(0.1, 0.3) * count / 5.5
        share = 0.2 + 0.7 / (1 + np.exp(-(np.arange(count) - middle) / scale))
        one = emergence_time(steps, rng.binomial(stimuli, share) / stimuli, least_share(stimuli))
        if one.step is not None:
            truth = np.interp(middle - scale * np.log((1 - SHARE) / SHARE), np.arange(count), steps)
            found, covered = found + 1, covered + (one.low <= truth <= one.high)
        assert one.whether != "never"
    assert found / 200 >= least  # 13 looks can hardly tell it from slow noise
    assert covered / found >= 0.93


def test_a_fall_is_no_rise_and_a_rise_within_a_fall_is():
    values = np.full(40, 0.5)
    values[20:] = 0.1
    found = emergence_time(np.arange(40), values, 0.1)
    assert (found.baseline, found.level) == pytest.approx((0.5, 0.1))
    values[0] = 0.0  # the untrained network was lower still, so that it is not below what that had
    assert emergence_time(np.arange(40), values, 0.1).step is None


def test_a_least_change_below_zero_is_refused():
    with pytest.raises(ValueError, match=r"0 or more.*got -0\.1"):
        emergence_time(range(20), np.zeros(20), -0.1)


def _shuffled(seed: int, held: torch.Tensor, folds: torch.Tensor, layers: int) -> list[np.ndarray]:
    """What `PartProbe` records of filters that drift and know no token, look by look (layer, feature)."""
    random = torch.Generator().manual_seed(seed)
    scores = torch.randn(layers, len(held), 4, generator=random)
    found = []
    for _ in MANY[::2]:
        found.append(torch.stack([best_filter_auc(own, held, folds) for own in scores]).numpy())
        scores = 0.97 * scores + (1 - 0.97**2) ** 0.5 * torch.randn(scores.shape, generator=random)
    return found


def test_features_do_not_emerge_in_the_best_of_layers_that_know_none(tmp_path: Path):
    labels = torch.arange(250) // 50
    sets = [(0,), (1,), (2,), (3,), (4,), (0, 1), (0, 2), (1, 3), (2, 4), (3, 4)]
    held = torch.stack([torch.isin(labels, torch.tensor(own)) for own in sets], dim=1)
    notes = {"kind": ["part"] * 10, "stimuli": held.sum(0).tolist(), "others": (~held).sum(0).tolist()}
    axes = Axis("layer", [f"conv{k}" for k in range(5)]), Axis("feature", [str(own) for own in sets], notes=notes)
    events = []
    for seed in range(6):
        folder = tmp_path / str(seed)
        sink = ArraySink(folder / "records.zarr", None)
        for step, areas in zip(MANY[::2], _shuffled(seed, held, deal_folds(labels, 5), 5), strict=True):
            sink.write(step, [Measurement("part_filter_auc", areas.astype(np.float32), axes, step, unit="AUC")])
        sink.close()
        events += run_timeline(folder)
    assert len(events) == 60
    assert sum(event.emergence.step is not None for event in events) <= 1
