"""How much of what counts as coupled was planted, and how much of what was planted counts: the table of docs/probes.md.

    .venv/bin/python tests/bench/couplings.py

Each draw is a layer of its own, with kernels, inputs and orders of the null drawn anew; strengths and thresholds are
estimated from it as a probe does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from zlib import crc32

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, conv2d

from lightning_emerge.measures.coupling import KINDS, RATE, count_edges, coupling_strengths
from lightning_emerge.records import Convolution

STIMULI, SIDE, TIMES = 50, 8, 3
SIZES, SHARES = (16, 64), (0.0, 0.05, 0.2)
SIGNS, INPUTS = ("mixed signs", "one sign"), ("independent", "correlated", "tuned to tokens")
DRAWS = {16: 60, 64: 12}


@dataclass(frozen=True)
class Scenario:
    """Layers that are alike but for chance.

    Attributes:
        size: filters, and inputs.
        share: of the kernels that are planted, each `TIMES` as large as it would have been.
        signs: of the weights of all kernels.
        inputs: how inputs go together over stimuli.
        biases: whether filters differ in how often they are above zero.
    """

    size: int
    share: float
    signs: str = "one sign"
    inputs: str = "correlated"
    biases: bool = False


@dataclass(frozen=True)
class Rates:
    """What became of edges, of one kind.

    Attributes:
        false: mean over draws of the share of what counts that was not planted, 0 where nothing counts.
        error: its standard error.
        power: share of what was planted that counts; NaN if nothing was planted.
    """

    false: float
    error: float
    power: float

    @property
    def kept(self) -> bool:
        """Whether the rate of false discoveries is the nominal one or less, within two standard errors."""
        return self.false <= RATE + 2 * max(self.error, 1e-9)


def plant(scenario: Scenario, seed: int) -> tuple[Tensor, Tensor, Tensor, Convolution]:
    """Makes a layer: what it gets, its kernels, which of them are planted (filter, in), and what is made of it."""
    size, random = scenario.size, torch.Generator().manual_seed(crc32(f"{scenario} {seed}".encode()))
    weight = torch.randn(size, size, 3, 3, generator=random) / size**0.5
    weight = weight.abs() if scenario.signs == "one sign" else weight
    where = torch.rand(size, size, generator=random) < scenario.share
    weight[where] *= TIMES
    inputs = _inputs(scenario, random)
    shift = torch.zeros(size)
    if scenario.biases:
        sums = conv2d(inputs, weight, padding=1)
        shift = -sums.mean(dim=(0, 2, 3)) - sums.std(dim=(0, 2, 3)) * torch.linspace(-1.5, 1.5, size)
    return inputs, weight, where, Convolution((1, 1), (1, 1), (1, 1, 1, 1), torch.ones(size), shift, True)


def _inputs(scenario: Scenario, random: torch.Generator) -> Tensor:
    """Activities (stimulus, in, y, x) as of a layer with a ReLU."""
    size = scenario.size
    rows = 3 * avg_pool2d(torch.randn(STIMULI, size, SIDE, SIDE, generator=random), 3, 1, 1)
    if scenario.inputs == "correlated":
        mix = torch.eye(size) + 0.5 * torch.randn(size, size, generator=random)
        rows = torch.einsum("oi,niyx->noyx", mix, rows)
    if scenario.inputs == "tuned to tokens":
        tuning = torch.randn(5, size, generator=random)
        rows = 0.6 * rows + 1.2 * tuning[torch.arange(STIMULI) % 5, :, None, None]
    return rows.relu()


def edges_of(scenario: Scenario, seed: int) -> tuple[dict[str, Tensor], Tensor]:
    """What counts in a draw, by kind, and what was planted."""
    inputs, weight, where, made = plant(scenario, seed)
    strengths, least, _ = coupling_strengths(inputs, weight, made, torch.Generator().manual_seed(seed))
    return {kind: count_edges(strengths[k], least[k], kind) for k, kind in enumerate(KINDS)}, where


def rates(
    scenario: Scenario, draws: int, find: Callable[[Scenario, int], tuple[dict[str, Tensor], Tensor]] = edges_of
) -> dict[str, Rates]:
    """Counts what is found over draws, by kind."""
    counts: dict[str, list[tuple[int, int, int]]] = {}
    for seed in range(draws):
        edges, where = find(scenario, seed)
        for kind, own in edges.items():
            found = int(own.sum()), int((own & where).sum()), int(where.sum())
            counts.setdefault(kind, []).append(found)
    return {kind: _rates(np.array(own)) for kind, own in counts.items()}


def _rates(counts: np.ndarray) -> Rates:
    found, right, there = counts.T
    false = (found - right) / found.clip(1)
    power = right.sum() / there.sum() if there.any() else np.nan
    return Rates(float(false.mean()), float(false.std() / len(false) ** 0.5), float(power))


def scenarios(size: int) -> Iterable[Scenario]:
    """All of one size."""
    for share, signs, inputs, biases in product(SHARES, SIGNS, INPUTS, (False, True)):
        yield Scenario(size, share, signs, inputs, biases)


def main() -> None:
    """Prints a row for each sort of kernels: the mean over inputs and biases, the worst, and the span of power."""
    heads = [f"{kind}: {what}" for kind in KINDS for what in ("false (most)", "found")]
    print("| filters | kernels | planted |", " | ".join(heads), "|\n|" + "---|" * (3 + len(heads)))
    for size, signs, share in product(SIZES, SIGNS, SHARES):
        alike = [one for one in scenarios(size) if (one.signs, one.share) == (signs, share)]
        found = [rates(one, DRAWS[size]) for one in alike]
        cells: list[str] = []
        for kind in KINDS:
            false, powers = ([getattr(each[kind], name) for each in found] for name in ("false", "power"))
            error = np.linalg.norm([each[kind].error for each in found]) / len(found)
            cells.append(f"{np.mean(false):.3f} ± {error:.3f} ({max(false):.2f})")
            cells.append("-" if np.isnan(powers[0]) else f"{min(powers):.2f} to {max(powers):.2f}")
        print(f"| {size} x {size} | {signs} | {share:.0%} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
