"""FrozenLayers: layers that do not learn, as a control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from lightning_emerge.capture import find_layers, match_layers


@final
class FrozenLayers(Callback):
    """Keeps layers as they were at the start: neither their weights nor their running statistics change.

    A control: what emerges with them frozen does not need them to learn.

    Args:
        layers: names or patterns of layers (see `lightning_emerge.capture.match_layers`).

    Raises:
        ValueError: if no layer is named; before the fit begins, if a pattern matches none or nothing is left to learn.
    """

    def __init__(self, layers: Sequence[str]) -> None:
        if not layers:
            raise ValueError('FrozenLayers: layers names the layers to freeze, such as ["conv1_*"]; got none.')
        self.layers = tuple(layers)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage != "fit":
            return
        # Before the optimizer and DDP are made, which look at what is to be learned.
        for layer in self.check(pl_module):
            layer.requires_grad_(False)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for layer in self.check(pl_module):
            layer.eval()

    def check(self, module: nn.Module) -> list[nn.Module]:
        """Finds the layers to freeze.

        Raises:
            ValueError: if a pattern matches no layer, or nothing is left to learn.
        """
        modules = find_layers(module)
        layers = [modules[layer] for layer in match_layers(module, self.layers)]
        frozen = {id(parameter) for layer in layers for parameter in layer.parameters()}
        if frozen.issuperset(id(parameter) for parameter in module.parameters()):
            raise ValueError(
                f"FrozenLayers leaves something to learn; {', '.join(self.layers)} are all layers. Name fewer, or set "
                "the optimizer's learning rate to 0."
            )
        return layers
