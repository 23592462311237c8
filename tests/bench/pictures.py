"""What is gained by drawing only what moves in a picture, and by encoding PNG ourselves, over what libraries do.

Both stay as long as the pictures of a look take two thirds of the libraries' time at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from io import BytesIO
from typing import Any, cast
from unittest.mock import patch

import numpy as np
from looks import Watch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from parts import DEFAULT, read_probes
from PIL import Image
from table import Row, compared

import lightning_emerge as le
from lightning_emerge.engine import writer
from lightning_emerge.figures.canvas import to_pixels
from lightning_emerge.figures.frames import Frame
from lightning_emerge.records import Pixels
from lightning_emerge.sinks import tensorboard
from lightning_emerge.sinks.png import encode_png

_BAR = 0.67
_STILL: dict[Frame, Any] = {}


def blit(frame: Frame) -> Pixels:
    """Draws a frame as Matplotlib's blitting does: what is still is restored, what moves is drawn by its artists."""
    canvas = cast(FigureCanvasAgg, frame.canvas)
    if frame not in _STILL:
        frame._draw_still(canvas)
        _STILL[frame] = canvas.copy_from_bbox(frame.bbox)
    canvas.restore_region(_STILL[frame])
    for artist in frame.moving:
        frame.draw_artist(artist)
    return np.asarray(canvas.buffer_rgba())


def save_png(pixels: Pixels) -> bytes:
    """Encodes a picture as Pillow does it fastest."""
    content = BytesIO()
    Image.fromarray(pixels).save(content, "PNG", compress_level=1)
    return content.getvalue()


@contextmanager
def by_libraries() -> Iterator[None]:
    """Has pictures drawn and encoded by Matplotlib and Pillow."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(Frame, "draw_pixels", _blit_again))
        stack.enter_context(patch.object(tensorboard, "encode_png", save_png))
        yield


_OURS = Frame.draw_pixels


def _blit_again(frame: Frame) -> Pixels:
    with patch.object(Frame, "draw_pixels", _OURS):
        return blit(frame)


def bench_pictures(rounds: int) -> Iterator[Row]:
    """The pictures of a look of all default probes, drawn and encoded, over what Matplotlib and Pillow take."""
    frames = [figure for figure in _figures_of_a_look() if isinstance(figure, Frame)]
    pictures = [to_pixels(frame) for frame in frames]

    def each(make: Callable[[Any], object], of: Sequence[object]) -> Callable[[], None]:
        return lambda: [*map(make, of)] and None

    row = Row(
        "pictures",
        f"drawing what moves in the {len(frames)} pictures of a look",
        "Matplotlib's blitting",
        bar=_BAR,
        why="Letters are copied from pieces that were drawn before, and cells of images are picked by number.",
    )
    yield compared(row, each(_OURS, frames), each(blit, frames), rounds)
    ours, theirs = (sum(len(encode(picture)) for picture in pictures) for encode in (encode_png, save_png))
    why = f"Rows are not predicted from their neighbours; files are {ours / theirs:.2f} times as large."
    row = Row("pictures", "encoding them as PNG", "Pillow, compress_level 1", bar=_BAR, why=why)
    yield compared(row, each(encode_png, pictures), each(save_png, pictures), rounds)
    with _watch() as look, _watch() as other:

        def look_by_libraries() -> None:
            with by_libraries():
                other()

        why = "It is measured and recorded beside."
        row = Row("pictures", "a look of all default probes", "the same, blitted, and encoded by Pillow", why=why)
        yield compared(row, look, look_by_libraries, rounds)


def _watch() -> Watch:
    return Watch(read_probes(DEFAULT, schedule=le.EverySteps(1)))


def _figures_of_a_look() -> list[Figure]:
    kept: list[Figure] = []
    with patch.object(writer, "give_back", kept.append), _watch() as look:
        look()
        look()
    return kept
