"""From an image file to pixels: upright, in RGB, square."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from io import BytesIO
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

VERSION = 1
"""Of the way from a file to pixels; it goes up when a file comes to give other pixels, and with it go old caches."""

Pixels = npt.NDArray[np.uint8]

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class UnsuitableError(ValueError):
    """What is wrong with all images alike, so that listing them would not help."""


def decode(content: bytes, size: int) -> Pixels:
    """Decodes an image file; of several frames, the first.

    Args:
        content: the file's bytes.
        size: side of the result in pixels.

    Returns:
        uint8 array (channel, y, x), RGB, `size` pixels high and wide.

    Raises:
        ValueError: if it is no image, or its pixels have no agreed range.
        Exception: whatever Pillow raises on a damaged file, and on one that is larger than it deems safe.
    """
    with warnings.catch_warnings():
        # Odd EXIF blocks and palettes are common in photographs and do not touch the pixels.
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            file = Image.open(BytesIO(content))
        except UnidentifiedImageError:
            raise ValueError("not an image") from None
        with file:
            return fit(to_rgb(file), size)


def to_rgb(image: Image.Image) -> Image.Image:
    """Turns an image of any mode as its EXIF says, lays it on white where it is transparent, and makes it RGB.

    Raises:
        ValueError: if its pixels have no agreed range.
    """
    upright = _to_eight_bits(ImageOps.exif_transpose(image))
    if "A" in upright.getbands() or "transparency" in upright.info:
        # The colours under transparent pixels are arbitrary; viewers show what lies behind them.
        shown = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", shown.size, "white"), shown)
    return upright.convert("RGB")


def fit(image: Image.Image, size: int) -> Pixels:
    """Scales an RGB image so that its shorter side fits, and crops it in the middle; one that fits stays as it is.

    Returns:
        uint8 array (channel, y, x).
    """
    fitted = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(fitted).transpose(2, 0, 1).copy()


def read_each(keys: Iterable[_Key], read: Callable[[_Key], _Value]) -> dict[_Key, _Value]:
    """Reads every image, or says in one error which cannot be read.

    Raises:
        ValueError: if any cannot be read.
        UnsuitableError: as soon as `read` raises it.
    """
    images: dict[_Key, _Value] = {}
    broken: list[str] = []
    for key in keys:
        try:
            images[key] = read(key)
        except UnsuitableError:
            raise
        except Exception as error:  # what a broken file can raise is not known
            broken.append(f"{key} ({str(error) or type(error).__name__})")
    if broken:
        more = f" and {len(broken) - 10} more" if len(broken) > 10 else ""
        raise ValueError(
            f"Every image can be decoded; {len(broken)} cannot: {'; '.join(broken[:10])}{more}. Repair or remove them."
        )
    return images


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scales 16-bit grey, which Pillow would cut off at 255."""
    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range")
    if not image.mode.startswith("I"):
        return image
    deep = np.asarray(image).astype(np.int64)
    if deep.min() < 0 or deep.max() > 65535:
        raise ValueError("32-bit pixels have no agreed range")
    grey = Image.fromarray(((deep + 128) // 257).astype(np.uint8))
    if "transparency" in image.info:
        grey.putalpha(Image.fromarray(np.where(deep == image.info["transparency"], 0, 255).astype(np.uint8)))
    return grey
