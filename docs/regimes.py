"""Searches settings for those in which features are built: the table and the picture of docs/regimes.md.

    make regimes                          # what is not in docs/regimes.csv yet, then the table and the picture
    make regimes ARGS="default lazy"      # these settings alone, anew

Each training is one of its own, without probes, and is looked at with the package's measures. It is written when it is
done, so that a search which was stopped resumes where it was. One takes about a minute on a quiet core.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler

import lightning_emerge as le
from lightning_emerge.capture.convolutions import describe_convolution
from lightning_emerge.data.dataset import BatchOrder
from lightning_emerge.figures.canvas import new_figure, to_png
from lightning_emerge.measures.coupling import KINDS, count_edges, coupling_strengths, spread_stimuli
from lightning_emerge.measures.filters import filter_cosines, turned_share

TABLE = Path(__file__).parent / "regimes.csv"
PICTURE = Path(__file__).parent / "pictures" / "regimes.png"
BATCH, STIMULI, EVERY = 32, 50, 10
EARLY = ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3")


@dataclass(frozen=True)
class Setting:
    """What a network is trained with; configs/vgg5.yaml at half its length if nothing is given.

    Attributes:
        rate: of learning, at its highest.
        rise: share of the steps in which the rate rises to it; at 0 it begins there. It falls to zero along a cosine.
        decay: of weights.
        adam: whether AdamW takes the place of SGD with Nesterov's momentum of 0.9.
        norm: how far batch norm's running statistics follow those of each batch; 0 for no batch norm.
        initial: factor of the convolutions' initial weights.
        width: filters of the first stage.
        head: widths of the hidden linear layers.
        epochs: of 78 steps.
        size: side of the images in pixels.
        nuisances: what differs from the default's.
    """

    rate: float = 0.03
    rise: float = 0.5
    decay: float = 1e-3
    adam: bool = False
    norm: float = 0.5
    initial: float = 0.2
    width: int = 16
    head: tuple[int, ...] = (504, 504)
    epochs: int = 8
    size: int = 48
    nuisances: Mapping[str, Any] = field(default_factory=dict)


DEFAULT = Setting()
LAZY = Setting(rate=3e-4, rise=0, decay=0, adam=True, norm=0, initial=1)
SETTINGS = {
    "default": DEFAULT,
    "- at once": replace(DEFAULT, rise=0),
    "- initial 1": replace(DEFAULT, initial=1),
    "- rate 0.01": replace(DEFAULT, rate=0.01),
    "- rate 0.1": replace(DEFAULT, rate=0.1),
    "- decay 0": replace(DEFAULT, decay=0),
    "- decay 5e-3": replace(DEFAULT, decay=5e-3),
    "- width 12, head 800 and 799": replace(DEFAULT, width=12, head=(800, 799)),
    "- 4 epochs": replace(DEFAULT, epochs=4),
    "- 32 pixels": replace(DEFAULT, size=32),
    "- hard": replace(DEFAULT, nuisances={"preset": "hard"}),
    "- grey": replace(DEFAULT, nuisances={"colour": 0.0}),
    "SGD 0.1 at once, initial 1": replace(DEFAULT, rate=0.1, rise=0, initial=1),
    "Adam 1e-3, initial 0.2": replace(LAZY, rate=1e-3, norm=0.5, initial=0.2),
    "Adam 3e-3, initial 1": replace(LAZY, rate=3e-3, norm=0.5),
    "lazy": LAZY,
    "- Adam 1e-3": replace(LAZY, rate=1e-3),
}
"""Those that begin with a dash are as the one above them that does not, but for what they name."""
CONTROLS = ("default", "- at once", "SGD 0.1 at once, initial 1", "Adam 1e-3, initial 0.2")
"""Settings that are also trained on shuffled labels."""


def make_network(setting: Setting) -> le.VGG:
    return le.VGG(
        batch_norm=setting.norm > 0,
        norm_momentum=setting.norm or 0.1,
        initial=setting.initial,
        width=setting.width,
        head=setting.head,
        image_size=setting.size,
    )


def make_learner(setting: Setting, network: nn.Module, steps: int) -> tuple[torch.optim.Optimizer, LRScheduler]:
    weights, rate = network.parameters(), setting.rate
    learner: torch.optim.Optimizer = (
        torch.optim.AdamW(weights, lr=rate, weight_decay=setting.decay)
        if setting.adam
        else torch.optim.SGD(weights, lr=rate, momentum=0.9, nesterov=True, weight_decay=setting.decay)
    )
    if not setting.rise:
        return learner, CosineAnnealingLR(learner, steps)
    return learner, le.RiseAndFall(learner, steps, setting.rise)


def convolutions(network: le.VGG) -> dict[str, Tensor]:
    names = [name for name in network.layers if name.startswith("conv")]
    return {name: network.get_submodule(f"{name}.conv").weight.detach().clone() for name in names}


@torch.no_grad()
def classify(network: le.VGG, bank: le.StimulusBank) -> tuple[float, float]:
    """Accuracy on the bank, and the mean probability of the right token."""
    network.eval()
    given = torch.cat([network(images).softmax(dim=1) for images in bank.images.split(125)])
    network.train()
    right = (given.argmax(dim=1) == bank.labels).float().mean()
    return float(right), float(given[torch.arange(len(given)), bank.labels].mean())


@torch.no_grad()
def count_by_pair(network: le.VGG, images: Tensor) -> dict[str, list[int]]:
    """How many edges of each kind count, for each pair of layers, named by the later one."""
    network.eval()
    inputs, seen = {}, images.contiguous(memory_format=network.memory_format)
    for name in network.layers:
        inputs[name] = seen
        seen = network.get_submodule(name)(seen)
    weights, generator, found = convolutions(network), torch.Generator().manual_seed(0), {}
    for _, layer in pairwise(weights):
        described = describe_convolution(network, layer)
        strengths, least, _ = coupling_strengths(inputs[layer], weights[layer], described, generator)
        found[layer] = [int(count_edges(strengths[k], least[k], kind).sum()) for k, kind in enumerate(KINDS)]
    network.train()
    return found


def batches(data: le.TokenDataModule, epochs: int) -> Iterator[tuple[Tensor, Tensor]]:
    loader = data.train_dataloader()
    order = loader.sampler
    assert isinstance(order, BatchOrder)
    for epoch in range(epochs):
        order.set_epoch(epoch)
        for batch in loader:
            yield batch["image"], batch["label"]


def train(setting: Setting, shuffled: bool) -> dict[str, float]:
    """Trains once; see the columns of the table."""
    torch.manual_seed(0)
    nuisances = le.Nuisances(**setting.nuisances)
    data = le.TokenDataModule(image_size=setting.size, nuisances=nuisances, shuffle_labels=shuffled, batch_size=BATCH)
    data.setup("fit")
    bank, network = data.stimulus_bank(), make_network(setting)
    steps = setting.epochs * (sum(data.counts["train"] for _ in data.tokens) // BATCH)
    learner, scheduler = make_learner(setting, network, steps)
    start, few = convolutions(network), bank.images[spread_stimuli(bank.labels, STIMULI)]
    first = count_by_pair(network, few)
    curve = [(0, *classify(network, bank))]
    for step, (images, labels) in enumerate(batches(data, setting.epochs), start=1):
        learner.zero_grad()
        cross_entropy(network(images), labels).backward()
        learner.step()
        scheduler.step()
        if step % EVERY == 0 or step == steps:
            curve.append((step, *classify(network, bank)))
    return {**summarise(curve), **turning(start, convolutions(network)), **edges(first, count_by_pair(network, few))}


def summarise(curve: Sequence[tuple[int, float, float]]) -> dict[str, float]:
    """How well the bank is classified in the end, how long it stayed at chance, and how long the rise then took.

    The rise is that of the mean probability of the right token, from 10% of its way on to the first of 90%.
    """
    steps, accuracy, confidence = (np.array(column) for column in zip(*curve, strict=True))
    way = (confidence - confidence[0]) / max(confidence[-1] - confidence[0], 1e-9)
    rose = confidence[-1] - confidence[0] >= 0.1
    begun, done = (steps[np.argmax(way >= share)] for share in (0.1, 0.9))
    return {
        "accuracy": accuracy[-1],
        "plateau": begun if rose else np.nan,
        "rise": done - begun if rose else np.nan,
    }


def turning(start: Mapping[str, Tensor], end: Mapping[str, Tensor]) -> dict[str, float]:
    cosines = {layer: filter_cosines(end[layer], start[layer]) for layer in start}
    early = torch.cat([cosines[layer] for layer in EARLY])
    return {"turned": float(turned_share(early, 30))} | {
        f"cosine_{layer}": float(own.mean()) for layer, own in cosines.items()
    }


def edges(first: Mapping[str, Sequence[int]], last: Mapping[str, Sequence[int]]) -> dict[str, float]:
    found: dict[str, float] = {"pairs_at_step_0": sum(own[1] > 0 for own in first.values())}
    for number, kind in enumerate(KINDS):
        found[f"{kind}_pairs"] = sum(own[number] > 0 for own in last.values())
        found[f"{kind}_edges"] = sum(own[number] for own in last.values())
    return found


Row = dict[str, str]


def read() -> list[Row]:
    if not TABLE.exists():
        return []
    with TABLE.open() as file:
        return list(csv.DictReader(file))


def write(rows: Sequence[Mapping[str, object]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with TABLE.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def jobs() -> list[tuple[str, bool]]:
    return [(name, shuffled) for name in SETTINGS for shuffled in ((False, True) if name in CONTROLS else (False,))]


def search(chosen: Sequence[str]) -> list[Row]:
    rows = [row for row in read() if row["setting"] in SETTINGS and row["setting"] not in chosen]
    known = {(row["setting"], row["labels"] == "shuffled") for row in rows}
    for name, shuffled in jobs():
        if (name, shuffled) in known or (chosen and name not in chosen):
            continue
        found = {what: f"{value:.4g}" for what, value in train(SETTINGS[name], shuffled).items()}
        rows.append({"setting": name, "labels": "shuffled" if shuffled else "own", **found})
        write(rows)
        print(name, rows[-1]["labels"], found, flush=True)
    place = {job: number for number, job in enumerate(jobs())}
    rows.sort(key=lambda row: place[row["setting"], row["labels"] == "shuffled"])
    write(rows)
    return rows


def tell(rows: Sequence[Row]) -> None:
    print(
        "\n| setting | labels | accuracy | at chance | rise | turned "
        "| `conv1_1` | `conv3_3` | `conv5_3` | pairs | edges |"
    )
    print("|" + "---|" * 11)
    for row in rows:
        own = [row[f"cosine_{layer}"] for layer in ("conv1_1", "conv3_3", "conv5_3")]
        numbers = [f"{float(value):.2f}" for value in (row["accuracy"], row["turned"], *own)]
        spans = [value if value != "nan" else "-" for value in (row["plateau"], row["rise"])]
        pairs = f"{row['weight_pairs']}, {row['effective_pairs']}"
        counted = f"{row['weight_edges']}, {row['effective_edges']}"
        cells = [row["setting"], row["labels"], numbers[0], *spans, *numbers[1:], pairs, counted]
        print(f"| {' | '.join(cells)} |")


def draw(rows: Sequence[Row]) -> None:
    """Each setting is a line; dots are of its own labels, and crosses of shuffled ones."""
    figure = new_figure(8.4, 0.26 * len(SETTINGS) + 1.1)
    panels = (
        ("accuracy", "accuracy on the bank", (0, 1.02)),
        ("turned", "share of filters of conv1_1 to\nconv3_3 turned by 30° or more", (-0.02, 1.02)),
        ("effective_pairs", "pairs of layers (of 12) in which\neffective couplings count", (-0.3, 12.3)),
    )
    lines = {name: -number for number, name in enumerate(SETTINGS)}
    for number, (axes, (what, title, limits)) in enumerate(
        zip(figure.subplots(1, 3, sharey=True), panels, strict=True)
    ):
        for labels, marker, colour in (("shuffled", "x", "#D55E00"), ("own", "o", "#0072B2")):
            own = [row for row in rows if row["labels"] == labels]
            heights = [lines[row["setting"]] for row in own]
            named = "the tokens' labels" if labels == "own" else "shuffled labels"
            axes.scatter(
                [float(row[what]) for row in own], heights, marker=marker, color=colour, s=28, label=named, zorder=3
            )
        axes.set_xlabel(title, fontsize=8)
        axes.set_xlim(*limits)
        axes.set_yticks(list(lines.values()), list(lines), fontsize=8)
        axes.tick_params(axis="x", labelsize=8)
        axes.grid(axis="both", linewidth=0.4, alpha=0.5)
        if number == 0:
            axes.axvline(0.2, color="grey", linewidth=0.8, linestyle="--")
    handles, names = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles[::-1], names[::-1], loc="outside upper right", ncols=2, fontsize=8, frameon=False)
    PICTURE.write_bytes(to_png(figure))


def main() -> None:
    chosen = sys.argv[1:]
    unknown = sorted(set(chosen) - set(SETTINGS))
    if unknown:
        raise SystemExit(f"Settings are {', '.join(SETTINGS)}; got {', '.join(unknown)}.")
    torch.set_num_threads(1)
    rows = search(chosen)
    tell(rows)
    draw(rows)


if __name__ == "__main__":
    main()
