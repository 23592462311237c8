"""Costs: a clock that is set by hand shows that seconds and shares add up."""

from __future__ import annotations

import pytest

from lightning_emerge.engine import costs as module
from lightning_emerge.engine.costs import Costs


@pytest.fixture
def clock(monkeypatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_seconds_and_shares(clock):
    costs = Costs()
    for _ in range(2):
        with costs.spend("A"):
            clock[0] += 3
    with costs.spend_beside("A"):
        clock[0] += 4
    with costs.spend("B"):
        clock[0] += 10
    clock[0] += 80
    seconds, share = costs.measure(5)
    assert seconds.axes[0].labels == ["A", "B"]
    assert seconds.values.tolist() == [10, 10]
    assert share.values.tolist() == [0.06, 0.1]
    assert (seconds.unit, seconds.step) == ("s", 5)
    assert costs.rows["A"].looks == 2


def test_time_is_counted_when_a_look_fails(clock):
    costs = Costs()

    def fail() -> None:
        with costs.spend("A"):
            clock[0] += 2
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert costs.rows["A"].seconds == 2


def test_the_table_has_a_line_for_each_and_their_sum(clock):
    costs = Costs()
    with costs.spend("CategoryProbe"):
        clock[0] += 2
    with costs.spend("capture"):
        clock[0] += 3
    clock[0] += 5
    table = costs.table()
    assert table[0].split() == ["looks", "training", "waited", "share", "beside", "it"]
    assert table[1].split() == ["CategoryProbe", "1", "2.00", "s", "20.0%", "0.00", "s"]
    assert table[-1].split() == ["all", "5.00", "s", "50.0%", "0.00", "s"]
    assert len({len(line) for line in table}) == 1
