"""Names of what is written of a measurement, position by position, the same in all sinks."""

from __future__ import annotations

from collections.abc import Iterable
from math import isnan

from lightning_emerge.records import Measurement


def scalars(measurements: Iterable[Measurement]) -> dict[str, float]:
    """What measurements with no axis or one say, by name; NaN, which is no value, is left out."""
    found: dict[str, float] = {}
    for measurement in measurements:
        if len(measurement.axes) <= 1:
            values = zip(tags(measurement), measurement.values.ravel().tolist(), strict=True)
            found |= {tag: value for tag, value in values if not isnan(value)}
    return found


def tags(measurement: Measurement) -> list[str]:
    """A name for each position of the first axis, `bank_accuracy/dax` for one; the measurement's own without axes."""
    if not measurement.axes:
        return [text(measurement.name)]
    return [text(f"{measurement.name}/{label}") for label in measurement.axes[0].labels]


def text(tag: str) -> str:
    """Escapes what is no text, of which one name would cost all that is written at a step."""
    return tag.encode("utf-8", "backslashreplace").decode()
