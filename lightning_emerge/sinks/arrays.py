"""The array store: every measurement of a run as labelled arrays in one Zarr v3 group."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

from lightning_emerge.records import Axis, Label, Measurement, Picture

STORE = "records.zarr"
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
        path: folder of the store; made if need be.
        step: where the run stands. Steps recorded beyond it, by a run that went on from here before, are dropped.

    Raises:
        ValueError: if there is a store that this class did not write.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        if not (path / _METADATA).is_file():
            _create(path)
        self._root = _read_root(path)
        with _quiet():
            steps = np.asarray(zarr.open_array(path / "step", mode="r")[:]).tolist()
        committed = [int(done) for done in steps[: self._committed()["step"]["shape"][0]]]
        self._steps = [done for done in committed if done <= step]
        self._known_labels: dict[str, npt.NDArray[Any]] = {}
        for metadata in self._committed().values():
            if metadata["dimension_names"][0] == "step":
                metadata["shape"][0] = len(self._steps)
        if len(self._steps) < len(committed):
            _replace(path / _METADATA, self._root)
        self._sweep()
        with _quiet():
            self._group = zarr.open_group(path, mode="r+", zarr_format=3, use_consolidated=False)

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps that are committed."""
        return tuple(self._steps)

    def write(
        self, step: int, measurements: Sequence[Measurement], pictures: Mapping[str, Picture] | None = None
    ) -> None:
        """Stores what was measured at one step and commits it. Pictures are drawn from measurements, so none is kept.

        Raises:
            ValueError: if the step lies before one that is committed and is not committed itself, or if `check` refuses
                a measurement; nothing is stored then.
        """
        if step not in self._steps and self._steps and step < self._steps[-1]:
            raise ValueError(f"Records are written in the order of steps; got step {step} after {self._steps[-1]}.")
        before = list(self._steps)
        if step not in before:
            self._steps.append(step)
        try:
            with _quiet():
                for measurement in measurements:
                    self.check(measurement)
                    self._put(self._steps.index(step), measurement)
                self._commit()
        except BaseException:
            self._steps = before
            self._root = _read_root(self.path)
            with suppress(OSError):
                self._sweep()
            raise

    def check(self, measurement: Measurement) -> None:
        """Compares a measurement with what is stored under its name.

        Raises:
            ValueError: if its axes are not those of an earlier step, or its name cannot be that of an array.
        """
        name = measurement.name
        if not name or "/" in name:
            raise ValueError(f"The name of a measurement is a word without '/'; got {name!r}.")
        if name not in self._group:
            return
        array = self._array(name)
        dimensions = _dimensions(array)
        if dimensions[0] != "step" or name == "step":
            raise ValueError(f"A measurement is not named like an axis; got {name!r}.")
        shape = measurement.values.shape
        if array.shape[1:] != shape:
            raise ValueError(
                f"A measurement has the same axes at every step; {name!r} was {array.shape[1:]}, is {shape}."
            )
        for axis, dimension in zip(measurement.axes, dimensions[1:], strict=True):
            known = dimension in (axis.name, f"{axis.name}_of_{name}")
            if not known or not np.array_equal(self._labels(str(dimension)), _as_array(axis.labels)):
                raise ValueError(
                    f"An axis has the same labels at every step; those of {axis.name!r} of {name!r} changed."
                )

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
                attributes={"units": measurement.unit, "source": measurement.source, "long_name": measurement.about},
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
        self._committed().update({name: json.loads((self.path / name / _METADATA).read_text()) for name in names})
        _replace(self.path / _METADATA, self._root)

    def _committed(self) -> dict[str, dict[str, Any]]:
        return self._root["consolidated_metadata"]["metadata"]

    def _sweep(self) -> None:
        """Removes what is there beyond what is committed."""
        self._known_labels.clear()
        committed = self._committed()
        for folder in [child for child in self.path.iterdir() if child.is_dir() and child.name not in committed]:
            shutil.rmtree(folder)
        for name, metadata in committed.items():
            own = self.path / name / _METADATA
            if json.loads(own.read_text()) != metadata:
                _replace(own, metadata)
            if metadata["dimension_names"][0] == "step":
                for chunk in (self.path / name / "c").glob("*"):
                    if not chunk.name.isdigit() or int(chunk.name) >= metadata["shape"][0]:
                        shutil.rmtree(chunk) if chunk.is_dir() else chunk.unlink()


def _create(path: Path) -> None:
    """Makes a store with no steps in it, all at once."""
    new = path.with_name(f".{path.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    with _quiet():
        group = zarr.open_group(new, mode="w", zarr_format=3)
        group.create_array(
            "step",
            shape=(0,),
            chunks=(1,),
            dtype=np.int64,
            dimension_names=("step",),
            attributes={"units": "optimizer steps"},
        )
    attributes = {"package": _PACKAGE, "version": version(_PACKAGE), "about": _ABOUT, "coordinates": ""}
    members = {"step": json.loads((new / "step" / _METADATA).read_text())}
    consolidated = {"kind": "inline", "must_understand": False, "metadata": members}
    root = {"zarr_format": 3, "node_type": "group", "attributes": attributes, "consolidated_metadata": consolidated}
    _replace(new / _METADATA, root)
    new.rename(path)


def _read_root(path: Path) -> dict[str, Any]:
    root = json.loads((path / _METADATA).read_text())
    if root.get("attributes", {}).get("package") != _PACKAGE or "consolidated_metadata" not in root:
        raise ValueError(f"{path} is a store that {_PACKAGE} did not write; move it away.")
    return root


def _replace(path: Path, content: Mapping[str, Any]) -> None:
    """Writes JSON so that a reader finds either the old file or the new one."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(json.dumps(content, indent=2))
    new.replace(path)


def open_run(path: str | Path) -> xr.Dataset:
    """Opens a run's records, lazily; a run that is still being written shows the steps that are complete.

    Args:
        path: the run's folder, or the store in it.

    Returns:
        One variable a measure with axes (step, ...), its unit in the attribute `units`.

    Raises:
        FileNotFoundError: if there are no records.
    """
    path = Path(path)
    store = path if path.name == STORE else path / STORE
    if not (store / _METADATA).is_file():
        raise FileNotFoundError(f"A run's folder holds {STORE}, which its probes write; there is none in {path}.")
    return xr.open_zarr(store)


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
