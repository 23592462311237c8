"""What the tab asks for, from records: each a function of a run's store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_emerge.board.cache import keep
from lightning_emerge.board.plane import lay_out
from lightning_emerge.board.ranges import Range, find_range, shown_as
from lightning_emerge.board.refusal import RefusedError, damaged
from lightning_emerge.board.store import Array, Records
from lightning_emerge.store.shown import Shown

MOST_BYTES, MOST_SERIES, _MOST_LABELS = 16 << 20, 1_000_000, 32
_CHEAP, _MOST_LISTED, _MOST_TOLD = 1 << 20, 1_000_000, 10_000_000
_MOST_LINES, _MOST_SHORT, _LINES = 24, 14, ("token", "feature")
_MOST_EVENTS, _MOST_LAYERS = 1000, 10_000


@dataclass(frozen=True)
class Answer:
    """Binary numbers, and what is to be known of them.

    Attributes:
        body: bytes.
        shape: of the numbers.
        steps: along the first axis, if it is that of steps.
        range: of the measure over the run.
        damaged: steps that are left out, as they cannot be read.
    """

    body: bytes
    shape: tuple[int, ...]
    steps: list[int] = field(default_factory=list[int])
    range: Range = None
    damaged: list[int] = field(default_factory=list[int])

    @property
    def nbytes(self) -> int:
        """Bytes of the numbers."""
        return len(self.body)


def describe(store: Records, events: list[dict[str, Any]]) -> dict[str, Any]:
    """Says what a run has recorded, as JSON's words; with each measure the numbers of the events of its lines."""
    stimuli = _list(store, "stimulus") if "stimulus" in store.arrays else []
    of = _list(store, "stimulus_token") if "stimulus_token" in store.arrays else [None] * len(stimuli)
    measures = _describe_measures(store)
    for name, one in measures.items():
        one["events"] = [k for k, event in enumerate(events[:_MOST_EVENTS]) if _is_of(event, name, one)]
    tokens = _list(store, "token") if "token" in store.arrays else list(dict.fromkeys(str(token) for token in of))
    numbers = {str(token): k for k, token in enumerate(tokens)}
    token_of = [numbers.get(str(token), 0) for token in of]
    return {
        "steps": store.steps,
        "tokens": [str(token) for token in tokens],
        "token_of": token_of,
        "order": sorted(range(len(token_of)), key=token_of.__getitem__),
        "stimuli": [
            {"id": str(one), "token": None if token is None else str(token)}
            for one, token in zip(stimuli, of, strict=True)
        ],
        "measures": measures,
        "layers": _order_layers(measures),
    }


def values(store: Records, measure: str, step: int, first: int | None) -> Answer:
    """A measure at one step, in float32.

    Raises:
        RefusedError: if it was not taken then, there is no such position on its first axis, or it is too large.
    """
    array = store.measures[measure]
    look = _find_look(store, measure, step)
    shape = array.rest if first is None else _fixed(array, first)
    if prod(shape) * 4 > MOST_BYTES:
        raise RefusedError(413, f"{measure} has more than {MOST_BYTES >> 20} MB a step. Use first=.")
    found = store.read(measure, look)
    return Answer(_floats(found if first is None else found[first]), shape, range=find_range(store, measure))


def frame(store: Records, measure: str, step: int, first: int | None) -> Answer:
    """A measure at one step in a byte a value: 0 to 254 on the measure's range, 255 where it is not measured.

    Raises:
        RefusedError: as for `values`.
    """
    array = store.measures[measure]
    look = _find_look(store, measure, step)
    shape = array.rest if first is None else _fixed(array, first)
    if prod(shape) > MOST_BYTES:
        raise RefusedError(413, f"{measure} has more than {MOST_BYTES >> 20} MB a step. Use first=.")
    found = store.read(measure, look)
    ends = find_range(store, measure) or (0.0, 1.0)
    return Answer(_to_bytes(found if first is None else found[first], *ends), shape, range=ends)


def series(store: Records, measure: str, of: tuple[int, int] | None) -> Answer:
    """A small measure at all steps at which it was taken, in float32; or what is of one filter in a larger one.

    Raises:
        RefusedError: if it is too large, or there is no such filter.
    """
    array = store.measures[measure]
    if of is not None and (len(array.rest) < 2 or of[0] >= array.rest[0] or of[1] >= array.rest[1]):
        raise RefusedError(404, f"{measure} has no such filter.")
    shape = array.rest if of is None else array.rest[2:]
    taken = store.taken(measure)
    looks = sorted(taken)
    if prod(shape) * len(looks) > MOST_SERIES:
        raise RefusedError(413, f"{measure} has more than {MOST_SERIES} values. Use values.")

    def read() -> Answer:
        found, values = _Looks(store, measure, looks), np.empty((len(looks), *shape), "<f4")
        for number, one in enumerate(found):
            values[number] = one if of is None else one[of]
        return found.answer(values[: len(found.whole)])

    return keep((store.key, "series", measure, of, *taken.values()), read)


def points(store: Records, measure: str, first: int | None) -> Answer:
    """Stimuli as points in a plane at each step, from their distances.

    Raises:
        RefusedError: if the measure holds no distances between stimuli.
    """
    array = store.measures[measure]
    shape = array.rest if first is None else _fixed(array, first)
    if len(shape) != 2 or shape[0] != shape[1] or _axes(array)[-2] != "stimulus":
        raise RefusedError(400, f"Points are made from distances between stimuli; {measure} has none. Use first=.")
    if prod(shape) > MOST_BYTES // 16:
        raise RefusedError(413, f"{measure} has too many stimuli to be laid out.")
    taken = store.taken(measure)
    looks = sorted(taken)
    power = 2 if shown_as(array).distance == "length" else 1

    def read() -> Answer:
        found = _Looks(store, measure, looks)
        squared = ((one if first is None else one[first]).astype(np.float64) ** power for one in found)
        return found.answer(lay_out(squared, shape[0]))

    return keep((store.key, "points", measure, first, *taken.values()), read)


class _Looks:
    """Reads a measure look after look, and remembers at which steps that could be done."""

    def __init__(self, store: Records, measure: str, looks: list[int]) -> None:
        self._store, self._measure, self._looks = store, measure, looks
        self.whole, self._damaged = list[int](), list[int]()

    def __iter__(self) -> Iterator[npt.NDArray[Any]]:
        refusal: RefusedError | None = None
        for look in self._looks:
            try:
                one = self._store.read(self._measure, look)
            except RefusedError as error:
                refusal = error
                self._damaged.append(self._store.steps[look])
                continue
            self.whole.append(self._store.steps[look])
            yield one
        if refusal is not None and not self.whole:
            raise refusal

    def answer(self, values: npt.NDArray[Any]) -> Answer:
        """What was made of the looks that could be read, and which could not."""
        return Answer(_floats(values), values.shape, self.whole, damaged=self._damaged)


def _describe_measures(store: Records) -> dict[str, Any]:
    found, told = dict[str, Any](), 0
    for name, array in store.measures.items():
        found[name] = one = _describe_measure(store, array)
        told += sum(len(part) for axis in one["axes"] for part in (axis["labels"], *axis["notes"].values()))
        if told > _MOST_TOLD:  # the same labels are sent with each measure that has them
            raise damaged(f"their measures have more than {_MOST_TOLD} labels")
    return found


def _is_of(event: dict[str, Any], name: str, measure: dict[str, Any]) -> bool:
    axis = measure["axes"][-1]["name"] if measure["axes"] else ""
    step, group = event.get("step"), event.get("group")
    if not isinstance(step, int | float) and event.get("whether") not in ("never", "unresolved"):
        return False
    groups = ("part", "pair", "conjunction") if axis in ("feature", "part") else (axis,)
    return axis != "" and group in groups and str(event.get("measure")).startswith(name)


def _order_layers(measures: dict[str, Any]) -> list[str]:
    """All layers that measures are of, each once, in an order that their lists agree on if there is one."""
    found: list[str] = []
    firsts = [one["axes"][0] for one in measures.values() if one["axes"]]
    lists = [axis["labels"] for axis in firsts if axis["name"] == "layer" and isinstance(axis["labels"], list)]
    known = set[str]()
    for labels in sorted(lists, key=len, reverse=True):
        for number, layer in enumerate(labels):
            if layer not in known and len(known) < _MOST_LAYERS:
                found.insert(found.index(labels[number - 1]) + 1 if number else 0, layer)
                known.add(layer)
    return found


def _describe_measure(store: Records, array: Array) -> dict[str, Any]:
    taken = store.taken(array.name)
    cheap, unit = prod(array.rest) * 4 <= _CHEAP, str(array.attributes.get("units", ""))
    shown = shown_as(array)
    return {
        "about": str(array.attributes.get("long_name", "")),
        "unit": "" if unit == "1" else unit,
        "known": shown.closed,
        "scale": shown.scale,
        "views": _find_views(array, shown),
        "axes": [_describe_axis(store, axis, array) for axis in array.axes[1:]],
        "steps": [store.steps[look] for look in sorted(taken)],
        "range": find_range(store, array.name) if cheap or shown.closed else None,
        "blank": (blank := _find_blank(store, array)),
        "full": len(blank) < (array.rest[0] if array.rest else 1),
    }


def _find_views(array: Array, shown: Shown) -> list[str]:
    """What a measure can be drawn as.

    Curves: a line for each position of its last axis, of one layer if there are layers. Filter: a line, or a few, of
    one filter. Matrix: one, or one a layer. Points: stimuli in a plane, from distances or squared ones.
    """
    axes, sizes = _axes(array), array.rest
    last, most = axes[-1:], sizes[-1] if sizes else 1
    layered, of_filter = axes[:1] == ["layer"], axes[:2] == ["layer", "filter"]
    square = len(axes) > 1 and last == [f"{axes[-2]}_b"] and sizes[-2] == most
    found = {
        "curves": len(axes) <= 1 + layered and not square and most <= _MOST_LINES,
        "filter": of_filter and (len(axes) == 2 or (len(axes) == 3 and last[0] in _LINES and most <= _MOST_SHORT)),
        "matrix": square and (len(axes) == 2 or (len(axes) == 3 and layered)),
        "points": shown.distance != "" and square and axes[:2] == ["layer", "stimulus"] and len(axes) == 3,
    }
    return [view for view, fits in found.items() if fits]


def _find_blank(store: Records, array: Array) -> list[int]:
    """Positions on a measure's first axis, or 0 for a single value, without a finite value at its newest look.

    None where that is not known: of a measure that would take too long to be read, or that is damaged.
    """
    taken = store.taken(array.name)
    if not taken or prod(array.rest) * 4 > MOST_BYTES:
        return []
    look = max(taken)

    def read() -> list[int]:
        try:
            found = np.isfinite(store.read(array.name, look))
        except RefusedError:
            return []
        return np.flatnonzero(~np.atleast_1d(found.any(axis=tuple(range(1, found.ndim))))).tolist()

    return keep((store.key, "blank", array.name, look, taken[look]), read)


def _describe_axis(store: Records, axis: str, array: Array) -> dict[str, Any]:
    labels = store.labels(axis)
    return {
        "name": _plain(axis, array),
        "labels": _shorten(labels),
        "notes": {note: _list(store, name) for note, name in store.notes(axis).items()},
    }


def _axes(array: Array) -> list[str]:
    return [_plain(axis, array) for axis in array.axes[1:]]


def _plain(axis: str, array: Array) -> str:
    """The name of an axis without what tells it from a namesake with other labels."""
    return axis.removesuffix(f"_of_{array.name}")


def _shorten(labels: Sequence[Any]) -> Any:
    if not isinstance(labels, range):
        return labels
    return {"count": len(labels)} if len(labels) > _MOST_LABELS else list(labels)


def _list(store: Records, name: str) -> list[Any]:
    labels = store.labels(name)
    if len(labels) > _MOST_LISTED:
        raise damaged(f"{name} has {len(labels)} labels, of {_MOST_LISTED} at most")
    return list(labels)


def _find_look(store: Records, measure: str, step: int) -> int:
    looks = store.taken(measure)
    look = store.steps.index(step) if step in store.steps else -1
    if look not in looks:
        raise RefusedError(404, f"{measure} was not taken at step {step}.")
    return look


def _fixed(array: Array, first: int) -> tuple[int, ...]:
    if not array.rest or first >= array.rest[0]:
        raise RefusedError(404, f"{array.name} has no position {first} on its first axis.")
    return array.rest[1:]


def _floats(found: npt.NDArray[Any]) -> bytes:
    return np.ascontiguousarray(found, "<f4").tobytes()


def _to_bytes(found: npt.NDArray[Any], low: float, high: float) -> bytes:
    scaled = found.astype(np.float32)
    scaled -= np.float32(low)
    scaled *= np.float32(254 / (high - low) if high > low else 0)
    np.clip(np.rint(scaled, out=scaled), 0, 254, out=scaled)
    scaled[np.isnan(scaled)] = 255
    return scaled.astype(np.uint8).tobytes()
