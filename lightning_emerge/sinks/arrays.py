"""The array store: every measurement of a run as labelled arrays in one Zarr v3 group."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr
import zarr

from lightning_emerge.records import Axis, Label, Measurement, Picture

STORE = "records.zarr"
_PACKAGE = "lightning_emerge"
_ABOUT = (
    "Measurements of one training run. Every array has `step` (optimizer steps taken) as its first axis and one chunk "
    "a step; NaN fills the steps at which a measure was not taken."
)


class ArraySink:
    """Writes measurements to a Zarr v3 group that `xarray.open_zarr` reads, also while the run goes on.

    One step is committed at a time, in one atomic write: the group's consolidated metadata, which says how many steps
    there are. Whatever a killed run left beyond them is not a record, and is written over when the run is resumed.

    Args:
        path: folder of the store; made if need be.
        step: where the run stands. Steps recorded beyond it, by a run that went on from here before, are dropped.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        with _quiet():
            self._group = zarr.open_group(path, mode="a", zarr_format=3, use_consolidated=False)
        committed = _committed_steps(path)
        self._steps = [done for done in committed if done <= step]
        if not self._group.attrs:
            self._group.attrs.update({"package": _PACKAGE, "version": version(_PACKAGE), "about": _ABOUT})
        if len(self._steps) < len(committed):
            self._commit()

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps that are committed."""
        return tuple(self._steps)

    def write(
        self, step: int, measurements: Sequence[Measurement], pictures: Mapping[str, Picture] | None = None
    ) -> None:
        """Stores what was measured at one step and commits it. Pictures are drawn from measurements, so none is kept.

        Raises:
            ValueError: if the step lies before one that is committed and is not committed itself, or if a measurement
                has other axes than at an earlier step.
        """
        if step not in self._steps:
            if self._steps and step < self._steps[-1]:
                raise ValueError(f"Records are written in the order of steps; got step {step} after {self._steps[-1]}.")
            self._steps.append(step)
        row = self._steps.index(step)
        with _quiet():
            for measurement in measurements:
                self._put(row, measurement)
        self._commit()

    def _put(self, row: int, measurement: Measurement) -> None:
        name = measurement.name
        dimensions = ["step", *(self._axis(axis, name) for axis in measurement.axes)]
        shape = (len(self._steps), *measurement.values.shape)
        if name not in self._group:
            self._group.create_array(
                name,
                shape=shape,
                chunks=(1, *(max(1, size) for size in measurement.values.shape)),
                dtype=measurement.values.dtype,
                fill_value=np.nan,
                dimension_names=dimensions,
                attributes={"units": measurement.unit, "source": measurement.source, "long_name": measurement.about},
            )
        array = self._array(name)
        if _dimensions(array) != dimensions or array.shape[1:] != shape[1:]:
            raise ValueError(
                f"A measurement has the same axes at every step; {name!r} was {array.shape[1:]}, is {shape[1:]} now."
            )
        array.resize(shape)
        array[row] = measurement.values

    def _axis(self, axis: Axis, measure: str) -> str:
        """Finds or stores an axis' labels; an axis with other labels than its namesake gets a longer name."""
        labels = _as_array(axis.labels)
        for name in (axis.name, f"{axis.name}_of_{measure}"):
            if name not in self._group:
                self._store(name, (name,), labels, {"units": axis.unit} if axis.unit else {})
                for note, values in axis.notes.items():
                    self._store(f"{name}_{note}", (name,), _as_array(values), {})
                    self._group.attrs["coordinates"] = " ".join(
                        [*str(self._group.attrs.get("coordinates", "")).split(), f"{name}_{note}"]
                    )
            if np.array_equal(self._array(name)[:], labels):
                return name
        raise ValueError(f"The labels of an axis are the same at every step; {axis.name!r} of {measure!r} changed.")

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
        with _quiet():
            for name, array in list(self._group.arrays()):
                if name != "step" and _dimensions(array)[0] == "step":
                    array.resize((count, *array.shape[1:]))
            if "step" not in self._group:
                self._group.create_array(
                    "step",
                    shape=(count,),
                    chunks=(1,),
                    dtype=np.int64,
                    dimension_names=("step",),
                    attributes={"units": "optimizer steps"},
                )
            steps = self._array("step")
            steps.resize((count,))
            if count:
                steps[count - 1] = self._steps[-1]
            zarr.consolidate_metadata(self._group.store)


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
    if not (store / "zarr.json").is_file():
        raise FileNotFoundError(f"A run's folder holds {STORE}, which its probes write; there is none in {path}.")
    return xr.open_zarr(store)


def _committed_steps(path: Path) -> list[int]:
    with _quiet():
        try:
            group = zarr.open_group(path, mode="r", use_consolidated=True)
        except ValueError:
            return []
        steps = group["step"]
    assert isinstance(steps, zarr.Array)
    return [int(step) for step in np.asarray(steps[:])]


def _dimensions(array: zarr.Array[Any]) -> list[str | None]:
    return list(array.metadata.dimension_names or ())  # pyright: ignore[reportAttributeAccessIssue]


def _as_array(labels: Sequence[Label]) -> npt.NDArray[Any]:
    values = np.asarray(labels)
    return values.astype(np.dtypes.StringDType()) if values.dtype.kind == "U" else values


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # Consolidated metadata and string arrays are Zarr v3 extensions that zarr and xarray share, with a warning.
        warnings.filterwarnings("ignore", category=UserWarning, module="zarr")
        warnings.filterwarnings("ignore", category=FutureWarning, module="zarr")
        yield
