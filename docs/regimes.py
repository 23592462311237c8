"""Searches settings for those in which features are built and tokens are learned: the map of docs/regimes.md.

    make regimes                          # points that are not in docs/regimes.csv yet, then the map
    make regimes ARGS="rich lazy"         # these alone, anew

Each point is a training of its own without probes, looked at with the package's own measures, and is written when it is
done, so that a search which was stopped goes on where it was. A point takes one to three minutes on one core.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import lightning_emerge as le
from lightning_emerge.capture.convolutions import describe_convolution
from lightning_emerge.data.dataset import BatchOrder, normalise
from lightning_emerge.measures.coupling import KINDS, count_edges, coupling_strengths, spread_stimuli
from lightning_emerge.measures.filters import filter_cosines

TABLE = Path(__file__).parent / "regimes.csv"
BATCH, LOOKS = 32, 10
ADAM, SGD = torch.optim.Adam, torch.optim.SGD
EARLY = ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3")
TURNED = 3**0.5 / 2
"""Cosine of 30 degrees."""


@dataclass(frozen=True)
class Point:
    """One setting of the search; what it leaves out is as in the rich default.

    Attributes:
        rate: of learning; falls to zero along a cosine.
        decay: of weights.
        adam: whether Adam, AdamW if weights decay, takes the place of SGD with Nesterov's momentum of 0.9.
        norm: whether there is batch norm.
        scale: of the convolutions' initial weights.
        width: filters of the first stage.
        head: widths of the hidden linear layers.
        epochs: of 78 steps.
        size: side of the images.
        nuisances: what differs from the default.
        shuffled: whether training exemplars get wrong tokens.
        warm: steps in which the rate rises to its height.
    """

    rate: float = 0.1
    decay: float = 1e-3
    adam: bool = False
    norm: bool = True
    scale: float = 1.0
    width: int = 16
    head: tuple[int, ...] = (504, 504)
    epochs: int = 8
    size: int = 48
    nuisances: Mapping[str, Any] = field(default_factory=dict)
    shuffled: bool = False
    rise: float = 0.0
    div: float = 25.0
    bn: float = 0.1
    warm: int = 0
    std: float = 0.0
    batch: int = 32
    clip: float = 0.0
    headrate: float = 1.0
    smooth: float = 0.0

POINTS: dict[str, Point] = {}


def network(point: Point) -> le.VGG:
    made = le.VGG(batch_norm=point.norm, width=point.width, head=point.head, image_size=point.size)
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = point.bn
            if isinstance(module, nn.Conv2d):
                module.weight *= point.scale
                if point.std:
                    nn.init.normal_(module.weight, std=point.std)
    return made


def optimizer(point: Point, made: nn.Module) -> torch.optim.Optimizer:
    if point.adam:
        return torch.optim.AdamW(made.parameters(), lr=point.rate, weight_decay=point.decay)
    return SGD(made.parameters(), lr=point.rate, momentum=0.9, weight_decay=point.decay, nesterov=True)


def kernels(made: le.VGG) -> dict[str, Tensor]:
    return {name: made.get_submodule(f"{name}.conv").weight.detach().clone() for name in made.layers if name.startswith("conv")}


@torch.no_grad()
def answers(made: le.VGG, images: Tensor) -> Tensor:
    made.eval()
    found = torch.cat([made(part).softmax(dim=1) for part in images.split(125)])
    made.train()
    return found


@torch.no_grad()
def edges(made: le.VGG, images: Tensor) -> dict[tuple[str, str], list[int]]:
    """How many edges of each kind count, by pair of layers."""
    made.eval()
    names = [name for name in made.layers if name.startswith("conv")]
    inputs, seen = {}, images.contiguous(memory_format=made.memory_format)
    for name in made.layers:
        inputs[name] = seen
        seen = made.get_submodule(name)(seen)
    generator, found = torch.Generator().manual_seed(0), {}
    for before, layer in pairwise(names):
        weight = made.get_submodule(f"{layer}.conv").weight
        strengths, least, _ = coupling_strengths(inputs[layer], weight, describe_convolution(made, layer), generator)
        found[before, layer] = [int(count_edges(strengths[k], least[k], kind).sum()) for k, kind in enumerate(KINDS)]
    made.train()
    return found


def train(name: str, point: Point, seed: int) -> Iterator[dict[str, Any]]:
    torch.manual_seed(seed)
    nuisances = le.Nuisances(**point.nuisances)
    data = le.TokenDataModule(image_size=point.size, nuisances=nuisances, shuffle_labels=point.shuffled, seed=0)
    data.setup("fit")
    splits = data._splits
    images, labels = normalise(splits["train"].pixels()), splits["train"].labels
    bank = data.stimulus_bank()
    made = network(point)
    start, chosen = kernels(made), spread_stimuli(bank.labels, 50)
    learner = optimizer(point, made)
    order = BatchOrder(len(images), point.batch, rank=0, world_size=1, seed=0, training=True)
    steps = point.epochs * (len(images) // point.batch)
    fall = torch.optim.lr_scheduler.LambdaLR(
        learner, lambda step: min(1.0, (step + 1) / max(point.warm, 1)) * 0.5 * (1 + np.cos(np.pi * step / steps))
    )
    if point.rise:
        fall = torch.optim.lr_scheduler.OneCycleLR(learner, point.rate, total_steps=steps + 1, pct_start=point.rise, cycle_momentum=False, div_factor=point.div)
    began, step, losses = time.perf_counter(), 0, []
    while step <= steps:
        order.set_epoch(step // (len(images) // point.batch))
        for batch in order:
            last = step == steps
            if step % LOOKS == 0 or last or (step<100 and step%4==0):
                given = answers(made, bank.images)
                right = given.argmax(dim=1) == bank.labels
                chance = given[torch.arange(len(given)), bank.labels]
                row: dict[str, Any] = {"point": name, "seed": seed, "step": step, "loss": np.mean(losses or [np.nan])}
                losses = []
                row |= {"accuracy": float(right.float().mean())}
                row |= {f"p_{k}": float(chance[bank.labels == k].mean()) for k in range(5)}
                if step in (0, 50, 100, 200, 300, 400) or last:
                    now = kernels(made)
                    turned = {layer: filter_cosines(now[layer], start[layer]) for layer in now}
                    row |= {f"cos_{layer}": float(turned[layer].mean()) for layer in now}
                    early = torch.cat([turned[layer] for layer in EARLY if layer in turned])
                    row |= {"turned": float((early < TURNED).float().mean())}
                    row |= {f"turned_{layer}": float((turned[layer] < TURNED).float().mean()) for layer in now}
                    if step in (0, 100, 300) or last:
                        found = edges(made, bank.images[chosen])
                        row |= {f"{kind}_pairs": sum(of[k] > 0 for of in found.values()) for k, kind in enumerate(KINDS)}
                        row |= {f"{kind}_edges": sum(of[k] for of in found.values()) for k, kind in enumerate(KINDS)}
                        row |= {f"eff_{b}": of[1] for (_, b), of in found.items()}
                row["seconds"] = time.perf_counter() - began
                yield row
            if last:
                return
            at = torch.tensor(batch.indices)
            loss = cross_entropy(made(images[at]), labels[at], label_smoothing=point.smooth)
            learner.zero_grad()
            loss.backward()
            if point.clip:
                nn.utils.clip_grad_norm_(made.parameters(), point.clip)
            learner.step()
            fall.step()
            losses.append(float(loss.detach()))
            step += 1
