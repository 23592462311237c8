"""How a run's records lie on disk, for who writes them and for all who read. No torch, no Zarr, no xarray.

A store is a Zarr v3 group of arrays, each with its own folder. Measures have `step` as their first axis and one chunk a
step; labels of axes are arrays of one chunk. The group's metadata (`zarr.json`) hold copies of all arrays' metadata and
two attributes beside those for people. `taken` has, for each measure, the rows (positions among the steps) at which it
was taken, as ranges [start, stop, step]: a chunk that is missing there is a loss, and elsewhere it means that nobody
looked. `check` is the CRC-32C of the metadata themselves, with zeros in its own place; chunks bear checksums of their
own. Stores of version 0.1.0 have neither, keep chunks in a folder `c`, and no chunk that is all zeros.

What is refused here is a `ValueError` that says of the records what they are, for readers to make a sentence of.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from json import dumps
from typing import Any

import numpy as np
from google_crc32c import value as crc32c

from lightning_emerge.store.regular import parse_json

METADATA, PACKAGE = "zarr.json", "lightning_emerge"
TAKEN, CHECK = "taken", "check"
MOST_ARRAYS, MOST_STEPS = 2000, 1_000_000
DTYPES = {name: np.dtype(name).newbyteorder("<") for name in ("float16", "float32", "float64", "int64")}
STRING = "string"
_UNKNOWN = "00000000"
_FOUND = re.compile(rb'"check": "([0-9a-f]{8})"')
_NAME = re.compile(r"[^/\\\x00-\x1f]{1,255}")


class ForeignError(ValueError):
    """A store is somebody else's."""


@dataclass(frozen=True)
class Array:
    """One array of a store, as its metadata have it.

    Attributes:
        name: of its folder.
        shape: of the whole array.
        axes: names of its dimensions.
        dtype: of its values; None for strings.
        packed: whether its chunks are compressed.
        attributes: what was written beside it.
        separator: what stands between the numbers in a chunk's name.
    """

    name: str
    shape: tuple[int, ...]
    axes: tuple[str, ...]
    dtype: np.dtype[Any] | None
    packed: bool
    attributes: Mapping[str, Any]
    separator: str

    @property
    def rest(self) -> tuple[int, ...]:
        """Shape without the first axis."""
        return self.shape[1:]

    @property
    def stepped(self) -> bool:
        """Whether it has a chunk a step."""
        return self.axes[0] == "step"

    def chunk(self, number: int) -> str:
        """Path of a chunk in the array's folder."""
        return _chunk(self.separator, number, len(self.rest))


def is_stepped(array: Mapping[str, Any]) -> bool:
    """Whether an array has a chunk a step, by its metadata."""
    return array["dimension_names"][0] == "step"


def chunk_path(array: Mapping[str, Any], row: int) -> str:
    """Path of a chunk in the array's folder, by its metadata."""
    return _chunk(array["chunk_key_encoding"]["configuration"]["separator"], row, len(array["shape"]) - 1)


def _chunk(separator: str, row: int, rest: int) -> str:
    return separator.join(["c", str(row), *("0" for _ in range(rest))])


def head(chunk: str) -> str:
    """What of a chunk's path lies in its array's folder, or in the folder `c` there: `c.7.0` or `c/7`."""
    return "/".join(chunk.split("/")[:2])


def parse_group(raw: bytes) -> dict[str, Any]:
    """Reads a group's metadata.

    Raises:
        ForeignError: if another program wrote them.
        ValueError: if they are no JSON, or were changed since they were written.
    """
    try:
        root = parse_json(raw)
    except ValueError as error:
        raise ValueError(f"their metadata are no JSON ({error})") from error
    attributes = root.get("attributes") if isinstance(root, dict) else None
    if not isinstance(attributes, dict) or attributes.get("package") != PACKAGE:
        raise ForeignError(f"{PACKAGE} did not write them")
    if not is_whole(raw, root):
        raise ValueError("their metadata were changed since they were written")
    return root


def parse_arrays(root: Mapping[str, Any]) -> dict[str, Array]:
    """Reads the metadata of a group's arrays.

    Raises:
        ValueError: if they are not as a fit writes them.
    """
    try:
        members: Mapping[str, Any] = root["consolidated_metadata"]["metadata"]
        check_count(members)
        return {name: _parse(name, array) for name, array in members.items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"their metadata are incomplete ({error})") from error


def check_count(members: Collection[str]) -> None:
    """Refuses more arrays than any run has."""
    if len(members) > MOST_ARRAYS:
        raise ValueError(f"they have {len(members)} arrays, of {MOST_ARRAYS} at most")


def _parse(name: str, meta: Any) -> Array:
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise ValueError("an array has a name that no folder has")
    shape = tuple(meta["shape"])
    chunk = tuple(meta["chunk_grid"]["configuration"]["chunk_shape"])
    axes = tuple(meta["dimension_names"])
    kind = meta["data_type"]
    if not shape or not all(type(size) is int and size >= 0 for size in shape) or len(axes) != len(shape):
        raise ValueError(f"{name} has the shape {str(shape)[:80]} and the axes {str(axes)[:80]}")
    if chunk != tuple(max(1, size) for size in ((1, *shape[1:]) if axes[0] == "step" else shape)):
        raise ValueError(f"{name} has chunks of {str(chunk)[:80]} for a shape of {str(shape)[:80]}")
    codecs = [codec["name"] for codec in meta["codecs"]]
    if codecs not in ([serial := "vlen-utf8" if kind == STRING else "bytes"], [serial, "zstd"]):
        raise ValueError(f"{name} is stored as {str(codecs)[:80]}, which no fit does")
    if kind != STRING and (kind not in DTYPES or _big_endian(meta)):
        raise ValueError(f"{name} is of the type {str(kind)[:80]}, which no fit writes")
    attributes = dict(meta.get("attributes", {}))
    return Array(name, shape, axes, DTYPES.get(kind), "zstd" in codecs, attributes, _separator(name, meta))


def _separator(name: str, meta: Any) -> str:
    keys = meta["chunk_key_encoding"]
    separator = keys["configuration"]["separator"]
    if keys["name"] != "default" or separator not in (".", "/"):
        raise ValueError(f"{name} names its chunks as {str(keys)[:80]}, which no fit does")
    return separator


def _big_endian(meta: Any) -> bool:
    return any(codec.get("configuration", {}).get("endian") == "big" for codec in meta["codecs"])


def count_looks(arrays: Mapping[str, Array]) -> int:
    """How many looks there are, if all arrays agree about that and about their axes.

    Raises:
        ValueError: if they do not.
    """
    steps = arrays.get("step")
    if steps is None or steps.shape[0] > MOST_STEPS or steps.axes != ("step",) or steps.dtype != DTYPES["int64"]:
        raise ValueError("they do not say at which steps they were taken")
    sizes = {name: array.shape[0] for name, array in arrays.items() if array.axes == (name,)}
    for array in arrays.values():
        if array.dtype is None and len(array.shape) != 1:
            raise ValueError(f"{array.name} holds text in more than one dimension")
        if array.stepped and array.name != "step" and (array.dtype is None or array.dtype.kind != "f"):
            raise ValueError(f"{array.name} holds no floating-point numbers")
        for axis, size in zip(array.axes, array.shape, strict=True):
            if sizes.get(axis, size) != size:
                raise ValueError(f"{array.name} has {size} positions along {axis}, which has {sizes[axis]}")
    return steps.shape[0]


def find_missing_step(
    path: Callable[[int], str], count: int, there: Collection[str], *, all_written: bool
) -> str | None:
    """Finds a step whose chunk is missing, so that nobody looks for more steps than there are files of.

    Args:
        path: of the chunk of a step, by its row.
        count: of steps that there are said to be.
        there: what lies in the folder of steps, and in the folder `c` of one of version 0.1.0, as `c/7`.
        all_written: False of stores of version 0.1.0, which have no chunk for a step 0.
    """
    rows = range(0 if all_written else 1, min(count, len(there) + 2))
    return next((path(row) for row in rows if head(path(row)) not in there), None)


Ranges = list[list[int]]
"""Rows as [start, stop, step] each, ascending."""


def seal(root: Mapping[str, Any]) -> bytes:
    """Encodes a group's metadata with their checksum."""
    attributes = {CHECK: _UNKNOWN, **{key: value for key, value in root["attributes"].items() if key != CHECK}}
    raw = dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes, **_rest(root)}).encode()
    return raw.replace(_UNKNOWN.encode(), b"%08x" % crc32c(raw), 1)


def _rest(root: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in root.items() if key not in ("zarr_format", "node_type", "attributes")}


def is_whole(raw: bytes, root: Mapping[str, Any]) -> bool:
    """Whether a group's metadata are as they were written.

    Args:
        raw: the file's content.
        root: the same, decoded. Stores of version 0.1.0 have no checksum, which is no damage.
    """
    found = _FOUND.search(raw)
    if found is None or CHECK not in root["attributes"]:
        return TAKEN not in root["attributes"] and CHECK not in root["attributes"]
    start, stop = found.span(1)
    return crc32c(raw[:start] + _UNKNOWN.encode() + raw[stop:]) == int(found[1], 16)


def add_row(ranges: Ranges, row: int) -> None:
    """Adds a row at the end, in place; one that is there already is not added again."""
    if not ranges:
        ranges.append([row, row + 1, 1])
        return
    start, stop, step = ranges[-1]
    last = range(start, stop, step)[-1]
    if row <= last:
        if row not in rows_of(ranges):
            ranges[:] = _ranges([*rows_of(ranges), row])
    elif start == last:
        ranges[-1] = [start, row + 1, row - start]
    elif row == last + step:
        ranges[-1][1] = row + 1
    else:
        ranges.append([row, row + 1, 1])


def rows_of(ranges: Sequence[Sequence[int]]) -> set[int]:
    """The rows that are in ranges."""
    return {row for start, stop, step in ranges for row in range(start, stop, step)}


def rows_before(ranges: Sequence[Sequence[int]], count: int) -> Ranges:
    """The rows before a count, as ranges."""
    return _ranges(row for row in rows_of(ranges) if row < count)


def _ranges(rows: Any) -> Ranges:
    found: Ranges = []
    for row in sorted(rows):
        add_row(found, row)
    return found


def has_row(ranges: Sequence[Sequence[int]], row: int) -> bool:
    """Whether a row is in ranges; they may be somebody else's, so nothing is made as long as they say."""
    place = bisect_right(ranges, row, key=lambda one: one[0])
    return place > 0 and row in range(*ranges[place - 1])


def read_taken(told: Any, looks: int) -> dict[str, list[range]] | None:
    """Reads the attribute `taken` of a store that may be anybody's.

    Args:
        told: rows by measure, as ranges; None in stores of version 0.1.0.
        looks: how many there are.

    Raises:
        ValueError: if it is anything else, or names more looks than there are.
    """
    if told is None:
        return None
    if not isinstance(told, dict):
        raise ValueError("they do not say when each measure was taken")
    return {name: _read_ranges(name, parts, looks) for name, parts in told.items()}


def _read_ranges(name: str, parts: Any, looks: int) -> list[range]:
    if not isinstance(parts, list) or len(parts) > looks or not all(_is_range(part, looks) for part in parts):
        raise ValueError(f"they do not say when {name[:80]} was taken")
    found = [range(*part) for part in parts]
    if sum(map(len, found)) > looks:
        raise ValueError(f"{name[:80]} was taken more often than there are looks")
    return found


def _is_range(part: Any, looks: int) -> bool:
    if not isinstance(part, list) or len(part) != 3 or not all(type(number) is int for number in part):
        return False
    start, stop, step = part
    return 0 <= start < stop and step > 0 and range(start, stop, step)[-1] < looks
