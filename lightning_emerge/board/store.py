"""One run's records, read without this package's other rooms, so that TensorBoard imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import pairwise
from math import isfinite, prod
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_emerge.board.cache import Cache
from lightning_emerge.board.decode import decode_numbers, decode_strings
from lightning_emerge.board.files import Files, Stamp
from lightning_emerge.board.refusal import damaged
from lightning_emerge.store.format import (
    METADATA,
    TAKEN,
    Array,
    count_looks,
    find_missing_step,
    parse_arrays,
    parse_group,
    read_taken,
)

_MOST_METADATA, _MOST_CHUNK, _MOST_LABELS, _MOST_POSITIONS = 1 << 23, 1 << 28, 1 << 24, 1_000_000

Numbers = npt.NDArray[Any]


class Records:
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
        raw = files.read(f"{path}/{METADATA}", _MOST_METADATA)
        try:
            attributes, self.arrays = _parse(raw)
            self.looks = count_looks(self.arrays)
            self._told = read_taken(attributes.get(TAKEN), self.looks)
        except ValueError as error:
            raise damaged(str(error)) from error
        self._coordinates = str(attributes.get("coordinates", "")).split()
        self._compare_looks()

    @cached_property
    def measures(self) -> dict[str, Array]:
        """What was measured, by name."""
        return {name: array for name, array in self.arrays.items() if array.stepped and name != "step"}

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
        if array is None or array.stepped:
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
        found = self._files.chunks(f"{self._path}/step")
        path = self.arrays["step"].chunk
        if find_missing_step(path, self.looks, found, all_written=self._told is not None) is not None:
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


def _parse(raw: bytes) -> tuple[Mapping[str, Any], dict[str, Array]]:
    """The attributes of a store, and its arrays."""
    root = parse_group(raw)
    found = parse_arrays(root)
    for array in found.values():
        values = prod(array.rest if array.stepped else array.shape)
        if values * (array.dtype.itemsize if array.dtype else 4) > _MOST_CHUNK:
            raise ValueError(f"{array.name} says that it has {values} values a step, which are too many")
    return root["attributes"], found


def _plain(value: float) -> float | None:
    return value if isfinite(value) else None
