"""Small networks and banks that tests of captures share."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from passed import run_bank
from torch import nn
from torchmetrics.classification import MulticlassAccuracy

import lightning_emerge as le
from lightning_emerge.capture import (
    first_stimuli,
    refuse_filters,
)
from lightning_emerge.capture.sketch import sketching


def make_vgg(**changes: Any) -> le.VGG:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"plan": [1, 2], "width": 2, "head": [4], "image_size": 8}
    return le.VGG(**{**settings, **changes})


def make_mlp(*, inplace: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace), nn.Linear(6, 3))


def both(network: nn.Module, bank: le.StimulusBank, layers: list[str]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    seen = run_bank(network, bank, layers)
    return seen.activations, seen.outputs


def make_bank(size: int, *shape: int) -> le.StimulusBank:
    images = torch.randn(size, *shape, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(size) % 2
    return le.StimulusBank(images, labels, tuple(f"s{k}" for k in range(size)), ("a", "b"))


def count_hooks(module: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


class Wrapper(LightningModule):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.criterion = nn.CrossEntropyLoss()
        self.accuracy = MulticlassAccuracy(3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images)


def make_doubles(*shape: int, size: int = 23) -> le.StimulusBank:
    images = torch.randn(size, *shape, generator=torch.Generator().manual_seed(1)).double()
    return le.StimulusBank(images, torch.arange(size) % 2, tuple(map(str, range(size))), ("a", "b"))


def unfiltered(network: nn.Module, bank: le.StimulusBank, layers: list[str]) -> dict[str, str]:
    few = first_stimuli(bank, 3)
    with sketching(network, len(few), bank.task) as sketch:
        run_bank(network, few, [])
    assert not any(layer._forward_hooks for layer in network.modules())
    return refuse_filters(sketch.layouts, layers)


class Twice(nn.Module):
    """A convolution that is called twice, on its own output the second time."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.relu, self.fc = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.Linear(3, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.relu(self.conv(self.relu(self.conv(images))))
        return self.fc(maps.mean(dim=(2, 3)))
