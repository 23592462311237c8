"""What a measurement has to be so that it can be stored and read again, whoever measured it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lightning_emerge.records import Measurement
from lightning_emerge.records.names import check_name, is_text

_FLOATS = ("float16", "float32", "float64")


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
