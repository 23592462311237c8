"""ConfusionPicture: which token is taken for which, in validation and test."""

from __future__ import annotations

from typing import final

from lightning.pytorch import Callback, LightningModule, Trainer

from lightning_emerge.engine.budget import drawable
from lightning_emerge.engine.pictures import harmless, show_picture
from lightning_emerge.figures.canvas import to_pixels
from lightning_emerge.figures.confusion import draw_confusion
from lightning_emerge.figures.frames import give_back
from lightning_emerge.records import Axis, Measurement, to_array


@final
class ConfusionPicture(Callback):
    """Draws the confusion matrix of each validation and test into TensorBoard, W&B and MLflow.

    It reads `confusion` and `tokens` of the LightningModule, which `TokenClassifier` has; a module without them gets no
    picture, and neither has one with more tokens than a picture has room for. One that cannot be drawn costs a warning.
    """

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.sanity_checking:
            self._draw(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._draw(trainer, pl_module, "test")

    def _draw(self, trainer: Trainer, module: LightningModule, split: str) -> None:
        if trainer.is_global_zero:
            with harmless(f"{split}/confusion"):
                _draw_counts(trainer, module, split)


def _draw_counts(trainer: Trainer, module: LightningModule, split: str) -> None:
    counts = getattr(module, "confusion", {}).get(split)
    if counts is None:
        return
    tokens = [str(token) for token in getattr(module, "tokens", range(len(counts)))]
    shares = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
    measurement = Measurement(
        f"{split}/confusion",
        to_array(shares),
        (Axis("token", tokens), Axis("predicted", tokens)),
        trainer.global_step,
        "share",
        ConfusionPicture.__name__,
        {"val": "Validation", "test": "Test"}[split],
        range=(0, 1),
    )
    if not drawable(measurement):
        return
    figure = draw_confusion(measurement)
    pixels = to_pixels(figure)
    give_back(figure)
    show_picture(trainer, measurement.name, pixels)
