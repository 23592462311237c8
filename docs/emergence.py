"""Measures on simulated series, and on runs in which there is nothing to learn, how far emergence can be trusted.

make emergence              # the simulations: a minute or two
make emergence ARGS=--runs  # instead of them, 40 short runs: a quarter of an hour

The tables go into docs/emergence.md.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from marked import put_table

import lightning_emerge as le
from lightning_emerge.analysis.emergence_time import Emergence, Moment
from lightning_emerge.store.read import Run

PAGE = Path(__file__).with_name("emergence.md")
TABLES = {
    name: (f"<!-- {name}: made by `make emergence` -->", f"<!-- {name}: end -->")
    for name in ("nothing", "coverage", "power", "runs")
}
Array: TypeAlias = npt.NDArray[np.float64]
Random: TypeAlias = np.random.Generator
END = 600
"""Optimizer steps of a simulated run."""

FEW = np.array([0, 30, 40, 53, 71, 94, 133, 178, 237, 316, 422, 562, 624], float)
MANY = np.unique([0, 624, *(round(10 ** (k / 20)) for k in range(56))]).astype(float)


def slow(random: Random, count: int, own: float) -> Array:
    """Normal noise of variance 1 whose neighbours have a correlation."""
    noise = random.standard_normal(count)
    for k in range(1, count):
        noise[k] = own * noise[k - 1] + np.sqrt(1 - own**2) * noise[k]
    return noise


# Where there is nothing.


def drifting_answers(random: Random, count: int, own: float) -> Array:
    """The share of 50 stimuli that are classified correctly, 0.2 in the mean, without learning."""
    answers, found = random.standard_normal(50), list[float]()
    for _ in range(count):
        found.append(float(np.mean(answers < NormalDist().inv_cdf(0.2))))
        answers = own * answers + np.sqrt(1 - own**2) * random.standard_normal(50)
    return np.array(found)


def with_start(random: Random, count: int) -> Array:
    return np.concatenate([[0.05], 0.3 + 0.01 * random.standard_normal(count - 1)])


def with_end(random: Random, count: int, looks: int) -> Array:
    return 0.3 + 0.01 * random.standard_normal(count) + 0.4 * (np.arange(count) >= count - looks)


def hump(random: Random, count: int) -> Array:
    inside = (np.arange(count) >= 0.3 * count) & (np.arange(count) < 0.6 * count)
    return 0.3 + 0.01 * random.standard_normal(count) + 0.4 * inside


OF_STIMULI = le.least_share(50)
NOTHING: dict[str, tuple[Callable[[Random, int], Array], float]] = {
    "50 stimuli at 0.2, answers drawn anew": (lambda random, n: drifting_answers(random, n, 0), OF_STIMULI),
    "the same, answers that drift (0.9)": (lambda random, n: drifting_answers(random, n, 0.9), OF_STIMULI),
    "the same, answers that drift (0.99)": (lambda random, n: drifting_answers(random, n, 0.99), OF_STIMULI),
    "white noise of 0.1": (lambda random, n: 0.3 + 0.1 * random.standard_normal(n), 0.1),
    "a drift from 0.20 to 0.22": (lambda random, n: np.linspace(0.2, 0.22, n) + 0.004 * random.standard_normal(n), 0.1),
    "AR(0.8) of 0.05": (lambda random, n: 0.3 + 0.05 * slow(random, n, 0.8), 0.1),
    "AR(0.8) of 0.1": (lambda random, n: 0.3 + 0.1 * slow(random, n, 0.8), 0.1),
    "AR(0.8), any change counts": (lambda random, n: slow(random, n, 0.8), 0.0),
    "step 0 lies apart by 0.25": (with_start, 0.1),
    "the last look lies apart by 0.4": (lambda random, n: with_end(random, n, 1), 0.1),
    "the last two do": (lambda random, n: with_end(random, n, 2), 0.1),
    "a hump": (hump, 0.1),
    "AR(0.9) of 0.1": (lambda random, n: 0.3 + 0.1 * slow(random, n, 0.9), 0.1),
    "random walk, 0.03 a look": (lambda random, n: 0.3 + 0.03 * np.cumsum(random.standard_normal(n)), 0.1),
}


def judge_nothing(name: str, steps: Array, series: int) -> Counter[str]:
    """Counts what is said of series in which nothing emerges."""
    make, least = NOTHING[name]
    found = Counter[str]()
    for seed in range(series):
        values = make(np.random.default_rng([seed, len(steps)]), len(steps))
        found[le.emergence_time(steps, values, least).whether] += 1
    return found


# Where something emerges.


def rise(shape: str, along: Array) -> Array:
    """A way from 0 to 1, over its length as a unit; 0 is the middle."""
    logistic = 1 / (1 + np.exp(-5.5 * along.clip(-60, 60)))
    if shape == "step":
        return (along >= 0).astype(np.float64)
    if shape == "ramp":
        return (along + 0.5).clip(0, 1)
    return logistic * (1 + np.exp(-along.clip(0, None) / 0.35)) if shape == "overshoot" else logistic


SHAPES = ("step", "ramp", "sigmoid", "overshoot", "largest noise on the way")


@dataclass(frozen=True)
class Place:
    """Looks, and where a way lies among them, in optimizer steps."""

    steps: Array
    middle: float
    width: float


def evenly(looks: int) -> Callable[[Random], Place]:
    """Evenly spaced looks, and a way of 0.15 to 0.3 of them."""

    def place(random: Random) -> Place:
        steps = np.linspace(0, END, looks)
        return Place(steps, random.uniform(0.35, 0.65) * END, random.uniform(0.15, 0.3) * END)

    return place


def following(random: Random) -> Place:
    """Looks that follow the loss: 25 while it moves, and few besides."""
    middle, width = random.uniform(100, 350), random.uniform(20, 120)
    steps = np.concatenate([[0], np.geomspace(1, END, 16), middle + width * np.linspace(-0.6, 1.2, 25)])
    return Place(np.unique(steps.round()), middle, width)


LOOKS = {"13": evenly(13), "47": evenly(47), "about 40 that follow the loss": following}


def truth(shape: str, place: Place) -> tuple[float, float]:
    """Onset and mastery of a curve without noise."""
    if shape == "step":
        return place.middle, place.middle
    along = np.linspace(-3, 4, 7001)
    values = rise(shape, along)
    begun, done = np.flatnonzero(values < 0.1)[-1], np.flatnonzero(np.abs(values - 1) > 0.1)[-1]
    return place.middle + place.width * along[begun], place.middle + place.width * along[done]


def simulate(shape: str, looks: str, noise: float, own: float, seed: int) -> tuple[Emergence, tuple[float, float]]:
    """What is found in a way from 0.2 to 0.8 with noise of a share of it, and the truth."""
    random = np.random.default_rng([seed, len(shape), len(looks), round(100 * noise), round(10 * own)])
    place = LOOKS[looks](random)
    values = rise(shape, (place.steps - place.middle) / place.width)
    spread = noise * (0.5 + 6 * values * (1 - values)) if shape == SHAPES[-1] else noise
    values = values + spread * slow(random, len(values), own)
    return le.emergence_time(place.steps, 0.2 + 0.6 * values, 0.1), truth(shape, place)


@dataclass
class Covered:
    """How often something was found, and how often its intervals cover the truth."""

    found: float
    onset: float
    mastery: float


def cover(shape: str, looks: str, noise: float, own: float, series: int) -> Covered:
    """Simulates series whose truth is known."""
    both = [simulate(shape, looks, noise, own, seed) for seed in range(series)]
    seen = [(one, true) for one, true in both if one.whether == "emerged"]
    onsets = [_within(one.onset, true[0]) for one, true in seen if one.onset]
    masteries = [_within(one.mastery, true[1]) for one, true in seen if one.mastery]
    return Covered(len(seen) / series, _mean(onsets), _mean(masteries))


def _within(moment: Moment, true: float) -> bool:
    return moment.low <= true <= moment.high


def _mean(values: Sequence[bool]) -> float:
    return float(np.mean(values)) if values else float("nan")


def least_found(steps: Array, noise: float, share: float, series: int) -> float | None:
    """The least step, midway, that is found in so many series if 0.1 counts; None if one of 1.0 is not."""
    for height in np.arange(0.1, 1.0, 0.02):
        found = 0
        for seed in range(series):
            random = np.random.default_rng([seed, len(steps)])
            values = height * (np.arange(len(steps)) >= len(steps) // 2) + noise * random.standard_normal(len(steps))
            found += le.emergence_time(steps, values, 0.1).whether == "emerged"
        if found / series >= share:
            return float(height)
    return None


# Runs.

CONTROLS = ("shuffled labels", "shuffled labels, batch norm", "untrained", "true labels")


def fit(kind: str, seed: int, folder: Path) -> None:
    """Trains a small network for 150 steps, or 300, with 24 looks or more at the 250 stimuli of the bank."""
    import torch
    from lightning.pytorch import Trainer
    from lightning.pytorch.loggers import CSVLogger

    torch.manual_seed(seed)
    network = le.VGG(plan="vgg11", width=8, head=[64], image_size=32, batch_norm=kind != "shuffled labels")
    rate = 0.0 if kind == "untrained" else 3e-3
    data = le.TokenDataModule(image_size=32, seed=seed, shuffle_labels=kind.startswith("shuffled"))
    looks, layers = le.LogSpaced(12), ["conv1_1", "conv3_1", "conv4_2", "conv5_2", "fc1"]
    probes: list[Any] = [le.CategoryProbe(looks, layers), le.PartProbe(looks, layers, attributed=0)]
    trainer = Trainer(
        max_steps=300 if kind == "true labels" else 150,
        accelerator="cpu",
        logger=CSVLogger(folder, name="", version="run"),
        callbacks=probes,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(le.TokenClassifier(network, lambda weights: torch.optim.Adam(weights, lr=rate)), data)


def all_features(run: Run) -> list[Emergence]:
    """What is said of every feature in every layer that was looked at, chosen or not."""
    areas = run.records.part_filter_auc
    layer, feature = (str(name) for name in areas.dims[1:])
    ones, others = (areas.coords[f"{feature}_{note}"].values.astype(int) for note in ("stimuli", "others"))
    steps, values = areas.step.values, areas.transpose("step", layer, feature).values
    leasts = [le.least_auc(*both, among=values.shape[1]) for both in zip(ones.tolist(), others.tolist(), strict=True)]
    return [
        le.emergence_time(steps, values[:, number, k], least)
        for number in range(values.shape[1])
        for k, least in enumerate(leasts)
    ]


def judge_runs(kind: str, runs: int) -> list[str]:
    """A row of the table: how many of a kind of runs have a token that emerged, and how many of their series did."""
    tokens, groups, areas, all_five = 0, Counter[str](), Counter[str](), 0
    for seed in range(runs):
        with TemporaryDirectory() as folder:
            fit(kind, 1000 + seed, Path(folder))
            run = Run(Path(folder) / "run")
            events = le.run_timeline(run)
            own = [one.emergence.whether == "emerged" for one in events if one.group == "token"]
            tokens, all_five = tokens + any(own), all_five + all(own)
            groups.update(one.emergence.whether for one in events)
            areas.update(one.whether for one in all_features(run))
        print(kind, seed, own, dict(groups), dict(areas), flush=True)
    counts = [f"{own['emerged']} of {own.total()}" for own in (groups, areas)]
    return [kind, f"{tokens} of {runs}", f"{all_five} of {runs}", *counts]


def write_simulations(page: Path, series: int) -> None:
    """Simulates, and writes the tables into the page."""
    rows = [["series", *(f"{len(steps)} looks: emerged, not resolved, never" for steps in (FEW, MANY))]]
    for name in NOTHING:
        found = [judge_nothing(name, steps, series) for steps in (FEW, MANY)]
        rows.append([name, *(", ".join(f"{own[one] / series:.3f}" for one in KINDS) for own in found)])
    put_table(page, TABLES["nothing"], rows)
    rows = [["looks", "noise", *SHAPES]]
    for looks in LOOKS:
        for noise, own in ((0.02, 0), (0.05, 0), (0.05, 0.5), (0.1, 0), (0.1, 0.5), (0.2, 0)):
            if looks == "13" and noise > 0.05:
                continue
            cells = [_tell(cover(shape, looks, noise, own, series)) for shape in SHAPES]
            rows.append([looks, f"{noise}{f', AR({own})' if own else ''}", *cells])
    put_table(page, TABLES["coverage"], rows)
    rows = [["noise", *(f"{len(steps)} looks, {share:.0%}" for steps in (FEW, MANY) for share in (0.8, 0.95))]]
    for noise in (0.005, 0.01, 0.02, 0.04, 0.08):
        found = [least_found(steps, noise, share, 100) for steps in (FEW, MANY) for share in (0.8, 0.95)]
        rows.append([f"{noise}", *("more than 1" if one is None else f"{one:.2f}" for one in found)])
    put_table(page, TABLES["power"], rows)


KINDS = ("emerged", "unresolved", "never")


def _tell(own: Covered) -> str:
    found = "" if own.found >= 0.995 else f" (found {own.found:.2f})"
    return f"{own.onset:.2f}, {own.mastery:.2f}{found}"


def main() -> None:
    if "--runs" not in sys.argv[1:]:
        write_simulations(PAGE, 400)
    else:
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        head = [
            "runs",
            "with a token that emerged",
            "with all five",
            "series of the timeline",
            "features in all layers",
        ]
        put_table(PAGE, TABLES["runs"], [head, *(judge_runs(kind, 10) for kind in CONTROLS)])


if __name__ == "__main__":
    main()
