"""How records are shown: as probes declare it, also in stores that do not say it."""

from __future__ import annotations

import numpy as np
import pytest

import lightning_emerge as le
from lightning_emerge.records import Record
from lightning_emerge.store.encode import attributes_of
from lightning_emerge.store.shown import Shown, shown_of

PROBES = [kind for name in le.__all__ if name.endswith("Probe") and (kind := getattr(le, name)) is not le.Probe]
RECORDS = [record for kind in PROBES for record in kind.records]
EARLIER = [record for record in RECORDS if record not in le.RegimeProbe.records]  # whose stores have always said it
assert len(EARLIER) > 60


def declared(record: Record) -> Shown:
    return Shown(record.range, record.scale, record.distance)


@pytest.mark.parametrize("record", EARLIER, ids=lambda record: f"{record.name}, {record.unit}")
def test_a_store_of_an_earlier_version_shows_what_is_declared_now(record):
    assert shown_of(record.name, {"units": record.unit}) == declared(record)
    assert shown_of(f"{record.name}_2", {"units": record.unit}) == declared(record)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: f"{record.name}, {record.unit}")
def test_a_store_says_what_is_declared(record):
    made = record.of(np.zeros([0] * len(record.axes)), *(le.Axis(name, []) for name in record.axes))
    assert shown_of("any", attributes_of(made)) == declared(record)


@pytest.mark.parametrize(
    ("attributes", "shown"),
    [
        ({"units": "share"}, Shown()),  # of an earlier version, and no probe of ours
        ({"scale": "linear", "valid_min": 0, "valid_max": 3}, Shown((0, 3))),
        ({"scale": "linear", "valid_min": 3, "valid_max": 0}, Shown()),
        ({"scale": "linear", "valid_min": "0", "valid_max": float("nan")}, Shown()),
        ({"scale": ["log"], "distance": {}}, Shown()),
        ({"scale": "linear", "valid_min": 0, "valid_max": 10**400}, Shown((0, None))),
        ({"scale": "rainbow", "valid_max": 1, "distance": "far"}, Shown((None, 1))),
    ],
)
def test_what_makes_no_sense_is_left_out(attributes, shown):
    assert shown_of("mine", attributes) == shown


def test_a_range_is_closed_if_neither_end_is_open():
    assert Shown((0, 2)).closed == (0, 2)
    assert Shown((0, None)).closed is None
    assert Shown((None, 0)).closed is None
