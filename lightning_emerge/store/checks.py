"""What a measurement has to be so that it can be stored and read again, whoever measured it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lightning_emerge.records import Label, Measurement
from lightning_emerge.records.names import check_name, is_text

_FLOATS = ("float16", "float32", "float64")

Axes: TypeAlias = tuple[tuple[str, Sequence[Label]], ...]
"""Names and labels of a measurement's axes."""


class Known:
    """The measurements of a run by name, to whose axes and labels later ones are held.

    Args:
        declared: name -> axes of those that there are already.
        labels: names of the arrays of labels that there are already.
    """

    def __init__(self, declared: Mapping[str, Axes] | None = None, labels: Iterable[str] = ()) -> None:
        self._declared = dict(declared or {})
        self._labelled = {"step", *labels}

    def check(self, measurement: Measurement) -> None:
        """Compares a measurement with the first of its name, and remembers one that is the first.

        Raises:
            ValueError: if its axes are not those of an earlier step, it is named like an axis, or `check_measurement`
                refuses it.
        """
        name = measurement.name
        if name not in self._declared:
            check_measurement(measurement)
            own = set(axis_names(measurement))
            both = (self._labelled | own) & {*self._declared, name}
            if both:
                raise ValueError(
                    f"A measurement is not named like an axis or its notes; got {min(both)!r}. Rename one."
                )
            self._labelled |= own
        axes: Axes = tuple((axis.name, list(axis.labels)) for axis in measurement.axes)
        declared = self._declared.setdefault(name, axes)
        if [axis for axis, _ in axes] == ["layer", *(axis for axis, _ in declared)] and len(axes[0][1]) == 1:
            axes = axes[1:]  # kernels of a run that an earlier version began have no axis for their one layer
        shape, before = ([len(labels) for _, labels in known] for known in (axes, declared))
        if shape != before:
            raise ValueError(
                f"A measurement has the same axes at every step; {name!r} was {tuple(before)}, is {tuple(shape)}."
            )
        for (axis, labels), (known, known_labels) in zip(axes, declared, strict=True):
            if axis != known or not _are_same(labels, known_labels):
                raise ValueError(f"An axis has the same labels at every step; those of {axis!r} of {name!r} changed.")


def check_measurement(measurement: Measurement) -> None:
    """Looks whether a measurement can be stored: its names, its labels and its kind of numbers.

    Raises:
        ValueError: if it cannot.
    """
    for axis in measurement.axes:
        _check_labels(axis.name, axis.labels)
        for note, labels in axis.notes.items():
            _check_labels(f"{axis.name}_{note}", labels)
    for name in (measurement.name, *axis_names(measurement)):
        check_name(measurement.name, name)
    for text in (measurement.unit, measurement.source, measurement.about, *(axis.unit for axis in measurement.axes)):
        if not is_text(text):
            raise ValueError(
                f"Units and what is said of a measurement are text; {measurement.name!r} has {text!r:.80}."
            )
    if measurement.values.dtype.name not in _FLOATS:
        raise ValueError(
            f"Measurements are stored as {', '.join(_FLOATS)}; {measurement.name!r} has {measurement.values.dtype}. "
            "Convert the values."
        )


def axis_names(measurement: Measurement) -> Iterator[str]:
    """Names of all arrays of labels that a measurement may need; an axis that has a namesake gets a longer one."""
    for axis in measurement.axes:
        yield from (axis.name, *(f"{axis.name}_{note}" for note in axis.notes))
        longer = f"{axis.name}_of_{measurement.name}"
        yield from (longer, *(f"{longer}_{note}" for note in axis.notes))


def _check_labels(name: str, labels: Sequence[Any]) -> None:
    try:
        found = np.asarray(labels)
    except ValueError:  # sequences of different lengths
        found = np.empty((0, 0), object)
    if not len(labels):
        return
    whole = found.ndim == 1 and found.dtype.kind in "Uiuf"
    if not whole or (found.dtype.kind == "f" and np.isnan(found).any()):
        raise ValueError(
            f"Labels of an axis are all words or all numbers, none of them NaN; {name!r:.80} has {_some(labels)}. "
            "Write them as text."
        )
    for label in labels if found.dtype.kind == "U" else ():
        if not is_text(str(label)) or "\0" in str(label):
            raise ValueError(f"Labels of an axis are text without NUL; {name!r:.80} has {label!r:.80}. Escape it.")


def _some(labels: Sequence[Any]) -> str:
    return ", ".join(f"{label!r:.40}" for label in list(labels)[:3])


def _are_same(labels: Sequence[Label], others: Sequence[Label]) -> bool:
    return labels == others or np.array_equal(as_array(labels), as_array(others))  # 1 and "1" are, beside words


def as_array(labels: Sequence[Label]) -> npt.NDArray[Any]:
    """Labels as an array of one type: strings, int64 or float64."""
    values = np.asarray(labels)
    kinds: dict[str, Any] = {"U": np.dtypes.StringDType(), "i": np.int64, "u": np.int64, "f": np.float64}
    return values.astype(kinds[values.dtype.kind]) if len(values) else values
