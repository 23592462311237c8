"""One run's records, read without this package's other rooms, so that TensorBoard imports no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import isfinite, prod
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_emerge.board.cache import Cache
from lightning_emerge.board.decode import DTYPES, STRING, decode_numbers, decode_strings
from lightning_emerge.board.files import Files, Stamp, head
from lightning_emerge.board.refusal import damaged
from lightning_emerge.board.taken import read_taken
from lightning_emerge.sinks.format import is_whole
from lightning_emerge.sinks.regular import parse_json

_METADATA = "zarr.json"
_MOST_METADATA, _MOST_CHUNK, _MOST_LABELS, _MOST_STEPS = 1 << 23, 1 << 28, 1 << 24, 1_000_000
_MOST_ARRAYS, _MOST_POSITIONS = 2000, 1_000_000
_NAME = re.compile(r"[^/\\\x00-\x1f]{1,255}")

Numbers = npt.NDArray[Any]


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

    def chunk(self, number: int) -> str:
        """Path of a chunk in the array's folder."""
        return self.separator.join(["c", str(number), *("0" for _ in self.rest)])


class Store:
    """The records of one run as they were committed when it was opened.

    Args:
        files: of the log directory.
        path: of the store in it.
        cache: of chunks, of all stores.

    Raises:
        FileNotFoundError: if there is none.
        RefusedError: if it is not as a fit writes it.
    """

    def __init__(self, files: Files, path: str, cache: Cache[Numbers]) -> None:
        self._files, self._path, self._cache = files, path, cache
        self.key = (files.root, path)
        self._lock, self._taken, self._labels = Lock(), dict[str, dict[int, Stamp]](), dict[str, Sequence[Any]]()
        raw = files.read(f"{path}/{_METADATA}", _MOST_METADATA)
        root = _read_json(raw)
        attributes = root.get("attributes")
        if not isinstance(attributes, dict) or attributes.get("package") != "lightning_emerge":
            raise damaged("lightning_emerge did not write them")
        if not is_whole(raw, root):
            raise damaged("their metadata were changed since they were written")
        try:
            found = _parse_all(root["consolidated_metadata"]["metadata"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise damaged(f"their metadata are incomplete ({error})") from error
        self.arrays = found
        self.looks = _count_looks(found)
        self._told = read_taken(attributes.get("taken"), self.looks)
        self._coordinates = str(attributes.get("coordinates", "")).split()
        self._compare_looks()

    @cached_property
    def measures(self) -> dict[str, Array]:
        """What was measured, by name."""
        return {name: array for name, array in self.arrays.items() if array.axes[0] == "step" and name != "step"}

    @cached_property
    def steps(self) -> list[int]:
        """Steps of the looks, ascending."""
        steps = [self._step(number) for number in range(self.looks)]
        if any(after <= before for before, after in pairwise(steps)):
            raise damaged("their steps do not ascend")
        return steps

    @cached_property
    def last(self) -> int | None:
        """The newest step."""
        return self._step(self.looks - 1) if self.looks else None

    def taken(self, measure: str) -> dict[int, Stamp]:
        """By position among the looks at which a measure was taken: what tells its chunk from an earlier one.

        The stamp of a chunk that is missing, although the store says that the measure was taken then, is empty.
        """
        with self._lock:
            if measure not in self._taken:
                array, told = self.measures[measure], self._told.get(measure) if self._told else None
                looks = range(self.looks) if told is None else sorted(look for part in told for look in part)
                stamps = self._files.stamps(f"{self._path}/{measure}", [array.chunk(look) for look in looks])
                found = zip(looks, stamps, strict=True)
                self._taken[measure] = {k: stamp or () for k, stamp in found if stamp or told is not None}
            return self._taken[measure]

    def damaged(self, measure: str) -> list[int]:
        """Positions among the looks at which a measure was taken whose chunks are missing."""
        empty = 0 in self.measures[measure].rest
        return [look for look, stamp in self.taken(measure).items() if not stamp and not empty]

    def read(self, measure: str, look: int) -> Numbers:
        """Reads a measure at one look, in its own precision; all NaN where it was not taken.

        Raises:
            RefusedError: if its chunk cannot be read.
        """
        array = self.measures[measure]
        stamp = self.taken(measure).get(look)
        key = (self.key, measure, look, stamp)
        found = self._cache.get(key)
        if found is None:
            found = self._read_numbers(array, look, array.rest, whole=stamp == ())
            self._cache.put(key, found, found.nbytes)
        return found

    def labels(self, axis: str) -> Sequence[Any]:
        """Labels of an axis, or of a coordinate along it: a range if they are the numbers from 0, or it has none.

        Raises:
            RefusedError: if they cannot be read, or the store has more of them than any run has.
        """
        if axis not in self._labels:
            self._labels[axis] = self._read_labels(axis)
        return self._labels[axis]

    def notes(self, axis: str) -> dict[str, str]:
        """By name, further coordinates along an axis: the arrays that hold them."""
        found = (name for name in self._coordinates if name in self.arrays and self.arrays[name].axes == (axis,))
        return {name.removeprefix(f"{axis}_"): name for name in found}

    def _read_labels(self, axis: str) -> Sequence[Any]:
        array = self.arrays.get(axis)
        if array is None or array.axes[0] == "step":
            return range(self._size(axis))
        whole, size = self._told is not None, array.shape[0]
        if array.dtype is not None:
            values = self._read_numbers(array, 0, array.shape, whole=whole)
            if values.ndim == 1 and np.array_equal(values, np.arange(size)):
                return range(size)
            self._check_labels(axis, values.size)
            return [_plain(value) for value in values.tolist()]
        self._check_labels(axis, size)
        raw = self._read_chunk(array, 0, _MOST_LABELS, whole=whole) if size else None
        if raw is None:  # empty strings alone were not written by version 0.1.0
            return [""] * size
        return decode_strings(raw, size, _MOST_LABELS, packed=array.packed)

    def _size(self, axis: str) -> int:
        """Positions along an axis without labels; this package writes labels for all."""
        sizes = (dict(zip(one.axes, one.shape, strict=True)).get(axis) for one in self.measures.values())
        size = next((size for size in sizes if size is not None), 0)
        if size > _MOST_POSITIONS:
            raise damaged(f"{axis} has {size} positions without labels, of {_MOST_POSITIONS} at most")
        return size

    def _check_labels(self, axis: str, size: int) -> None:
        kept = sum(len(labels) for labels in list(self._labels.values()) if isinstance(labels, list))
        if kept + size > _MOST_POSITIONS:
            raise damaged(f"with the {size} labels of {axis} they have more than {_MOST_POSITIONS} labels")

    def _compare_looks(self) -> None:
        """Refuses to look for more steps than there are files of."""
        steps = self.arrays["step"]
        found = self._files.chunks(f"{self._path}/step")
        first = 1 if self._told is None else 0  # version 0.1.0 wrote no chunk for a step 0
        missing = self.looks > len(found) + 1 or any(
            head(steps.chunk(look)) not in found for look in range(first, self.looks)
        )
        if missing:
            raise damaged(f"they say that there are {self.looks} looks, and the steps of some are missing")

    def _step(self, number: int) -> int:
        return int(self._read_numbers(self.arrays["step"], number, (), whole=self._told is not None)[()])

    def _read_numbers(self, array: Array, number: int, shape: tuple[int, ...], *, whole: bool) -> Numbers:
        """Reads a chunk of numbers; one that is missing has the array's fill value unless it is said to be there."""
        assert array.dtype is not None
        if 0 in shape:
            return np.empty(shape, array.dtype)
        # Compression makes what cannot be compressed longer by less than this.
        limit = prod(shape) * array.dtype.itemsize * 9 // 8 + 1024
        raw = self._read_chunk(array, number, limit, whole=whole)
        if raw is None:
            return np.full(shape, np.nan if array.dtype.kind == "f" else 0, array.dtype)
        return decode_numbers(raw, array.dtype, shape, packed=array.packed)

    def _read_chunk(self, array: Array, number: int, limit: int, *, whole: bool) -> bytes | None:
        chunk = f"{array.name}/{array.chunk(number)}"
        try:
            return self._files.read(f"{self._path}/{chunk}", limit)
        except FileNotFoundError:
            if whole:
                raise damaged(f"{chunk} is missing") from None
            return None


def _read_json(raw: bytes) -> dict[str, Any]:
    try:
        found = parse_json(raw)
    except ValueError as error:
        raise damaged(f"their metadata are no JSON ({error})") from error
    if not isinstance(found, dict):
        raise damaged("their metadata are no JSON object")
    return found


def _parse_all(members: Mapping[str, Any]) -> dict[str, Array]:
    if len(members) > _MOST_ARRAYS:
        raise damaged(f"they have {len(members)} arrays, of {_MOST_ARRAYS} at most")
    return {name: _parse(name, meta) for name, meta in members.items()}


def _parse(name: str, meta: Any) -> Array:
    if not _NAME.fullmatch(name) or name in (".", ".."):
        raise damaged("an array has a name that no folder has")
    shape = tuple(meta["shape"])
    chunk = tuple(meta["chunk_grid"]["configuration"]["chunk_shape"])
    axes = tuple(meta["dimension_names"])
    codecs = [codec["name"] for codec in meta["codecs"]]
    kind = meta["data_type"]
    if not shape or not all(type(size) is int and size >= 0 for size in shape) or len(axes) != len(shape):
        raise damaged(f"{name} has the shape {str(shape)[:80]} and the axes {str(axes)[:80]}")
    stepped = axes[0] == "step"
    if chunk != tuple(max(1, size) for size in ((1, *shape[1:]) if stepped else shape)):
        raise damaged(f"{name} has chunks of {str(chunk)[:80]} for a shape of {str(shape)[:80]}")
    if codecs not in ([serial := "vlen-utf8" if kind == STRING else "bytes"], [serial, "zstd"]):
        raise damaged(f"{name} is stored as {str(codecs)[:80]}, which the board does not read")
    if kind != STRING and (kind not in DTYPES or _big_endian(meta)):
        raise damaged(f"{name} is of the type {str(kind)[:80]}, which the board does not read")
    dtype = DTYPES.get(kind)
    _check_size(name, shape[1:] if stepped else shape, dtype)
    return Array(name, shape, axes, dtype, "zstd" in codecs, dict(meta.get("attributes", {})), _separator(name, meta))


def _separator(name: str, meta: Any) -> str:
    keys = meta["chunk_key_encoding"]
    separator = keys["configuration"]["separator"]
    if keys["name"] != "default" or separator not in (".", "/"):
        raise damaged(f"{name} names its chunks as {str(keys)[:80]}, which the board does not read")
    return separator


def _big_endian(meta: Any) -> bool:
    return any(codec.get("configuration", {}).get("endian") == "big" for codec in meta["codecs"])


def _check_size(name: str, shape: tuple[int, ...], dtype: np.dtype[Any] | None) -> None:
    if prod(shape) * (dtype.itemsize if dtype else 4) > _MOST_CHUNK:
        raise damaged(f"{name} says that it has {prod(shape)} values a step, which are too many")


def _count_looks(arrays: Mapping[str, Array]) -> int:
    """How many looks there are, if all arrays agree about that and about their axes."""
    steps = arrays.get("step")
    if steps is None or steps.shape[0] > _MOST_STEPS or steps.axes != ("step",) or steps.dtype != DTYPES["int64"]:
        raise damaged("they do not say at which steps they were taken")
    sizes = {name: array.shape[0] for name, array in arrays.items() if array.axes == (name,)}
    for array in arrays.values():
        if array.dtype is None and len(array.shape) != 1:
            raise damaged(f"{array.name} holds text in more than one dimension")
        if array.axes[0] == "step" and array.name != "step" and (array.dtype is None or array.dtype.kind != "f"):
            raise damaged(f"{array.name} holds no floating-point numbers")
        for axis, size in zip(array.axes, array.shape, strict=True):
            if sizes.get(axis, size) != size:
                raise damaged(f"{array.name} has {size} positions along {axis}, which has {sizes[axis]}")
    return steps.shape[0]


def _plain(value: float) -> float | None:
    return value if isfinite(value) else None
