"""The array store: every measurement of a run as labelled arrays in one Zarr v3 group."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

from lightning_emerge.records import Axis, Label, Measurement
from lightning_emerge.sinks.layout import STORE
from lightning_emerge.sinks.storage import Folder, Lock

_METADATA = "zarr.json"
_PACKAGE = "lightning_emerge"
_ABOUT = (
    "Measurements of one training run. Every array has `step` (optimizer steps taken) as its first axis and one chunk "
    "a step; NaN fills the steps at which a measure was not taken."
)


class ArraySink:
    """Writes measurements to a Zarr v3 group that `xarray.open_zarr` reads, also while the run goes on.

    One step is committed at a time, by replacing one file: the group's metadata, which say of every array how long it
    is. Whatever a killed run left beyond that is not a record, and is swept away when the run is resumed.

    Args:
        path: folder of the store, or an fsspec URL; made if need be.
        step: where the run stands. Steps recorded beyond it, by a run that went on from here before, are dropped. None
            for a run that begins anew.

    Raises:
        ValueError: if there is a store that this class did not write, one that is damaged, one that another run is
            writing, or, for a new run, one with records of an earlier run.
        OSError: if the folder cannot be written.
    """

    def __init__(self, path: str | Path, step: int | None) -> None:
        self._folder = Folder(path)
        self._lock = _take(self._folder)
        try:
            self._open(step)
        except BaseException:
            self.close()
            raise

    def _open(self, step: int | None) -> None:
        folder = self._folder
        if step is None and folder.exists(_METADATA):
            _check_empty(folder)
            folder.remove()
        if not folder.exists(_METADATA):
            with _said(folder):
                _create(folder)
        self._root = _read_root(folder)
        committed = self._read_steps()
        self._steps = committed if step is None else [done for done in committed if done <= step]
        self._known_labels: dict[str, npt.NDArray[Any]] = {}
        for metadata in self._committed().values():
            if metadata["dimension_names"][0] == "step":
                metadata["shape"][0] = len(self._steps)
        with _said(folder):
            if len(self._steps) < len(committed):
                folder.put(_METADATA, _encode(self._root))
            self._sweep()
        with _quiet():
            self._group = zarr.open_group(folder.store(), mode="r+", zarr_format=3, use_consolidated=False)
        self._declared = self._read_declared()

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps that are committed."""
        return tuple(self._steps)

    def close(self) -> None:
        """Lets other runs write to the store."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.release()

    def write(self, step: int, measurements: Sequence[Measurement]) -> None:
        """Stores what was measured at one step and commits it.

        Raises:
            ValueError: if the step lies before one that is committed and is not committed itself, or if `check` refuses
                a measurement; nothing is stored then.
            OSError: if the disk is full or cannot be written; the store is as it was before then.
        """
        if step not in self._steps and self._steps and step < self._steps[-1]:
            raise ValueError(f"Records are written in the order of steps; got step {step} after {self._steps[-1]}.")
        for measurement in measurements:
            self.check(measurement)
        before = list(self._steps)
        if step not in before:
            self._steps.append(step)
        try:
            with _quiet():
                for measurement in measurements:
                    self._put(self._steps.index(step), measurement)
                self._commit()
        except BaseException:
            self._steps = before
            self._root = _read_root(self._folder)
            with suppress(OSError):
                self._sweep()
            raise

    def check(self, measurement: Measurement) -> None:
        """Compares a measurement with the first of its name. It reads nothing, so another thread may write meanwhile.

        Raises:
            ValueError: if its axes are not those of an earlier step, or its name cannot be that of an array.
        """
        name = measurement.name
        if not name or "/" in name:
            raise ValueError(f"The name of a measurement is a word without '/'; got {name!r}.")
        axes = tuple((axis.name, _as_array(axis.labels)) for axis in measurement.axes)
        named = {"step", *(axis for declared in [axes, *self._declared.values()] for axis, _ in declared)}
        if name in named or any(name == f"{axis}_of_{measure}" for measure in self._declared for axis in named):
            raise ValueError(f"A measurement is not named like an axis; got {name!r}.")
        declared = self._declared.setdefault(name, axes)
        shape, before = ([len(labels) for _, labels in known] for known in (axes, declared))
        if shape != before:
            raise ValueError(
                f"A measurement has the same axes at every step; {name!r} was {tuple(before)}, is {tuple(shape)}."
            )
        for (axis, labels), (known, known_labels) in zip(axes, declared, strict=True):
            if axis != known or not np.array_equal(labels, known_labels):
                raise ValueError(f"An axis has the same labels at every step; those of {axis!r} of {name!r} changed.")

    def _read_steps(self) -> list[int]:
        count = self._committed()["step"]["shape"][0]
        try:
            with _quiet():
                array = zarr.open_array(self._folder.store(read_only=True), path="step", mode="r")
                steps = [int(step) for step in np.asarray(array[:])[:count]]
        except Exception as error:  # what a damaged store raises is not known
            raise _damaged(self._folder, error) from error
        if len(steps) < count or any(after <= before for before, after in pairwise(steps)):
            raise _damaged(self._folder, f"its steps are {steps}")
        return steps

    def _read_declared(self) -> dict[str, tuple[tuple[str, npt.NDArray[Any]], ...]]:
        declared: dict[str, tuple[tuple[str, npt.NDArray[Any]], ...]] = {}
        try:
            for name, metadata in self._committed().items():
                step, *axes = metadata["dimension_names"]
                if step == "step" and name != "step":
                    declared[name] = tuple((axis.removesuffix(f"_of_{name}"), self._labels(axis)) for axis in axes)
        except Exception as error:
            raise _damaged(self._folder, error) from error
        return declared

    def _put(self, row: int, measurement: Measurement) -> None:
        name, values = measurement.name, measurement.values
        shape = (len(self._steps), *values.shape)
        if name not in self._group:
            self._group.create_array(
                name,
                shape=shape,
                chunks=(1, *(max(1, size) for size in values.shape)),
                dtype=values.dtype,
                fill_value=np.nan,
                dimension_names=["step", *(self._axis(axis, name) for axis in measurement.axes)],
                attributes=_attributes(measurement),
            )
        array = self._array(name)
        array.resize(shape)
        array[row] = values

    def _axis(self, axis: Axis, measure: str) -> str:
        """Finds or stores an axis' labels; an axis with other labels than its namesake gets a longer name."""
        labels = _as_array(axis.labels)
        name = axis.name
        if name in self._group and not np.array_equal(self._labels(name), labels):
            name = f"{name}_of_{measure}"
        if name not in self._group:
            self._store(name, (name,), labels, {"units": axis.unit} if axis.unit else {})
        attributes = self._root["attributes"]
        for note, values in axis.notes.items():
            if f"{name}_{note}" not in self._group:
                self._store(f"{name}_{note}", (name,), _as_array(values), {})
                attributes["coordinates"] = f"{attributes['coordinates']} {name}_{note}".strip()
        return name

    def _labels(self, axis: str) -> npt.NDArray[Any]:
        if axis not in self._known_labels:
            self._known_labels[axis] = np.asarray(self._array(axis)[:])
        return self._known_labels[axis]

    def _store(
        self, name: str, dimensions: tuple[str, ...], values: npt.NDArray[Any], attributes: Mapping[str, str]
    ) -> None:
        array = self._group.create_array(
            name, data=values, dimension_names=dimensions, attributes=dict(attributes), chunks=(max(1, len(values)),)
        )
        assert array.shape == values.shape

    def _array(self, name: str) -> zarr.Array[Any]:
        array = self._group[name]
        assert isinstance(array, zarr.Array)
        return array

    def _commit(self) -> None:
        """Gives every array its length and puts that of all of them in force at once."""
        count = len(self._steps)
        for name, array in list(self._group.arrays()):
            if name != "step" and _dimensions(array)[0] == "step":
                array.resize((count, *array.shape[1:]))
        steps = self._array("step")
        steps.resize((count,))
        steps[count - 1] = self._steps[-1]
        names = sorted(name for name, _ in self._group.arrays())
        self._committed().clear()
        self._committed().update({name: json.loads(self._folder.read(f"{name}/{_METADATA}")) for name in names})
        self._folder.put(_METADATA, _encode(self._root))

    def _committed(self) -> dict[str, dict[str, Any]]:
        return self._root["consolidated_metadata"]["metadata"]

    def _sweep(self) -> None:
        """Removes what is there beyond what is committed."""
        self._known_labels.clear()
        folder, committed = self._folder, self._committed()
        for name in folder.names():
            if name != _METADATA and name not in committed:
                folder.remove(name)
        for name, metadata in committed.items():
            if _read_metadata(folder, name) != metadata:
                folder.put(f"{name}/{_METADATA}", _encode(metadata))
            count = metadata["shape"][0] if metadata["dimension_names"][0] == "step" else 1
            others = [other for other in folder.names(name) if other not in (_METADATA, "c")]
            chunks = [chunk for chunk in folder.names(f"{name}/c") if not chunk.isdigit() or int(chunk) >= count]
            for path in [*others, *(f"c/{chunk}" for chunk in chunks)]:
                folder.remove(f"{name}/{path}")


def check_store(path: str | Path, *, new: bool) -> None:
    """Looks whether a run could write its records, and writes nothing.

    Args:
        path: as for `ArraySink`.
        new: whether the run begins anew.

    Raises:
        ValueError: if another run writes there now, the store is damaged or not of this package, or a new run would
            meet records of an earlier one.
    """
    folder = Folder(path)
    if not folder.exists(_METADATA):
        return
    lock = _take(folder)
    try:
        if new:
            _check_empty(folder)
    finally:
        if lock is not None:
            lock.release()


def _take(folder: Folder) -> Lock | None:
    try:
        with _said(folder):
            return folder.lock()
    except BlockingIOError:
        raise ValueError(
            f"One run at a time writes to a store; another is writing {folder} now. Wait for it, or give this run "
            "another version or folder."
        ) from None


def _check_empty(folder: Folder) -> None:
    """Refuses to begin a new run where an earlier one has left records; step 0 alone is no loss."""
    count = _read_root(folder)["consolidated_metadata"]["metadata"]["step"]["shape"][0]
    if count > 1:
        raise ValueError(
            f"A new run begins in a folder without records; {folder} has {count} steps of an earlier run. Go on with "
            "that run from its checkpoint, give this one another version or folder, or move the records away."
        )


def _attributes(measurement: Measurement) -> dict[str, Any]:
    attributes = {
        "units": measurement.unit,
        "source": measurement.source,
        "long_name": measurement.about,
        "version": version(_PACKAGE),
    }
    return attributes | ({"probe": measurement.probe} if measurement.probe else {})


def _create(folder: Folder) -> None:
    """Makes a store with no steps in it; the group's metadata come last, so that it is there whole or not at all."""
    for name in folder.names():
        folder.remove(name)
    # Made in memory, as Zarr would put a group's metadata of its own beside the array at once.
    made: dict[str, Any] = {}
    with _quiet():
        zarr.create_array(
            made,
            name="step",
            shape=(0,),
            chunks=(1,),
            dtype=np.int64,
            dimension_names=("step",),
            attributes={"units": "optimizer steps"},
        )
    folder.put(f"step/{_METADATA}", made[f"step/{_METADATA}"].to_bytes())
    attributes = {"package": _PACKAGE, "version": version(_PACKAGE), "about": _ABOUT, "coordinates": ""}
    members = {"step": _read_metadata(folder, "step")}
    consolidated = {"kind": "inline", "must_understand": False, "metadata": members}
    root = {"zarr_format": 3, "node_type": "group", "attributes": attributes, "consolidated_metadata": consolidated}
    folder.put(_METADATA, _encode(root))


def _read_root(folder: Folder) -> dict[str, Any]:
    try:
        root = json.loads(folder.read(_METADATA))
    except ValueError as error:
        raise _damaged(folder, error) from error
    ours = isinstance(root, dict) and isinstance(root.get("attributes"), dict)
    if not ours or root["attributes"].get("package") != _PACKAGE or "consolidated_metadata" not in root:
        raise ValueError(
            f"Records lie in a store that {_PACKAGE} wrote; it did not write {folder}. Move that away, or name another."
        )
    return root


def _read_metadata(folder: Folder, name: str) -> dict[str, Any] | None:
    try:
        return json.loads(folder.read(f"{name}/{_METADATA}"))
    except (FileNotFoundError, ValueError):
        return None


def _encode(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=2).encode()


def _damaged(folder: Folder, why: object) -> ValueError:
    return ValueError(f"Records are read as they were written; those in {folder} are damaged: {why}. Move them away.")


def open_run(path: str | Path) -> xr.Dataset:
    """Opens a run's records, lazily; a run that is still being written shows the steps that are complete.

    Args:
        path: the run's folder, or the store in it; or an fsspec URL of one of them.

    Returns:
        One variable a measure with axes (step, ...), its unit in the attribute `units`, and what its probe was
        made with in `probe`.

    Raises:
        FileNotFoundError: if there are no records.
        ValueError: if they are damaged, or not of this package.
    """
    url = str(path).rstrip("/")
    folder = Folder(url if url.rsplit("/", 1)[-1] == STORE else f"{url}/{STORE}")
    if not folder.exists(_METADATA):
        raise FileNotFoundError(f"A run's folder holds {STORE}, which its probes write; there is none in {path}.")
    _read_root(folder)
    try:
        with _quiet():
            return xr.open_zarr(folder.store(read_only=True), zarr_format=3, consolidated=True)
    except Exception as error:  # what a damaged store raises is not known
        raise _damaged(folder, error) from error


@contextmanager
def _said(folder: Folder) -> Iterator[None]:
    """Says of a disk that fails which rule it breaks, and what to do."""
    try:
        yield
    except BlockingIOError:
        raise
    except OSError as error:
        raise OSError(
            error.errno,
            f"A run's records are written to {folder}, which cannot be written ({error.strerror or error}). "
            "Free space there, or give the run another folder.",
        ) from error


def _dimensions(array: zarr.Array[Any]) -> list[str | None]:
    return list(array.metadata.dimension_names or ())  # pyright: ignore[reportAttributeAccessIssue]


def _as_array(labels: Sequence[Label]) -> npt.NDArray[Any]:
    values = np.asarray(labels)
    return values.astype(np.dtypes.StringDType()) if values.dtype.kind == "U" else values


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # Arrays of strings are a Zarr v3 extension that zarr and xarray share, with a warning.
        warnings.filterwarnings("ignore", category=UserWarning, module="zarr")
        warnings.filterwarnings("ignore", category=FutureWarning, module="zarr")
        yield
