"""Pictures of a whole run, which lie in its folder and in the loggers that show pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from lightning.pytorch import Trainer
from lightning.pytorch.utilities.seed import isolate_rng
from lightning_utilities.core.rank_zero import rank_zero_warn
from matplotlib.figure import Figure

from lightning_emerge.figures.canvas import to_pixels
from lightning_emerge.records import Pixels
from lightning_emerge.sinks.boards import Board
from lightning_emerge.sinks.loggers import LoggerSink, logger_sinks
from lightning_emerge.sinks.png import encode_png
from lightning_emerge.sinks.tensorboard import tensorboard_sinks
from lightning_emerge.store.folder import Folder


@contextmanager
def harmless(picture: str) -> Iterator[None]:
    """Says what of a picture went wrong in the block, and goes on: what only draws stops no run.

    Args:
        picture: its name, for the warning.
    """
    try:
        yield
    except Exception as error:
        rank_zero_warn(
            f"The picture {picture} could not be drawn; training goes on without it. {type(error).__name__}: {error}"
        )


def keep_picture(trainer: Trainer, folder: str, name: str, picture: Figure) -> None:
    """Draws a picture once, and puts it into the run's folder and the loggers that show pictures.

    Args:
        trainer: of the run; the picture is of the steps that it has taken.
        folder: of the run, or an fsspec URL.
        name: of the picture.
        picture: the figure.

    Raises:
        OSError: if the folder cannot be written.
    """
    show_picture(trainer, name, leave_picture(folder, name, picture))


def leave_picture(folder: str, name: str, picture: Figure) -> Pixels:
    """Draws a picture once, puts it into a run's folder, and gives it for those who show it.

    Raises:
        OSError: if the folder cannot be written.
    """
    pixels = to_pixels(picture)
    Folder(folder).put(f"{name}.png", encode_png(pixels))
    return pixels


def show_picture(trainer: Trainer, name: str, pixels: Pixels) -> None:
    """Puts a picture into TensorBoard, W&B and MLflow; what the last two raise is said and stops nothing.

    Args:
        trainer: of the run; the picture is of the steps that it has taken.
        name: of the picture.
        pixels: (y, x, channel), RGB.
    """
    show_in(tensorboard_sinks(trainer.loggers), logger_sinks(trainer.loggers), trainer.global_step, name, pixels)


def show_in(boards: Iterable[Board], loggers: Iterable[LoggerSink], step: int, name: str, pixels: Pixels) -> None:
    """Puts a picture where a run's findings are shown; what a logger raises is said and stops nothing.

    Args:
        boards: of TensorBoard and the like.
        loggers: all others.
        step: optimizer steps taken.
        name: of the picture.
        pixels: (y, x, channel), RGB.
    """
    for sink in boards:
        sink.write(step, [], {name: pixels})
    for sink in loggers:
        try:
            with isolate_rng():
                sink.show(step, {name: pixels})
        except Exception as error:
            rank_zero_warn(
                f"{sink.name} could not take the picture {name}; training goes on. {type(error).__name__}: {error}"
            )
