"""Networks of one's own: other inputs, other outputs, other weights than a classifier of images has."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.functional import interpolate, linear, mse_loss
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

from zoo.common import Entry, apart, images, stimuli


def _series() -> nn.Module:
    ends = (nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 5))
    return nn.Sequential(nn.Conv1d(2, 8, 5), nn.ReLU(), nn.Conv1d(8, 16, 5), nn.ReLU(), *ends)


def _features() -> nn.Module:
    return nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 5))


def _convolutions(outputs: int = 5, make: Callable[[nn.Module], nn.Module] = lambda layer: layer) -> nn.Sequential:
    first, second = make(nn.Conv2d(3, 8, 3, padding=1)), make(nn.Conv2d(8, 16, 3, padding=1))
    ends = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, outputs))
    return nn.Sequential(first, nn.ReLU(), nn.MaxPool2d(2), second, nn.ReLU(), *ends)


class _UNet(nn.Module):
    """Says of each pixel what it belongs to."""

    def __init__(self) -> None:
        super().__init__()
        self.down1, self.down2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 16, 3, padding=1)
        self.middle = nn.Conv2d(16, 16, 3, padding=1)
        self.up, self.out = nn.Conv2d(24, 8, 3, padding=1), nn.Conv2d(8, 5, 1)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        wide = self.down1(pictures).relu()
        deep = self.middle(nn.functional.max_pool2d(self.down2(wide).relu(), 2)).relu()
        return self.out(self.up(torch.cat([wide, interpolate(deep, scale_factor=2)], dim=1)).relu())


class _Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 5))
        self.decode = nn.Sequential(nn.Linear(5, 12), nn.ReLU(), nn.Linear(12, 20))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.decode(self.encode(rows))


class _Tied(nn.Module):
    """An autoencoder whose decoder has the encoder's weight, turned round."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Linear(20, 8)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return linear(self.encode(rows).relu(), self.encode.weight.t())


class _Twice(nn.Module):
    """Calls one layer two times."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.rec, self.head = nn.Linear(10, 16), nn.Linear(16, 16), nn.Linear(16, 5)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.head(self.rec(self.rec(self.enter(rows).relu()).relu()).relu())


class _Contrastive(nn.Module):
    """A SimCLR-like network: two views of each picture, and where each lies."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.projector = _convolutions(16), nn.Linear(16, 8)

    def forward(self, one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.projector(self.encoder(one)), self.projector(self.encoder(other))


class _Adversaries(nn.Module):
    """A GAN: from noise to a picture, and whether it is thought real."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = nn.Sequential(nn.Linear(10, 48), nn.ReLU(), nn.Unflatten(1, (3, 4, 4)))
        self.discriminator = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 1))

    def forward(self, noise: torch.Tensor) -> torch.Tensor:
        return self.discriminator(self.generator(noise))


def _squares(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return mse_loss(outputs, targets, reduction="none").flatten(1).mean(dim=1)


_OWN = "own"
OTHERS = (
    Entry("MLP on vectors", _OWN, _features, stimuli(lambda: apart(10))),
    Entry("Conv1d on series", _OWN, _series, stimuli(lambda: apart(2, 40))),
    Entry("layer called twice", _OWN, _Twice, stimuli(lambda: apart(10))),
    Entry("U-Net", _OWN, _UNet, images(32)),
    Entry("autoencoder", _OWN, _Autoencoder, stimuli(lambda: apart(20), loss=_squares, targets="inputs")),
    Entry("tied autoencoder", _OWN, _Tied, stimuli(lambda: apart(20), loss=_squares, targets="inputs")),
    Entry("SimCLR", _OWN, _Contrastive, stimuli(lambda: (apart(3, 16, 16), apart(3, 16, 16, seed=1)))),
    Entry("GAN", _OWN, _Adversaries, stimuli(lambda: apart(10), tokens=2)),
    Entry("one logit, BCE", _OWN, lambda: _convolutions(1), stimuli(lambda: apart(3, 16, 16), tokens=2)),
    Entry("weight_norm", _OWN, lambda: _convolutions(make=weight_norm), images(16)),
    Entry("spectral_norm", _OWN, lambda: _convolutions(make=spectral_norm), images(16)),
)
"""Those of the kinds that no library's constructor makes."""
