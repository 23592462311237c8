"""What a training batch does to the weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from lightning_emerge.capture.needs.base import Look, Need
from lightning_emerge.capture.needs.weights import Weights


class Training(Need):
    """Gradients of a training batch, the update they led to and the units that fired, by layer.

    A probe that asks for these looks at training batches, at the same steps, and not at the bank.

    It finds

    - `gradients`: layer -> tensor like its weight, of the training batch's loss (unscaled, accumulated, averaged over
      ranks, before clipping); NaN for a weight that does not learn, that is another optimizer's, or that is made of
      other parameters.
    - `updates`: layer -> tensor like its weight, what the optimizer's step added to it; NaN for a weight that is
      another optimizer's.
    - `fired`: layer -> bool tensor (channel,), whether the first ReLU behind a channel was above zero anywhere in the
      batch. Layers without a ReLU, and those of compiled modules, are left out.
    - `weights`: as they were before the update.
    """

    finds: ClassVar[tuple[str, ...]] = ("gradients", "updates", "fired")
    weighs: ClassVar[bool] = True
    training: ClassVar[bool] = True
    uses: ClassVar[tuple[Need, ...]] = (Weights(),)

    def look(self, look: Look, layers: Sequence[str]) -> dict[str, Any]:
        batch: Batch = look.batch
        return {
            "gradients": {layer: batch.gradients[layer].clone() for layer in layers},
            "updates": {layer: batch.update(layer) for layer in layers},
            "fired": {layer: fired.clone() for layer, fired in batch.fired.items()},
        }

    def finite(self, found: Mapping[str, Any]) -> Iterable[torch.Tensor]:
        # Not gradients: in half precision some overflow, and the scaler leaves out their step.
        return [update for update in found["updates"].values() if not bool(update.isnan().all())]


@dataclass
class Batch:
    """What the weights and their gradients were when an optimizer's step began.

    Attributes:
        read: gives a copy of a layer's weight as it is now.
        weights: layer -> its weight then.
        gradients: layer -> its gradient then.
        still: layers whose weight is another optimizer's.
        fired: layer -> which channels fired.
    """

    read: Callable[[str], torch.Tensor]
    weights: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    gradients: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    still: set[str] = field(default_factory=set[str])
    fired: dict[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])

    def update(self, layer: str) -> torch.Tensor:
        """What a layer's weight has changed by since; NaN if it is another optimizer's."""
        update = self.read(layer) - self.weights[layer]
        return torch.full_like(update, torch.nan) if layer in self.still else update
