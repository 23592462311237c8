"""Networks that are lazy or build features by construction, for what the records of `RegimeProbe` say of them.

A perceptron of two hidden layers learns which side of a plane its inputs are on, to a training loss of 0.1. It is lazy
where its output, less that at the start, is taken many times and the rate divided by the square of that (Chizat et al.
2019, *On lazy training in differentiable programming*), and builds features where it begins with small weights
(Woodworth et al. 2020, *Kernel and rich regimes in overparametrized models*).
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import lightning_emerge as le

INPUTS, WIDTH, TRAINED, TESTED, MOST = 20, 200, 200, 500, 3000
RATE, ENOUGH = 0.01, 0.1
SEEDS = 3
RECORDS = ("kernel_alignment_total", "kernel_token_alignment_total", "turned_share_total", "relative_distance_total")


@dataclass(frozen=True)
class Way:
    """How a network is trained.

    Attributes:
        factor: its outputs, less those at the start, are taken so many times.
        size: its initial weights are so many times as large as usual.
        shuffled: whether labels are.
    """

    factor: float = 1.0
    size: float = 1.0
    shuffled: bool = False

    def __str__(self) -> str:
        parts = [f"outputs x {self.factor:g}" if self.factor != 1 else ""]
        parts += [f"initial weights x {self.size:g}" if self.size != 1 else "", "shuffled labels" * self.shuffled]
        return ", ".join(filter(None, parts)) or "as it is"


WAYS = (
    *(Way(factor) for factor in (100, 10, 3, 1, 0.3, 0.1)),
    *(Way(size=size) for size in (0.5, 0.2)),
    *(Way(shuffled=True), Way(size=0.2, shuffled=True)),
)


def train(way: Way, seed: int = 0) -> dict[str, tuple[float, float]]:
    """Trains a network and gives what was recorded of it before and after, and its accuracy on other inputs."""
    network, (inputs, labels) = _make(way, seed), _sample(1, TRAINED)
    labels = labels[torch.randperm(len(labels), generator=_seeded(seed))] if way.shuffled else labels
    start = deepcopy(network)
    optimizer = torch.optim.SGD(network.parameters(), RATE / way.factor**2, momentum=0.9)

    def answer(rows: Tensor) -> Tensor:
        return way.factor * (network(rows) - start(rows).detach())

    probe = le.RegimeProbe(le.At([0]), stimuli=40, on_error="raise")
    with TemporaryDirectory() as folder:
        with le.watch(network, [probe], _sample(3, 100), folder, optimizer) as watch:
            for _ in range(MOST):
                loss = cross_entropy(answer(inputs), labels)
                if loss < ENOUGH:
                    break
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                watch.step()
        with le.open_run(folder) as run:
            found = {name: (float(run[name][0]), float(run[name][-1])) for name in RECORDS}
    inputs, labels = _sample(2, TESTED)
    with torch.no_grad():
        right = float((answer(inputs).argmax(dim=1) == labels).float().mean())
    return {**found, "accuracy": (0.5, right)}


def rows(seeds: int = SEEDS) -> list[list[str]]:
    """A table of all ways, each the mean over networks."""
    head = ["network", "accuracy", *(f"`{name}`" for name in RECORDS), "the second at the start"]
    return [head, *([str(way), *_cells([train(way, seed) for seed in range(seeds)])] for way in WAYS)]


def _cells(found: list[dict[str, tuple[float, float]]]) -> list[str]:
    mean = {name: np.mean([one[name] for one in found], axis=0) for name in found[0]}
    ends = [f"{mean[name][1]:.3f}" for name in RECORDS]
    return [f"{mean['accuracy'][1]:.2f}", *ends, f"{mean[RECORDS[1]][0]:.3f}"]


def _make(way: Way, seed: int) -> nn.Module:
    network = nn.Sequential(
        *(nn.Linear(INPUTS, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2))
    )
    random = _seeded(seed)
    for part in network:
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, 0, way.size * (2 / part.in_features) ** 0.5, generator=random)
            nn.init.zeros_(part.bias)
    return network


def _sample(seed: int, count: int) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(count, INPUTS, generator=_seeded(seed))
    return inputs, (inputs[:, 0] > 0).long()


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
