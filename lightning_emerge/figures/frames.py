"""Frames: what is the same in a picture at every look is drawn once, and what moves is laid over it.

Most of a picture's cost is its layout, axes, ticks and words. A function that makes a figure without the numbers of one
look, and is `reused`, gets a figure back that was made before, if one is free: the caller sets what moves, `to_pixels`
draws that alone, and `give_back` says that nobody holds the figure any more. A figure that is new goes the same way, so
its picture is the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from functools import lru_cache, wraps
from threading import Lock
from typing import Any, ParamSpec, cast

import numpy as np
import numpy.typing as npt
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import AxesImage
from matplotlib.text import Text

from lightning_emerge.figures.words import PlainFigure, take_literally, take_text
from lightning_emerge.records import Pixels

_Given = ParamSpec("_Given")

DRAWING = Lock()
"""Held while something is drawn: matplotlib's caches of fonts and formulas are shared by all threads."""

_KEPT = 12  # figures that wait to be used again, of a few megabytes each
_MARGIN = 2  # pixels around a word, as letters may reach beyond their width
_BASELINES = {  # from the place of a text down to its baseline, by what it is aligned to
    "baseline": lambda up, down: 0.0,
    "bottom": lambda up, down: -down,
    "top": lambda up, down: up,
    "center": lambda up, down: (up - down) / 2,
    "center_baseline": lambda up, down: up / 2,
}
_FREE: list[tuple[Hashable, Frame]] = []
_TAKING = Lock()


class Frame(PlainFigure):
    """A figure most of which is the same at every look.

    Args:
        width: in inches.
        height: in inches.
    """

    def __init__(self, width: float, height: float) -> None:
        super().__init__(figsize=(width, height), dpi=100, layout="constrained")
        self.moving: list[Any] = []
        """What differs from look to look, in the order in which it is laid over the rest."""
        self._made_as: Hashable = None
        self._still: Pixels | None = None
        self._changed = False

    def fix(self, made_as: Hashable) -> None:
        """Fixes the layout, so that it does not depend on what moves, and notes what the figure was made from."""
        FigureCanvasAgg(self)
        take_literally(self)
        engine = self.get_layout_engine()
        if engine is not None:
            with DRAWING:
                engine.execute(self)
            self.set_layout_engine("none")
        for artist in self.moving:
            artist.stale_callback = None  # the figure is to be stale only if something else was changed
        self._made_as, self.stale = made_as, False

    @property
    def free(self) -> Hashable:
        """What the figure was made from, or None if it was changed since, so that it is of no more use."""
        return None if self._changed or self.stale else self._made_as

    def draw_pixels(self) -> Pixels:
        """Draws what moves over the rest, which is kept; or all, if the rest was changed since it was made."""
        canvas = cast(FigureCanvasAgg, self.canvas)
        self._changed |= bool(self.stale)
        if self._changed:
            canvas.draw()
            return np.asarray(canvas.buffer_rgba())
        if self._still is None:
            self._still = self._draw_still(canvas)
        pixels, renderer = np.asarray(canvas.buffer_rgba()), cast(RendererAgg, canvas.get_renderer())
        pixels[:] = self._still
        for artist in self.moving:
            _lay(artist, pixels, renderer)
        return pixels

    def _draw_still(self, canvas: FigureCanvasAgg) -> Pixels:
        shown = [artist for artist in self.moving if artist.get_visible()]
        # Matplotlib moves titles that it cannot see.
        places = [(artist, artist.get_position()) for artist in shown if isinstance(artist, Text)]
        for artist in shown:
            artist.set_visible(False)
        try:
            canvas.draw()
        finally:
            for artist in shown:
                artist.set_visible(True)
            for text, place in places:
                text.set_position(place)
        return np.array(canvas.buffer_rgba())


def reused(make: Callable[_Given, Frame]) -> Callable[_Given, Frame]:
    """Lets a function that makes a frame hand out one that was given back, if it was made from the same arguments.

    Args:
        make: makes a frame with everything in place, and with room for the largest of what moves. Its arguments are
            hashable.
    """

    @wraps(make)
    def take(*args: _Given.args, **kwargs: _Given.kwargs) -> Frame:
        made_as = (make, args, tuple(kwargs.items()))
        with _TAKING:
            for place, (key, frame) in enumerate(_FREE):
                if key == made_as:
                    del _FREE[place]
                    return frame
        frame = make(*args, **kwargs)
        frame.fix(made_as)
        return frame

    return take


def give_back(figure: Figure) -> None:
    """Says that nobody holds a figure any more; if it is a frame, another look may be drawn on it."""
    if not isinstance(figure, Frame) or figure.free is None:
        return
    with _TAKING:
        _FREE.append((figure.free, figure))
        del _FREE[:-_KEPT]


def _lay(artist: Artist, pixels: Pixels, renderer: RendererAgg) -> None:
    if not artist.get_visible():
        return
    if isinstance(artist, Text):
        take_text(artist)
    if isinstance(artist, AxesImage):
        _lay_image(artist, pixels)
    elif isinstance(artist, Text) and not (artist.get_rotation() or "\n" in artist.get_text()):
        _lay_text(artist, pixels, renderer)
    else:
        artist.draw(renderer)


def _lay_image(image: AxesImage, pixels: Pixels) -> None:
    """Each pixel has the colour of the cell that its centre is in."""
    values = cast(npt.NDArray[Any], image.get_array())
    colours = np.ma.getdata(values) if values.ndim == 3 else image.to_rgba(values, bytes=True)
    left, right, bottom, top = image.get_extent()
    (x_first, y_first), (x_last, y_last) = image.get_transform().transform([(left, top), (right, bottom)])
    columns, across = _cells(x_first, x_last, values.shape[1])
    rows, down = _cells(len(pixels) - y_first, len(pixels) - y_last, values.shape[0])
    _words(pixels)[rows, columns] = _words(with_channels(colours, 4))[down[:, None], across]


def _words(pixels: Pixels) -> npt.NDArray[np.uint32]:
    """The same memory, one number a pixel, which is faster to pick from."""
    return pixels.view(np.uint32)[..., 0]


def with_channels(pixels: Pixels, count: int) -> Pixels:
    """Copies red, green and blue to pixels of three or four channels, opaque."""
    copy = np.empty((*pixels.shape[:2], count), np.uint8)
    copy[..., 3:] = 255
    for channel in range(3):  # five times as fast as all at once
        copy[..., channel] = pixels[..., channel]
    return copy


def _cells(first: float, last: float, count: int) -> tuple[slice, npt.NDArray[np.intp]]:
    """The pixels between two edges, and which of so many cells each is in."""
    places = np.arange(round(first), round(last))
    cells = ((places + 0.5 - first) * count / (last - first)).astype(np.intp)
    return slice(round(first), round(last)), cells.clip(0, count - 1)


def _lay_text(text: Text, pixels: Pixels, renderer: RendererAgg) -> None:
    """Sets a line from pieces that were drawn before: what is between digits, and each digit."""
    font = text.get_fontproperties()
    pieces = [_piece(piece, font, renderer.dpi) for piece in re.findall(r"\d|\D+", text.get_text())]
    if not pieces:
        return
    x, y = text.get_transform().transform(text.get_unitless_position())
    width = sum(advance for advance, _ in pieces)
    x -= {"left": 0.0, "center": width / 2, "right": width}[text.get_horizontalalignment()]
    height, descent = _line_size(font, renderer.dpi)
    baseline = len(pixels) - y + _BASELINES[text.get_verticalalignment()](height - descent, descent)
    ink = 255 * np.array(to_rgb(text.get_color()))
    for advance, mask in pieces:
        _blend(pixels, mask, round(x) - _MARGIN, round(baseline) - len(mask) // 2, ink)
        x += advance


@lru_cache(256)
def _line_size(font: FontProperties, dpi: float) -> tuple[float, float]:
    """Height and descent of a line."""
    _, height, descent = RendererAgg(1, 1, dpi).get_text_width_height_descent("lp", font, False)
    return height, descent


@lru_cache(1024)
def _piece(text: str, font: FontProperties, dpi: float) -> tuple[float, npt.NDArray[np.floating]]:
    """How wide a piece of text is, and its ink (y, x), 0 to 1, with the baseline at half the height."""
    width, height, _ = RendererAgg(1, 1, dpi).get_text_width_height_descent(text, font, False)
    half = int(height) + 2 * _MARGIN
    renderer = RendererAgg(int(width) + 1 + 2 * _MARGIN, 2 * half, dpi)
    renderer.draw_text(renderer.new_gc(), _MARGIN, half, text, font, 0)
    return width, np.asarray(renderer.buffer_rgba())[..., 3] / np.float32(255)


def _blend(pixels: Pixels, mask: npt.NDArray[np.floating], left: int, top: int, ink: npt.NDArray[np.float64]) -> None:
    """Lays ink over pixels; what would be beyond their edges is cut."""
    mask = mask[max(0, -top) :, max(0, -left) :, None]
    under = pixels[max(0, top) :, max(0, left) :, :3][: mask.shape[0], : mask.shape[1]]
    mask = mask[: under.shape[0], : under.shape[1]]
    under[:] = (under + (ink - under) * mask).round()
