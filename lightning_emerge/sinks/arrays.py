"""The array store: every measurement of a run as labelled arrays in one Zarr v3 group."""

from __future__ import annotations

import errno
import json
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import zarr
from numcodecs.zstd import Zstd  # pyright: ignore[reportMissingTypeStubs]
from zarr.codecs import ZstdCodec

from lightning_emerge.records import Axis, Measurement
from lightning_emerge.sinks.checks import Axes, Known, as_array
from lightning_emerge.sinks.format import CHECK, METADATA, TAKEN, Ranges, add_row, before, is_whole, rows_of, seal
from lightning_emerge.sinks.layout import STORE
from lightning_emerge.sinks.regular import parse_json
from lightning_emerge.sinks.storage import Folder, Lock
from lightning_emerge.sinks.whole import WholeStore

if TYPE_CHECKING:
    import xarray as xr

_PACKAGE = "lightning_emerge"
_KEYS: Any = {
    "name": "default",
    "separator": ".",
}  # making a folder for each axis takes longer than packing the numbers
# Zarr's own choice, level 3, packs a look by 4% more in three times the time; a checksum is 4 bytes a chunk.
_ZSTD = ZstdCodec(level=1, checksum=True)
_MOST_ARRAYS, _MOST_VALUES = 2000, 1 << 28  # of a store that is read
_LATE = 8  # steps that readers without the group's metadata may be behind
_ABOUT = (
    "Measurements of one training run. Every array has `step` (optimizer steps taken) as its first axis and one chunk "
    "a step; NaN fills the steps at which a measure was not taken. `taken` says at which rows each was taken."
)
_OURS = re.compile(
    r"zarr\.json|c(\.\d+)*|c(/\d+)+|"  # metadata and chunks, those of version 0.1.0 in folders of their own
    r"(c/(\d+/)*)?\.(zarr\.json|c[.\d]*|\d+)\.([0-9a-f]+\.)?new|"  # what a killed run left half written
    r"(c/(\d+/)*)?(zarr|c[.\d]*|\d+)\.\w+\.partial"
)
"""Paths in an array's folder that a run may have left, so that a later one may remove them."""


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
        self._lock = _take(self._folder)
        try:
            self._open(step)
        except BaseException:
            self._release()
            raise

    def _open(self, step: int | None) -> None:
        folder = self._folder
        _check_ours(folder)
        if not folder.exists(METADATA):
            with _said(folder):
                _create(folder)
        elif step is None:
            _check_empty(folder)
            with _said(folder):
                _create(folder)
        self._root = _read_root(folder)
        committed = self._read_steps()
        self._steps = committed if step is None else [done for done in committed if done <= step]
        self._known_labels: dict[str, npt.NDArray[Any]] = {}
        with _said(folder):
            if len(self._steps) < len(committed):
                self._forget_later()
                folder.put(METADATA, seal(self._root))
            self._sweep()
        self._left = folder.read(METADATA)
        declared = self._read_declared()
        self._known = Known(declared, (name for name in self._arrays if name not in declared))

    def _forget_later(self) -> None:
        for metadata in self._arrays.values():
            if _is_stepped(metadata):
                metadata["shape"][0] = len(self._steps)
        for ranges in (self._taken or {}).values():
            ranges[:] = before(ranges, len(self._steps))

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
            self._root = _read_root(self._folder)
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
                _check_codecs(name, metadata)
            steps = [int(step) for step in _read_array(self._folder, "step")]
        except Exception as error:  # what a damaged store raises is not known
            raise _damaged(self._folder, error) from None
        if len(steps) != count or any(after <= before for before, after in pairwise(steps)):
            raise _damaged(self._folder, f"its steps are {steps}")
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
            raise _damaged(self._folder, error) from None
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
            self._folder.put(path, content, make=_needs_folder(path, before))
        return refused

    def _encode(self, row: int, measurement: Measurement) -> dict[str, bytes]:
        """The files of one measurement by their paths, with those of arrays that are new."""
        name, values, files = measurement.name, measurement.values, dict[str, bytes]()
        if name not in self._arrays:
            files |= self._add(
                name,
                ["step", *(self._axis(axis, name, files) for axis in measurement.axes)],
                _attributes(measurement),
                shape=(self._shown, *values.shape),
                chunks=(1, *(max(1, size) for size in values.shape)),
                dtype=values.dtype,
                fill_value=np.nan,
            )
        if values.size:
            files[f"{name}/{_chunk(self._arrays[name], row)}"] = _encode_chunk(self._arrays[name], values)
        if self._taken is not None:
            add_row(self._taken.setdefault(name, []), row)
        return files

    def _add(self, name: str, axes: Sequence[str], attributes: Mapping[str, Any], **settings: Any) -> dict[str, bytes]:
        """Makes an array, and gives its files, its metadata last; the next commit makes it one of the store."""
        if _is_others(self._folder, name):
            raise ValueError(
                f"Records have their folders for themselves; in {self._folder} somebody else has put {name!r}. "
                "Move that away, or rename the measurement."
            )
        files = _declare(name, axes, attributes, **settings)
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
            self._known_labels[axis] = _read_array(self._folder, axis)
        return self._known_labels[axis]

    def _store(self, name: str, axis: str, labels: npt.NDArray[Any], attributes: Mapping[str, str]) -> dict[str, bytes]:
        own = {**attributes, "version": version(_PACKAGE)}
        files = self._add(name, [axis], own, data=labels, chunks=(max(1, len(labels)),))
        self._known_labels[name] = labels
        return files

    def _commit(self) -> None:
        """Gives every array its length and puts that of all of them in force at once."""
        count, arrays = len(self._steps), dict(sorted(self._arrays.items()))
        steps = arrays["step"]
        path = f"step/{_chunk(steps, count - 1)}"
        content = _encode_chunk(steps, np.asarray(self._steps[-1]))
        self._folder.put(path, content, make=_needs_folder(path, {"step"}))
        for metadata in arrays.values():
            if _is_stepped(metadata):
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
            if _is_stepped(metadata):
                self._folder.put(f"{name}/{METADATA}", _encode(metadata), make=False)
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
        if not _is_stepped(array):
            return {0}
        known = name != "step" and self._taken is not None
        return rows_of(self._taken.get(name, [])) if known and self._taken else set(range(len(self._steps)))

    def _sweep(self, *, make: bool = True) -> None:
        """Removes what a run has left there beyond what is committed, and nothing that no run writes."""
        self._known_labels.clear()
        folder, committed = self._folder, self._arrays
        for name in folder.names():
            if name not in committed and not _is_others(folder, name):
                _clear(folder, name, set())
        for name, metadata in committed.items():
            if _read_metadata(folder, name) != metadata:
                folder.put(f"{name}/{METADATA}", _encode(metadata), make=make)
            _clear(folder, name, {METADATA, *(_chunk(metadata, row) for row in self._rows(name, metadata))})
        self._shown = len(self._steps)


def check_store(path: str | Path, *, new: bool) -> None:
    """Looks whether a run could write its records, and writes nothing.

    Args:
        path: as for `ArraySink`.
        new: whether the run begins anew.

    Raises:
        ValueError: if another run writes there now, the store is damaged or not of this package, a link or files of
            others lie where it would be, or a new run would meet records of an earlier one.
    """
    folder = Folder(path)
    _check_ours(folder)
    if not folder.exists(METADATA):
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
    if count > 1 or (count and _read_array(folder, "step")[0] > 0):
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
        "scale": measurement.scale,
    }
    low, high = measurement.range
    more = {"valid_min": low, "valid_max": high, "distance": measurement.distance, "probe": measurement.probe}
    return attributes | {key: value for key, value in more.items() if value not in (None, "")}


def _check_ours(folder: Folder) -> None:
    """Refuses a folder that is not ours to write to: a link, one with links in it, or neither empty nor a store."""
    names = folder.names()
    for link in [name for name in ("", *names) if folder.is_link(name)]:
        raise ValueError(
            f"A run's records lie in a folder of their own, without links; {folder}{'/' if link else ''}{link} is a "
            "link, and was left as it is. Move it away, or give the run another folder."
        )
    if METADATA not in names and not all(_OURS.fullmatch(name) for name in names):
        raise ValueError(
            f"A run's records begin in an empty folder; {folder} has {METADATA} no more, or never had, and holds "
            f"{len(names)} other files or folders, which were left as they are. Move them away, or give the run "
            "another folder."
        )


def _create(folder: Folder) -> None:
    """Makes a store with no steps in it, whole as soon as its only file is there; what it needs else is swept in."""
    files = _declare("step", ["step"], {"units": "optimizer steps"}, shape=(0,), chunks=(1,), dtype=np.int64)
    about = {"package": _PACKAGE, "version": version(_PACKAGE), "about": _ABOUT, "coordinates": "", TAKEN: {}}
    members = {"step": json.loads(files[f"step/{METADATA}"])}
    consolidated = {"kind": "inline", "must_understand": False, "metadata": members}
    folder.put(METADATA, seal({"attributes": about, "consolidated_metadata": consolidated}))


def _is_others(folder: Folder, name: str) -> bool:
    """Whether somebody else has put what lies in a store under a name."""
    if not folder.exists(f"{name}/{METADATA}"):
        return folder.is_link(name)
    try:
        found = json.loads(folder.read(f"{name}/{METADATA}"))
        return "version" not in found["attributes"] and found["attributes"].get("units") != "optimizer steps"
    except (OSError, ValueError, KeyError, TypeError):  # a torn one, of a run that was killed
        return False


def _clear(folder: Folder, name: str, kept: set[str]) -> None:
    """Removes an array's files but for some, and its folder if it is empty then."""
    if name == METADATA or _OURS.fullmatch(name):
        if name != METADATA and folder.exists(name):
            folder.remove(name)
        return
    for path in folder.files(name):
        if path not in kept and _OURS.fullmatch(path):
            folder.remove(f"{name}/{path}")
    folder.prune(name)


def _declare(name: str, axes: Sequence[str], attributes: Mapping[str, Any], **settings: Any) -> dict[str, bytes]:
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
            config={"write_empty_chunks": True},  # a chunk that is not there is a loss
            **settings,
        )
    return {path: content.to_bytes() for path, content in made.items() if path.startswith(f"{name}/")}


def _is_stepped(array: Mapping[str, Any]) -> bool:
    return array["dimension_names"][0] == "step"


def _chunk(array: Mapping[str, Any], row: int) -> str:
    """Path of a chunk in its array's folder."""
    separator = array["chunk_key_encoding"]["configuration"]["separator"]
    return separator.join(["c", str(row), *("0" for _ in array["shape"][1:])])


def _needs_folder(path: str, arrays: set[str]) -> bool:
    """Whether a folder may have to be made for a file: that of a new array, or of a chunk of version 0.1.0."""
    return path.split("/", 1)[0] not in arrays or path.count("/") > 1


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
        store = WholeStore(folder.store(read_only=True), folder.read(METADATA))
        array: Any = zarr.open_group(store, mode="r", use_consolidated=True)[name]
        return np.asarray(array[:])


def _read_root(folder: Folder) -> dict[str, Any]:
    return _read_whole(folder)[1]


def _read_whole(folder: Folder) -> tuple[bytes, dict[str, Any]]:
    """Reads the group's metadata, as they are on disk and decoded; refuses those that were changed since."""
    raw = folder.read(METADATA)
    try:
        root = parse_json(raw)
    except ValueError as error:
        raise _damaged(folder, error) from None  # it says all
    ours = isinstance(root, dict) and isinstance(root.get("attributes"), dict)
    if not ours or root["attributes"].get("package") != _PACKAGE or "consolidated_metadata" not in root:
        raise ValueError(
            f"Records lie in a store that {_PACKAGE} wrote; it did not write {folder}. Move that away, or name another."
        )
    if not is_whole(raw, root):
        raise _damaged(folder, f"{METADATA} was changed since")
    return raw, root


def _read_metadata(folder: Folder, name: str) -> dict[str, Any] | None:
    try:
        return json.loads(folder.read(f"{name}/{METADATA}"))
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
    if not folder.exists(METADATA):
        raise FileNotFoundError(f"A run's folder holds {STORE}, which its probes write; there is none in {path}.")
    raw, root = _read_whole(folder)
    _check_claims(folder, root)
    try:
        with _quiet():
            store = WholeStore(folder.store(read_only=True), raw)  # what was checked, if a run goes on meanwhile
            records = xr.open_zarr(store, zarr_format=3, consolidated=True)
    except Exception as error:  # what a damaged store raises is not known
        raise _damaged(folder, error) from None  # it says all
    steps = records.step.values if "step" in records.coords else np.empty(0)
    if not (np.diff(steps) > 0).all():
        raise _damaged(folder, f"its steps are {steps.tolist()}")
    for key in (TAKEN, CHECK):
        records.attrs.pop(key, None)
    return records


def _check_claims(folder: Folder, root: Mapping[str, Any]) -> None:
    """Compares what a store, which may be a stranger's, says of its size with what is there: room is made for it."""
    try:
        found = root["consolidated_metadata"]["metadata"]
        if len(found) > _MOST_ARRAYS:
            raise ValueError(f"they have {len(found)} arrays, of {_MOST_ARRAYS} at most")
        for name, array in found.items():
            values = prod(array["shape"][1:] if _is_stepped(array) else array["shape"])
            if values > _MOST_VALUES:
                raise ValueError(f"{name} says that it has {values} values at once, of {_MOST_VALUES} at most")
        if folder.local:
            _check_steps(folder, found["step"])
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise _damaged(folder, error) from None


def _check_steps(folder: Folder, steps: Mapping[str, Any]) -> None:
    # In stores of version 0.1.0 chunks lie in a folder of their own.
    there = {*folder.names("step"), *(f"c/{name}" for name in folder.names("step/c"))}
    for row in range(steps["shape"][0]):
        if _chunk(steps, row) not in there:
            raise ValueError(f"step/{_chunk(steps, row)} is missing")


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


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # Arrays of strings are a Zarr v3 extension that zarr and xarray share, with a warning.
        warnings.filterwarnings("ignore", category=UserWarning, module="zarr")
        warnings.filterwarnings("ignore", category=FutureWarning, module="zarr")
        yield
