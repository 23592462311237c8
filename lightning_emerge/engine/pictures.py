"""Pictures of a whole run, which lie in its folder and in TensorBoard."""

from __future__ import annotations

from lightning.pytorch import Trainer
from matplotlib.figure import Figure

from lightning_emerge.figures.canvas import to_pixels
from lightning_emerge.sinks.png import to_png
from lightning_emerge.sinks.storage import Folder
from lightning_emerge.sinks.tensorboard import tensorboard_sinks


def keep_picture(trainer: Trainer, folder: str, name: str, picture: Figure) -> None:
    """Draws a picture once, and puts it into the run's folder and before the eyes of TensorBoard.

    Args:
        trainer: of the run; the picture is of the steps that it has taken.
        folder: of the run, or an fsspec URL.
        name: of the picture.
        picture: the figure.

    Raises:
        OSError: if the folder cannot be written.
    """
    pixels = to_pixels(picture)
    Folder(folder).put(f"{name}.png", to_png(pixels))
    for sink in tensorboard_sinks(trainer.loggers):
        sink.write(trainer.global_step, [], {name: pixels})
