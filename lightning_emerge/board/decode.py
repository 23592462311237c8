"""Chunks of a Zarr v3 store as arrays. Nothing is believed that a file says of its size before it is compared."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numcodecs.zstd import Zstd  # pyright: ignore[reportMissingTypeStubs]

from lightning_emerge.board.refusal import damaged

_MAGIC = b"\x28\xb5\x2f\xfd"


def decode_numbers(raw: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], *, packed: bool) -> npt.NDArray[Any]:
    """Decodes a chunk of numbers.

    Args:
        raw: what the file holds.
        dtype: of the numbers.
        shape: of the chunk.
        packed: whether it is compressed by Zstandard.

    Raises:
        RefusedError: if it holds anything but as many numbers.
    """
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    return np.frombuffer(_unpack(raw, size, size) if packed else _sized(raw, size, size), dtype).reshape(shape)


def decode_strings(raw: bytes, count: int, limit: int, *, packed: bool) -> list[str]:
    """Decodes a chunk of strings, each after its length, all after their number.

    Raises:
        RefusedError: if there is not this number of strings, or they have more bytes than the limit.
    """
    data = _unpack(raw, 4, limit) if packed else _sized(raw, 4, limit)
    found, place = [], 4
    if int.from_bytes(data[:4], "little") != count:
        raise damaged("an axis has another number of labels than it says")
    for _ in range(count):
        end = place + 4 + int.from_bytes(data[place : place + 4], "little")
        if place + 4 > len(data) or end > len(data):
            raise damaged("the labels of an axis are cut off")
        found.append(data[place + 4 : end].decode(errors="replace"))
        place = end
    return found


def _sized(data: bytes, low: int, high: int) -> bytes:
    if not low <= len(data) <= high:
        raise damaged(f"a chunk holds {len(data)} bytes where its array says {low}")
    return data


def _unpack(raw: bytes, low: int, high: int) -> bytes:
    size = _content_size(raw)
    if not low <= size <= high:
        raise damaged(f"a chunk holds {size} bytes where its array says {low}")
    try:
        return _sized(bytes(Zstd().decode(raw)), low, high)
    except RuntimeError as error:
        raise damaged(f"a chunk cannot be unpacked ({error})") from error


def _content_size(raw: bytes) -> int:
    """What a Zstandard frame says of its content's size (RFC 8878, 3.1.1.1): the decoder would set it aside unseen."""
    if len(raw) < 6 or raw[:4] != _MAGIC:
        raise damaged("a chunk is not compressed as its array says")
    single, flag = raw[4] >> 5 & 1, raw[4] >> 6
    start = 5 + (1 - single) + (0, 1, 2, 4)[raw[4] & 3]
    length = (single, 2, 4, 8)[flag]
    if length == 0:
        raise damaged("a chunk does not say its size")
    return int.from_bytes(raw[start : start + length], "little") + (256 if length == 2 else 0)
