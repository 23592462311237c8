"""How a store says that it is whole. No torch and no Zarr: the board reads it too.

The group's metadata (`zarr.json`) hold two attributes beside those for people. `taken` has, for each measure, the rows
(positions among the steps) at which it was taken, as ranges [start, stop, step]: a chunk that is missing there is a
loss, and elsewhere it means that nobody looked. `check` is the CRC-32C of the metadata themselves, with zeros in its
own place; chunks bear checksums of their own.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from json import dumps
from typing import Any

from google_crc32c import value as crc32c

METADATA = "zarr.json"
TAKEN, CHECK = "taken", "check"
_UNKNOWN = "00000000"
_FOUND = re.compile(rb'"check": "([0-9a-f]{8})"')

Ranges = list[list[int]]
"""Rows as [start, stop, step] each, ascending."""


def seal(root: Mapping[str, Any]) -> bytes:
    """Encodes a group's metadata with their checksum."""
    attributes = {CHECK: _UNKNOWN, **{key: value for key, value in root["attributes"].items() if key != CHECK}}
    raw = dumps({"zarr_format": 3, "node_type": "group", "attributes": attributes, **_rest(root)}).encode()
    return raw.replace(_UNKNOWN.encode(), b"%08x" % crc32c(raw), 1)


def _rest(root: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in root.items() if key not in ("zarr_format", "node_type", "attributes")}


def is_whole(raw: bytes, root: Mapping[str, Any]) -> bool:
    """Whether a group's metadata are as they were written.

    Args:
        raw: the file's content.
        root: the same, decoded. Stores of version 0.1.0 have no checksum, which is no damage.
    """
    found = _FOUND.search(raw)
    if found is None or CHECK not in root["attributes"]:
        return TAKEN not in root["attributes"] and CHECK not in root["attributes"]
    start, stop = found.span(1)
    return crc32c(raw[:start] + _UNKNOWN.encode() + raw[stop:]) == int(found[1], 16)


def add_row(ranges: Ranges, row: int) -> None:
    """Adds a row at the end, in place; one that is there already is not added again."""
    if not ranges:
        ranges.append([row, row + 1, 1])
        return
    start, stop, step = ranges[-1]
    last = range(start, stop, step)[-1]
    if row <= last:
        if row not in rows_of(ranges):
            ranges[:] = _ranges([*rows_of(ranges), row])
    elif start == last:
        ranges[-1] = [start, row + 1, row - start]
    elif row == last + step:
        ranges[-1][1] = row + 1
    else:
        ranges.append([row, row + 1, 1])


def rows_of(ranges: Sequence[Sequence[int]]) -> set[int]:
    """The rows that are in ranges."""
    return {row for start, stop, step in ranges for row in range(start, stop, step)}


def before(ranges: Sequence[Sequence[int]], count: int) -> Ranges:
    """The rows before a count, as ranges."""
    return _ranges(row for row in rows_of(ranges) if row < count)


def _ranges(rows: Any) -> Ranges:
    found: Ranges = []
    for row in sorted(rows):
        add_row(found, row)
    return found


def has_row(ranges: Sequence[Sequence[int]], row: int) -> bool:
    """Whether a row is in ranges; they may be somebody else's, so nothing is made as long as they say."""
    place = bisect_right(ranges, row, key=lambda one: one[0])
    return place > 0 and row in range(*ranges[place - 1])
