"""The range that a measure has over a run."""

from __future__ import annotations

from typing import Any

import numpy as np

from lightning_emerge.board.cache import keep
from lightning_emerge.board.refusal import RefusedError
from lightning_emerge.board.store import Array, Records
from lightning_emerge.store.shown import Shown, shown_of

_LOOKS = 9
Range = tuple[float, float] | None


def find_range(store: Records, measure: str) -> Range:
    """The range of a measure over the run: the declared one, or what nine looks have, first and last among them.

    All looks would have to be read for more; what lies beyond is drawn as an end of the range. None if nothing says it.
    """
    if known := shown_as(store.measures[measure]).closed:
        return known
    taken = store.taken(measure)
    looks = sorted(taken)
    chosen = sorted({looks[round(k * (len(looks) - 1) / (_LOOKS - 1))] for k in range(_LOOKS)}) if looks else []
    ends = [end for look in chosen for end in _ends(store, measure, look, taken[look])]
    return (min(ends), max(ends)) if ends else None


def shown_as(array: Array) -> Shown:
    """How a measure is shown, as its array says it."""
    return shown_of(array.name, array.attributes)


def _ends(store: Records, measure: str, look: int, stamp: Any) -> tuple[float, ...]:
    def read() -> tuple[float, ...]:
        try:
            found = store.read(measure, look)
        except RefusedError:  # it is said of the value itself, and the run's other values are shown
            return ()
        finite = found[np.isfinite(found)]
        return (float(finite.min()), float(finite.max())) if finite.size else ()

    return keep((store.key, "ends", measure, look, stamp), read)
