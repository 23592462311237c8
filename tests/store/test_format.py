"""Rows at which a measure was taken, and metadata that say whether they are whole."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lightning_emerge.store.format import add_row, has_row, is_whole, rows_before, rows_of, seal


@given(st.lists(st.integers(0, 60)), st.integers(0, 61))
def test_ranges_hold_the_rows_that_were_added_whatever_the_order(rows: list[int], count: int):
    ranges: list[list[int]] = []
    for row in rows:
        add_row(ranges, row)
    assert rows_of(ranges) == set(rows)
    assert sum(len(range(*one)) for one in ranges) == len(set(rows))
    assert [row for row in range(62) if has_row(ranges, row)] == sorted(set(rows))
    assert rows_of(rows_before(ranges, count)) == {row for row in rows if row < count}


def test_rows_that_follow_a_rule_are_one_range():
    for rule in (range(1000), range(3, 1000, 7)):
        ranges: list[list[int]] = []
        for row in rule:
            add_row(ranges, row)
        assert ranges == [[rule.start, rule[-1] + 1, rule.step]]


def test_a_row_is_looked_for_without_making_what_somebody_claims():
    assert has_row([[0, 10**15, 1]], 10**14)
    assert not has_row([[0, 10**15, 2]], 10**14 + 1)


ROOT: dict[str, Any] = {
    "attributes": {"package": "lightning_emerge", "taken": {"rdm": [[0, 3, 1]]}, "about": '"check": "00000000"'},
    "consolidated_metadata": {"metadata": {"rdm": {"shape": [3, 2]}}},
}


def test_a_flipped_bit_in_the_metadata_is_seen():
    raw = seal(ROOT)
    assert is_whole(raw, json.loads(raw))
    assert json.loads(raw)["consolidated_metadata"] == ROOT["consolidated_metadata"]
    assert seal(json.loads(raw)) == raw
    unseen = []
    for place in range(8 * len(raw)):
        flipped = bytearray(raw)
        flipped[place // 8] ^= 1 << place % 8
        try:
            found = json.loads(bytes(flipped))
            if isinstance(found.get("attributes"), dict) and is_whole(bytes(flipped), found):
                unseen.append(place)
        except ValueError:
            continue
    assert unseen == []


def test_metadata_of_an_earlier_version_have_no_checksum_to_miss():
    old = {"attributes": {"package": "lightning_emerge"}}
    assert is_whole(json.dumps(old).encode(), old)
