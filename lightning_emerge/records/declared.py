"""The declaration of what a probe records, from which the store, the tab, the report, docs and tests take it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch

from lightning_emerge.records.measurement import Axis, Distance, FloatArray, Measurement, Range, Scale
from lightning_emerge.records.names import check_name, is_text, nearest
from lightning_emerge.records.tensors import to_array


@dataclass(frozen=True)
class Record:
    """What a probe says of one of its records before it measures anything.

    ```
    DEPTH = Record("depth", ("layer", "filter"), "metre", range=(0, None), about="How deep a filter lies")
    DEPTH.of(values, Axis("layer", capture.layers), Axis("filter", range(8)))
    ```

    Attributes:
        name: of the record, a word without "/", unique among the probes of a run.
        axes: names of the axes after `step`, in the order of the array's dimensions.
        unit: of the values; "1" for a pure number.
        range: (low, high) that no value leaves; None for an open end.
        scale: how the values are shown: "linear"; "log", of sizes that differ by factors; or "diverging", of either
            side of zero.
        about: one sentence that a reader of the record can understand without this package.
        distance: of a matrix, whether its values say how far apart a row and a column lie, as a "length" or as the
            "square" of one, or neither: "".

    Raises:
        ValueError: if a name is none that can be stored, an axis has its name twice, the range is empty or the scale
            is unknown.
    """

    name: str
    axes: tuple[str, ...] = ()
    unit: str = "1"
    range: Range = (None, None)
    scale: Scale = "linear"
    about: str = ""
    distance: Distance = ""

    def __post_init__(self) -> None:
        if isinstance(self.axes, str):
            raise ValueError(f"Axes of a record are a tuple of names; {self.name!r} has {self.axes!r}. Add a comma.")
        object.__setattr__(self, "axes", tuple(self.axes))
        for name in (self.name, *self.axes):
            check_name(self.name, name)
        if len({*self.axes, self.name}) <= len(self.axes):
            raise ValueError(f"A record and its axes have different names; {self.name!r} has {_listed(self.axes)}.")
        if not is_text(self.unit) or not is_text(self.about):
            raise ValueError(f"The unit of a record, and what is said about it, are text; see that of {self.name!r}.")
        object.__setattr__(self, "range", _checked_range(self.name, self.range))
        for what, value, known in (
            ("scale", self.scale, get_args(Scale)),
            ("distance", self.distance, get_args(Distance)),
        ):
            if value not in known:
                some = ", ".join(repr(one) for one in known)
                raise ValueError(
                    f"The {what} of a record is one of {some}; {self.name!r} has {value!r}.{nearest(str(value), known)}"
                )
        if self.scale == "log" and (self.range[0] is None or self.range[0] < 0):
            raise ValueError(
                f"Values on a logarithmic scale are above zero; {self.name!r} goes from {self.range[0]}. Give it "
                "range=(0, None)."
            )

    def of(
        self,
        values: FloatArray | torch.Tensor,
        *axes: Axis,
        beside: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> Measurement:
        """Makes a measurement of values; the engine adds the step, and which probe it comes from.

        Args:
            values: floating-point numbers, one dimension an axis. NaN means "not measurable here".
            axes: with their labels, as they are declared.
            beside: what the picture shows besides, which is not recorded.

        Raises:
            ValueError: if the axes are others than those that are declared, or do not fit the values.
            TypeError: if the values are no floating-point numbers.
        """
        found = tuple(axis.name for axis in axes)
        if found != self.axes:
            unknown = [name for name in found if name not in self.axes]
            near = nearest(unknown[0], [name for name in self.axes if name not in found]) if unknown else ""
            raise ValueError(
                f"A measurement has the axes that its record declares; {self.name!r} declares ({_listed(self.axes)}), "
                f"and got ({_listed(found)}).{near}"
            )
        array = to_array(values) if isinstance(values, torch.Tensor) else np.asarray(values)
        return Measurement(
            self.name,
            array,
            axes,
            unit=self.unit,
            about=self.about,
            range=self.range,
            scale=self.scale,
            distance=self.distance,
            beside=beside or {},
        )

    def describes(self, measurement: Measurement) -> bool:
        """Whether a measurement is of this record."""
        own = (self.name, self.axes, self.unit, self.range, self.scale, self.distance)
        one, axes = measurement, tuple(axis.name for axis in measurement.axes)
        return own == (one.name, axes, one.unit, one.range, one.scale, one.distance)


def check_records(owner: str, records: Any) -> None:
    """Compares what a probe says that it records with what can be declared.

    Raises:
        ValueError: if it is no tuple or list of records.
    """
    if type(records) not in (tuple, list) or not all(isinstance(record, Record) for record in records):
        raise ValueError(
            f'{owner}.records is a tuple of records, as in records = (lightning_emerge.Record("depth", ("layer",)),); '
            f"got {records!r}."
        )


def check_declared(measurement: Measurement, records: Sequence[Record], probe: str) -> None:
    """Compares a measurement with what its probe declares.

    A record whose unit or range depends on the probe's arguments is declared once for each.

    Raises:
        ValueError: if it is none of it.
    """
    if any(record.describes(measurement) for record in records):
        return
    name = measurement.name
    known = list(dict.fromkeys(record.name for record in records))
    if name not in known:
        axes = ", ".join(repr(axis.name) for axis in measurement.axes)
        raise ValueError(
            f"A probe measures what its class declares in `records`; {probe} declares {_listed(known)}, and measured "
            f"{name!r} with the axes ({axes}).{nearest(name, known)} Declare it as a lightning_emerge.Record, and "
            "yield what its `of` gives."
        )
    record = next(record for record in records if record.name == name)
    raise ValueError(
        f"A measurement has the axes, unit, range and scale that its record declares; {name!r} of {probe} declares "
        f"({_listed(record.axes)}), {record.unit!r}, {record.range} and {record.scale!r}, and has "
        f"({_listed([axis.name for axis in measurement.axes])}), {measurement.unit!r}, {measurement.range} and "
        f"{measurement.scale!r}. Yield what the record's `of` gives."
    )


def _checked_range(name: str, ends: Sequence[Any]) -> Range:
    """Two ends, each a float or None."""
    given = tuple(ends)
    numbers = [end for end in given if end is not None]
    if len(given) != 2 or not all(isinstance(end, int | float) and isfinite(end) for end in numbers):
        raise ValueError(f"The range of a record is two finite numbers, or None for an open end; {name!r} has {ends}.")
    if len(numbers) == 2 and numbers[0] >= numbers[1]:
        raise ValueError(f"The range of a record goes from low to high; {name!r} has {ends}. Swap them.")
    low, high = (None if end is None else float(end) for end in given)
    return low, high


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
