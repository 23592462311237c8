"""A measurement: a named array with named axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
Label: TypeAlias = str | int | float
Range: TypeAlias = tuple[float | None, float | None]
"""Low and high, which no value leaves; None for an open end."""
Scale: TypeAlias = Literal["linear", "log", "diverging"]
Distance: TypeAlias = Literal["", "length", "square"]
Pixels: TypeAlias = npt.NDArray[np.uint8]
"""RGB pixels (y, x, channel)."""


def _kept(labels: Sequence[Label]) -> Sequence[Label]:
    """A copy of labels that could be changed."""
    if isinstance(labels, str | tuple | range):
        return labels
    return labels.tolist() if isinstance(labels, np.ndarray) else list(labels)


@dataclass(frozen=True)
class Axis:
    """One named axis of a measurement.

    Attributes:
        name: the axis' name, "layer" for one.
        labels: one coordinate for each position: names, or numbers.
        unit: unit of numeric labels.
        notes: further coordinates along the same axis, such as the token of each stimulus: name -> labels.
    """

    name: str
    labels: Sequence[Label]
    unit: str = ""
    notes: Mapping[str, Sequence[Label]] = field(default_factory=dict[str, Sequence[Label]])

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", _kept(self.labels))
        object.__setattr__(self, "notes", {name: _kept(labels) for name, labels in self.notes.items()})
        for name, labels in self.notes.items():
            if len(labels) != len(self.labels):
                raise ValueError(
                    f"A note has as many labels as its axis; {self.name!r} has {len(self.labels)}, "
                    f"its note {name!r} has {len(labels)}."
                )


@dataclass(frozen=True)
class Measurement:
    """A named array with named axes, a unit, the step it was taken at and where it came from.

    Probes make it with `Record.of`. It keeps copies of what it is given, so that a probe may use an array again.

    Attributes:
        name: what was measured, unique among the probes of a run: "rdm" for one.
        values: floating array with one dimension for each axis. NaN means "not measurable here".
        axes: the named axes, in the order of the array's dimensions.
        step: optimizer steps taken when it was measured; the engine fills it in.
        unit: unit of the values; "1" for a pure number.
        source: the class that measured it; the engine fills it in.
        about: one sentence a reader of the record can understand without this package.
        probe: JSON of the probe's class path and arguments; the engine fills it in.
        beside: what its picture shows besides: name -> array. It is not recorded.
        range: low and high, which no value leaves; None for an open end.
        scale: how it is shown, as `Record` has it.
        distance: what a matrix says of how far apart things lie, as `Record` has it.

    Raises:
        ValueError: if values and axes disagree, or two axes have the same name.
        TypeError: if the values are not floating-point numbers.
    """

    name: str
    values: FloatArray
    axes: tuple[Axis, ...]
    step: int = 0
    unit: str = "1"
    source: str = ""
    about: str = ""
    probe: str = ""
    beside: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict[str, npt.NDArray[Any]])
    range: Range = (None, None)
    scale: Scale = "linear"
    distance: Distance = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", self.values.copy())
        object.__setattr__(self, "beside", {name: values.copy() for name, values in self.beside.items()})
        names = [axis.name for axis in self.axes]
        shape = tuple(len(axis.labels) for axis in self.axes)
        if self.values.shape != shape:
            raise ValueError(
                f"A measurement has one label for each position of each axis; {self.name!r} has values of shape "
                f"{self.values.shape} and axes {dict(zip(names, shape, strict=True))}."
            )
        if len(set(names)) != len(names):
            raise ValueError(f"The axes of a measurement have different names; {self.name!r} has {names}.")
        if not np.issubdtype(self.values.dtype, np.floating):
            raise TypeError(
                f"The values of a measurement are floating-point numbers, so that NaN can say 'not looked at'; "
                f"{self.name!r} has {self.values.dtype}. Convert them with .float()."
            )
