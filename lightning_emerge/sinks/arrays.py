"""The array store: every measurement of a run as labelled arrays in one Zarr v3 group."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import zarr
from numcodecs.zstd import Zstd  # pyright: ignore[reportMissingTypeStubs]
from zarr.codecs import ZstdCodec

from lightning_emerge.records import Axis, Label, Measurement
from lightning_emerge.sinks.layout import STORE
from lightning_emerge.sinks.regular import parse_json
from lightning_emerge.sinks.storage import Folder, Lock

if TYPE_CHECKING:
    import xarray as xr

_METADATA = "zarr.json"
_PACKAGE = "lightning_emerge"
_KEYS: Any = {
    "name": "default",
    "separator": ".",
}  # making a folder for each axis takes longer than packing the numbers
_ZSTD = ZstdCodec(level=1)  # Zarr's own choice, level 3, packs a look by 4% more in three times the time
_LATE = 8  # steps that readers without the group's metadata may be behind
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
            self._release()
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
        for metadata in self._arrays.values():
            if _is_stepped(metadata):
                metadata["shape"][0] = len(self._steps)
        with _said(folder):
            if len(self._steps) < len(committed):
                folder.put(_METADATA, _encode(self._root))
            self._sweep()
        self._declared = self._read_declared()

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps that are committed."""
        return tuple(self._steps)

    def close(self) -> None:
        """Lets other runs write to the store."""
        try:
            if self._shown < len(self._steps):
                self._show()
        finally:
            self._release()

    def _release(self) -> None:
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
        axes = tuple((axis.name, list(axis.labels)) for axis in measurement.axes)
        named = {"step", *(axis for declared in [axes, *self._declared.values()] for axis, _ in declared)}
        longer = (f"{axis}_of_{measure}" for measure in self._declared for axis in named)
        if name in named or ("_of_" in name and name in longer):
            raise ValueError(f"A measurement is not named like an axis; got {name!r}.")
        declared = self._declared.setdefault(name, axes)
        shape, before = ([len(labels) for _, labels in known] for known in (axes, declared))
        if shape != before:
            raise ValueError(
                f"A measurement has the same axes at every step; {name!r} was {tuple(before)}, is {tuple(shape)}."
            )
        for (axis, labels), (known, known_labels) in zip(axes, declared, strict=True):
            if axis != known or not _are_same(labels, known_labels):
                raise ValueError(f"An axis has the same labels at every step; those of {axis!r} of {name!r} changed.")

    def _read_steps(self) -> list[int]:
        count = self._arrays["step"]["shape"][0]
        try:
            for name, metadata in self._arrays.items():
                _check_codecs(name, metadata)
            steps = [int(step) for step in _read_array(self._folder, "step")]
        except Exception as error:  # what a damaged store raises is not known
            raise _damaged(self._folder, error) from error
        if len(steps) != count or any(after <= before for before, after in pairwise(steps)):
            raise _damaged(self._folder, f"its steps are {steps}")
        return steps

    def _read_declared(self) -> dict[str, tuple[tuple[str, list[Label]], ...]]:
        declared: dict[str, tuple[tuple[str, list[Label]], ...]] = {}
        try:
            for name, metadata in self._arrays.items():
                step, *axes = metadata["dimension_names"]
                if step == "step" and name != "step":
                    declared[name] = tuple(
                        (axis.removesuffix(f"_of_{name}"), self._labels(axis).tolist()) for axis in axes
                    )
        except Exception as error:
            raise _damaged(self._folder, error) from error
        return declared

    def _put(self, row: int, measurement: Measurement) -> None:
        name, values = measurement.name, measurement.values
        if name not in self._arrays:
            self._add(
                name,
                ["step", *(self._axis(axis, name) for axis in measurement.axes)],
                _attributes(measurement),
                shape=(self._shown, *values.shape),
                chunks=(1, *(max(1, size) for size in values.shape)),
                dtype=values.dtype,
                fill_value=np.nan,
            )
        path = f"{name}/{_chunk(self._arrays[name], row)}"
        if not _is_nan(values):
            self._folder.put(path, _encode_chunk(self._arrays[name], values))
        elif self._folder.exists(path):  # Zarr, too, writes no chunk of nothing but the fill value
            self._folder.remove(path)

    def _add(self, name: str, axes: Sequence[str], attributes: Mapping[str, str], **settings: Any) -> None:
        """Makes an array; the next commit makes it one of the store."""
        files = _declare(name, axes, attributes, **settings)
        for path, content in sorted(files.items()):  # its metadata come last
            self._folder.put(path, content)
        self._arrays[name] = json.loads(files[f"{name}/{_METADATA}"])

    def _axis(self, axis: Axis, measure: str) -> str:
        """Finds or stores an axis' labels; an axis with other labels than its namesake gets a longer name."""
        labels = _as_array(axis.labels)
        name = axis.name
        if name in self._arrays and not np.array_equal(self._labels(name), labels):
            name = f"{name}_of_{measure}"
        if name not in self._arrays:
            self._store(name, name, labels, {"units": axis.unit} if axis.unit else {})
        attributes = self._root["attributes"]
        for note, values in axis.notes.items():
            if f"{name}_{note}" not in self._arrays:
                self._store(f"{name}_{note}", name, _as_array(values), {})
                attributes["coordinates"] = f"{attributes['coordinates']} {name}_{note}".strip()
        return name

    def _labels(self, axis: str) -> npt.NDArray[Any]:
        if axis not in self._known_labels:
            self._known_labels[axis] = _read_array(self._folder, axis)
        return self._known_labels[axis]

    def _store(self, name: str, axis: str, labels: npt.NDArray[Any], attributes: Mapping[str, str]) -> None:
        self._add(name, [axis], attributes, data=labels, chunks=(max(1, len(labels)),))
        self._known_labels[name] = labels

    def _commit(self) -> None:
        """Gives every array its length and puts that of all of them in force at once."""
        count, arrays = len(self._steps), dict(sorted(self._arrays.items()))
        steps = arrays["step"]
        self._folder.put(f"step/{_chunk(steps, count - 1)}", _encode_chunk(steps, np.asarray(self._steps[-1])))
        for metadata in arrays.values():
            if _is_stepped(metadata):
                metadata["shape"][0] = count
        self._root["consolidated_metadata"]["metadata"] = arrays
        if not self._shown or count >= self._shown + _LATE:
            self._show()
        self._folder.put(_METADATA, _encode(self._root))

    def _show(self) -> None:
        """Writes every array's length beside it, for readers that do not know the group's copy of the metadata.

        These see steps later than others do, as replacing so many files at each step would cost more than all else.
        """
        for name, metadata in self._arrays.items():
            if _is_stepped(metadata):
                self._folder.put(f"{name}/{_METADATA}", _encode(metadata))
        self._shown = len(self._steps)

    @property
    def _arrays(self) -> dict[str, dict[str, Any]]:
        """Metadata of every array as they are committed, or in `write` as they are going to be."""
        return self._root["consolidated_metadata"]["metadata"]

    def _sweep(self) -> None:
        """Removes what is there beyond what is committed."""
        self._known_labels.clear()
        folder, committed = self._folder, self._arrays
        for name in folder.names():
            if name != _METADATA and name not in committed:
                folder.remove(name)
        for name, metadata in committed.items():
            if _read_metadata(folder, name) != metadata:
                folder.put(f"{name}/{_METADATA}", _encode(metadata))
            rows = range(metadata["shape"][0] if _is_stepped(metadata) else 1)
            # In stores of version 0.1.0 a chunk lies in folders of its own, as c/7/0/0.
            kept = {_METADATA, "c", *("/".join(_chunk(metadata, row).split("/")[:2]) for row in rows)}
            found = folder.names(name)
            for path in [*found, *(f"c/{row}" for row in folder.names(f"{name}/c") if "c" in found)]:
                if path not in kept:
                    folder.remove(f"{name}/{path}")
        self._shown = len(self._steps)


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
    for path, content in _declare(
        "step", ["step"], {"units": "optimizer steps"}, shape=(0,), chunks=(1,), dtype=np.int64
    ).items():
        folder.put(path, content)
    attributes = {"package": _PACKAGE, "version": version(_PACKAGE), "about": _ABOUT, "coordinates": ""}
    members = {"step": _read_metadata(folder, "step")}
    consolidated = {"kind": "inline", "must_understand": False, "metadata": members}
    root = {"zarr_format": 3, "node_type": "group", "attributes": attributes, "consolidated_metadata": consolidated}
    folder.put(_METADATA, _encode(root))


def _declare(name: str, axes: Sequence[str], attributes: Mapping[str, str], **settings: Any) -> dict[str, bytes]:
    """Has Zarr declare an array; gives the files by their paths in the store.

    It does so in memory: in the store it would put the group's metadata, too, and write each file by a detour.
    """
    made: dict[str, Any] = {}
    with _quiet():
        zarr.create_array(
            made,
            name=name,
            compressors=_ZSTD,
            chunk_key_encoding=_KEYS,
            dimension_names=axes,
            attributes=dict(attributes),
            **settings,
        )
    return {path: content.to_bytes() for path, content in made.items() if path.startswith(f"{name}/")}


def _is_stepped(array: Mapping[str, Any]) -> bool:
    return array["dimension_names"][0] == "step"


def _chunk(array: Mapping[str, Any], row: int) -> str:
    """Path of a chunk in its array's folder."""
    separator = array["chunk_key_encoding"]["configuration"]["separator"]
    return separator.join(["c", str(row), *("0" for _ in array["shape"][1:])])


def _encode_chunk(array: Mapping[str, Any], values: npt.NDArray[Any]) -> bytes:
    """Encodes a chunk as Zarr does by an array's metadata, at a twentieth of the time."""
    encoded: Any = np.ascontiguousarray(values, np.dtype(array["data_type"]).newbyteorder("<"))
    for codec in array["codecs"]:
        if codec["name"] == "zstd":
            encoded = Zstd(**codec["configuration"]).encode(encoded)
    return bytes(encoded)


def _check_codecs(name: str, array: Mapping[str, Any]) -> None:
    codecs = {codec["name"] for codec in array["codecs"]}
    if not codecs <= {"bytes", "vlen-utf8", "zstd"}:
        raise ValueError(f"{name} is stored as {sorted(codecs)}")


def _read_array(folder: Folder, name: str) -> npt.NDArray[Any]:
    with _quiet():
        group = zarr.open_group(folder.store(read_only=True), mode="r", use_consolidated=True)
        array: Any = group[name]
        return np.asarray(array[:])


def _read_root(folder: Folder) -> dict[str, Any]:
    try:
        root = parse_json(folder.read(_METADATA))
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
    return json.dumps(content).encode()


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
    import xarray as xr  # a quarter of a second that a fit does not need before its first batch

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


def _is_nan(values: npt.NDArray[Any]) -> bool:
    """Whether there is nothing but NaN, which the first value tells in most cases."""
    return bool(np.isnan(values.flat[:1]).all() and np.isnan(values).all())


def _are_same(labels: list[Label], others: list[Label]) -> bool:
    return labels == others or np.array_equal(_as_array(labels), _as_array(others))  # 1 and "1" are, beside words


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
