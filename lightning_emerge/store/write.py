"""Writing a run's records: every measurement as labelled arrays in one Zarr v3 group."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_emerge.records import Axis, Measurement
from lightning_emerge.store.checks import Axes, Known, as_array
from lightning_emerge.store.claim import check_empty, check_ours, clear, create, is_others, said
from lightning_emerge.store.committed import check_codecs, damaged, read_array, read_metadata, read_root
from lightning_emerge.store.encode import attributes_of, declare, encode, encode_chunk, needs_folder
from lightning_emerge.store.folder import Folder
from lightning_emerge.store.format import (
    METADATA,
    PACKAGE,
    TAKEN,
    Ranges,
    add_row,
    chunk_path,
    is_stepped,
    rows_before,
    rows_of,
    seal,
)

_LATE = 8  # steps that readers without the group's metadata may be behind


class ArraySink:
    """Writes measurements to a Zarr v3 group that `xarray.open_zarr` reads, also while the run goes on.

    One step is committed at a time, by replacing one file: the group's metadata, which say of every array how long it
    is. Whatever a killed run left beyond that is not a record, and is swept away when the run is resumed.

    Args:
        path: folder of the store, or an fsspec URL; made if need be.
        step: where the run stands. Steps recorded beyond it, by a run that went on from here before, are dropped. None
            for a run that begins anew.

    Raises:
        ValueError: if there is a link, files of others, a store that this class did not write, one that is damaged, one
            that another run is writing, or, for a new run, one with records of an earlier run. All is left as it is.
        OSError: if the folder cannot be written.
    """

    def __init__(self, path: str | Path, step: int | None) -> None:
        self._folder = Folder(path)
        with said(self._folder):
            self._lock = self._folder.lock()
        try:
            self._open(step)
        except BaseException:
            self._release()
            raise

    def _open(self, step: int | None) -> None:
        folder = self._folder
        check_ours(folder)
        if not folder.exists(METADATA):
            with said(folder):
                create(folder)
        elif step is None:
            check_empty(folder)
            with said(folder):
                create(folder)
        self._root = read_root(folder)
        committed = self._read_steps()
        self._steps = committed if step is None else [done for done in committed if done <= step]
        self._known_labels: dict[str, npt.NDArray[Any]] = {}
        with said(folder):
            if len(self._steps) < len(committed):
                self._forget_later()
                folder.put(METADATA, seal(self._root))
            self._sweep()
        self._left = folder.read(METADATA)
        declared = self._read_declared()
        self._known = Known(declared, (name for name in self._arrays if name not in declared))

    def _forget_later(self) -> None:
        for metadata in self._arrays.values():
            if is_stepped(metadata):
                metadata["shape"][0] = len(self._steps)
        for ranges in (self._taken or {}).values():
            ranges[:] = rows_before(ranges, len(self._steps))

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps that are committed."""
        return tuple(self._steps)

    def close(self) -> None:
        """Lets other runs write to the store."""
        try:
            if self._shown < len(self._steps):
                self._check_there()
                self._show()
        finally:
            self._release()

    def _release(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def write(self, step: int, measurements: Sequence[Measurement]) -> dict[str, Exception]:
        """Stores what was measured at one step and commits it.

        Returns:
            By name, what could not be stored and why; all else is.

        Raises:
            ValueError: if the step lies before one that is committed and is not committed itself, or if `check` refuses
                a measurement; nothing is stored then.
            OSError: if the disk is full or cannot be written, or somebody has removed the store meanwhile; the store is
                as it was before then.
        """
        if step not in self._steps and self._steps and step < self._steps[-1]:
            raise ValueError(f"Records are written in the order of steps; got step {step} after {self._steps[-1]}.")
        for measurement in measurements:
            self.check(measurement)
        self._check_there()
        steps = list(self._steps)
        if step not in steps:
            self._steps.append(step)
        try:
            refused = self._put(self._steps.index(step), measurements)
            self._commit()
        except BaseException:
            self._steps = steps
            self._root = read_root(self._folder)
            with suppress(OSError):
                self._sweep(make=False)
            raise
        return refused

    def _check_there(self) -> None:
        """Notices that somebody, such as a cleaner of full disks, has removed the store under a run."""
        try:
            if not self._folder.local or self._folder.read(METADATA) == self._left:
                return
        except FileNotFoundError:
            pass
        raise OSError(
            errno.ENOENT,
            f"A run's records stay where they are while it goes on; those in {self._folder} were removed or replaced. "
            "Nothing more is written there.",
        )

    def check(self, measurement: Measurement) -> None:
        """Compares a measurement with the first of its name. It reads nothing, so another thread may write meanwhile.

        Raises:
            ValueError: as `Known.check`.
        """
        self._known.check(measurement)

    def _read_steps(self) -> list[int]:
        count = self._arrays["step"]["shape"][0]
        try:
            for name, metadata in self._arrays.items():
                check_codecs(name, metadata)
            steps = [int(step) for step in read_array(self._folder, "step")]
        except Exception as error:  # what a damaged store raises is not known
            raise damaged(self._folder, error) from None
        if len(steps) != count or any(after <= before for before, after in pairwise(steps)):
            raise damaged(self._folder, f"its steps are {steps}")
        return steps

    def _read_declared(self) -> dict[str, Axes]:
        declared: dict[str, Axes] = {}
        try:
            for name, metadata in self._arrays.items():
                step, *axes = metadata["dimension_names"]
                if step == "step" and name != "step":
                    declared[name] = tuple(
                        (axis.removesuffix(f"_of_{name}"), self._labels(axis).tolist()) for axis in axes
                    )
        except Exception as error:
            raise damaged(self._folder, error) from None
        return declared

    def _put(self, row: int, measurements: Sequence[Measurement]) -> dict[str, Exception]:
        """Encodes everything before it writes anything, so that what cannot be encoded costs nobody else."""
        files: dict[str, bytes] = {}
        refused: dict[str, Exception] = {}
        before = set(self._arrays)
        for measurement in measurements:
            arrays, labels = dict(self._arrays), dict(self._known_labels)
            coordinates = self._root["attributes"]["coordinates"]
            try:
                files |= self._encode(row, measurement)
            except OSError:
                raise
            except Exception as error:  # what odd values and labels make Zarr raise is not known
                self._root["consolidated_metadata"]["metadata"], self._known_labels = arrays, labels
                self._root["attributes"]["coordinates"] = coordinates
                refused[measurement.name] = error
        for path, content in files.items():
            self._folder.put(path, content, make=needs_folder(path, before))
        return refused

    def _encode(self, row: int, measurement: Measurement) -> dict[str, bytes]:
        """The files of one measurement by their paths, with those of arrays that are new."""
        name, values, files = measurement.name, measurement.values, dict[str, bytes]()
        if name not in self._arrays:
            files |= self._add(
                name,
                ["step", *(self._axis(axis, name, files) for axis in measurement.axes)],
                attributes_of(measurement),
                shape=(self._shown, *values.shape),
                chunks=(1, *(max(1, size) for size in values.shape)),
                dtype=values.dtype,
                fill_value=np.nan,
            )
        if values.size:
            files[f"{name}/{chunk_path(self._arrays[name], row)}"] = encode_chunk(self._arrays[name], values)
        if self._taken is not None:
            add_row(self._taken.setdefault(name, []), row)
        return files

    def _add(self, name: str, axes: Sequence[str], attributes: Mapping[str, Any], **settings: Any) -> dict[str, bytes]:
        """Makes an array, and gives its files, its metadata last; the next commit makes it one of the store."""
        if is_others(self._folder, name):
            raise ValueError(
                f"Records have their folders for themselves; in {self._folder} somebody else has put {name!r}. "
                "Move that away, or rename the measurement."
            )
        files = declare(name, axes, attributes, **settings)
        self._arrays[name] = json.loads(files[f"{name}/{METADATA}"])
        return dict(sorted(files.items()))

    def _axis(self, axis: Axis, measure: str, files: dict[str, bytes]) -> str:
        """Finds or adds an axis' labels; an axis with other labels than its namesake gets a longer name."""
        labels = as_array(axis.labels)
        name = axis.name
        if name in self._arrays and not np.array_equal(self._labels(name), labels):
            name = f"{name}_of_{measure}"
        if name not in self._arrays:
            files |= self._store(name, name, labels, {"units": axis.unit} if axis.unit else {})
        attributes = self._root["attributes"]
        for note, values in axis.notes.items():
            if f"{name}_{note}" not in self._arrays:
                files |= self._store(f"{name}_{note}", name, as_array(values), {})
                attributes["coordinates"] = f"{attributes['coordinates']} {name}_{note}".strip()
        return name

    def _labels(self, axis: str) -> npt.NDArray[Any]:
        if axis not in self._known_labels:
            self._known_labels[axis] = read_array(self._folder, axis)
        return self._known_labels[axis]

    def _store(self, name: str, axis: str, labels: npt.NDArray[Any], attributes: Mapping[str, str]) -> dict[str, bytes]:
        own = {**attributes, "version": version(PACKAGE)}
        files = self._add(name, [axis], own, data=labels, chunks=(max(1, len(labels)),))
        self._known_labels[name] = labels
        return files

    def _commit(self) -> None:
        """Gives every array its length and puts that of all of them in force at once."""
        count, arrays = len(self._steps), dict(sorted(self._arrays.items()))
        steps = arrays["step"]
        path = f"step/{chunk_path(steps, count - 1)}"
        content = encode_chunk(steps, np.asarray(self._steps[-1]))
        self._folder.put(path, content, make=needs_folder(path, {"step"}))
        for metadata in arrays.values():
            if is_stepped(metadata):
                metadata["shape"][0] = count
        self._root["consolidated_metadata"]["metadata"] = arrays
        if not self._shown or count >= self._shown + _LATE:
            self._show()
        content = seal(self._root)
        self._folder.put(METADATA, content, make=False)
        self._left = content

    def _show(self) -> None:
        """Writes every array's length beside it, for readers that do not know the group's copy of the metadata.

        These see steps later than others do, as replacing so many files at each step would cost more than all else.
        """
        for name, metadata in self._arrays.items():
            if is_stepped(metadata):
                self._folder.put(f"{name}/{METADATA}", encode(metadata), make=False)
        self._shown = len(self._steps)

    @property
    def _arrays(self) -> dict[str, dict[str, Any]]:
        """Metadata of every array as they are committed, or in `write` as they are going to be."""
        return self._root["consolidated_metadata"]["metadata"]

    @property
    def _taken(self) -> dict[str, Ranges] | None:
        """At which rows each measure was taken; None in stores of version 0.1.0, which do not say."""
        return self._root["attributes"].get(TAKEN)

    def _rows(self, name: str, array: Mapping[str, Any]) -> set[int]:
        """The rows of an array that have a chunk."""
        if not is_stepped(array):
            return {0}
        known = name != "step" and self._taken is not None
        return rows_of(self._taken.get(name, [])) if known and self._taken else set(range(len(self._steps)))

    def _sweep(self, *, make: bool = True) -> None:
        """Removes what a run has left there beyond what is committed, and nothing that no run writes."""
        self._known_labels.clear()
        folder, committed = self._folder, self._arrays
        for name in folder.names():
            if name not in committed and not is_others(folder, name):
                clear(folder, name, set())
        for name, metadata in committed.items():
            if read_metadata(folder, name) != metadata:
                folder.put(f"{name}/{METADATA}", encode(metadata), make=make)
            clear(folder, name, {METADATA, *(chunk_path(metadata, row) for row in self._rows(name, metadata))})
        self._shown = len(self._steps)
