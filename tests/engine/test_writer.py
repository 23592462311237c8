"""The writer: in order, in the background, waiting rather than dropping, failing aloud."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from lightning_emerge.engine import writer as module
from lightning_emerge.engine.costs import Costs
from lightning_emerge.engine.writer import Findings, Writer
from lightning_emerge.figures.canvas import new_figure
from lightning_emerge.records import Measurement


class Sink:
    """Keeps what it is given; waits for `go`, and fails at a step if it is told to."""

    def __init__(self, fails_at: int = -1) -> None:
        self.go, self.fails_at = threading.Event(), fails_at
        self.go.set()
        self.got: list[tuple[int, list[str], list[str]]] = []
        self.threads: set[str] = set()
        self.closed = False

    def write(self, step: int, measurements: Any, pictures: Any = ()) -> None:
        self.go.wait(10)
        if step == self.fails_at:
            raise OSError(28, "No space left on device")
        self.threads.add(threading.current_thread().name)
        self.got.append((step, [found.name for found in measurements], list(pictures)))

    def close(self) -> None:
        self.closed = True


def look(step: int, draw: Any = None, *, raises: bool = False) -> list[Findings]:
    measurement = Measurement("thing", np.zeros(()), (), step)
    return [Findings("Prober", [measurement], {"thing": draw} if draw else {}, raises)]


def make(records: list[Sink], boards: list[Sink], *, strict: bool = False) -> Writer:
    return Writer(records, boards, Costs(), strict=strict)  # pyright: ignore[reportArgumentType]


def figure() -> Figure:
    return new_figure(0.5, 0.5)


def test_everything_is_written_in_order_in_another_thread():
    record, board = Sink(), Sink()
    writer = make([record], [board])
    for step in range(30):
        writer.put(step, look(step, figure))
    writer.close()
    assert record.got == [(step, ["thing"], []) for step in range(30)]
    assert board.got == [(step, ["thing", "probe_seconds", "probe_share"], ["thing"]) for step in range(30)]
    assert record.threads == {"lightning_emerge writer"}
    assert record.closed
    assert board.closed


def test_it_waits_when_too_much_is_left_and_drops_nothing():
    record = Sink()
    record.go.clear()
    writer = make([record], [])
    for step in range(5):  # one in hand and four in the queue
        writer.put(step, look(step))
    waiting = threading.Thread(target=lambda: writer.put(5, look(5)))
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    record.go.set()
    waiting.join(10)
    assert not waiting.is_alive()
    writer.close()
    assert [step for step, _, _ in record.got] == list(range(6))


def test_drain_comes_back_when_all_is_written_and_shows_how_far_it_is(capfd, monkeypatch):
    record = Sink()
    record.go.clear()
    writer = make([record], [])
    for step in range(3):
        writer.put(step, look(step))
    threading.Timer(1.0, record.go.set).start()
    writer.drain(show=True)
    assert len(record.got) == 3
    assert "Drawing and writing" in capfd.readouterr().err
    wait = threading.Condition.wait

    def refuse(condition: threading.Condition, timeout: float | None = None) -> bool:
        assert threading.current_thread() is not threading.main_thread(), "there is nothing to wait for"
        return wait(condition, timeout)

    monkeypatch.setattr(threading.Condition, "wait", refuse)
    writer.drain(show=True)
    monkeypatch.undo()
    assert capfd.readouterr().err == ""
    writer.close()


def test_a_sink_that_fails_gets_nothing_more_and_the_other_goes_on():
    bad, good = Sink(fails_at=1), Sink()
    writer = make([bad], [good])
    for step in range(4):
        writer.put(step, look(step))
    writer.drain()
    (report,) = writer.reports()
    assert "Sink could not write step 1, so nothing more goes there" in report
    assert "No space left" in report
    assert writer.reports() == []
    assert writer.error is None
    writer.close()
    assert [step for step, _, _ in bad.got] == [0]
    assert [step for step, _, _ in good.got] == [0, 1, 2, 3]


def test_a_strict_writer_keeps_the_error():
    writer = make([Sink(fails_at=1)], [], strict=True)
    writer.put(1, look(1))
    writer.drain()
    assert isinstance(writer.error, OSError)
    writer.close()


@pytest.mark.parametrize("raises", [False, True])
def test_a_drawing_that_fails_costs_the_picture_alone(raises):
    def fail() -> Figure:
        raise RuntimeError("no ink")

    record, board = Sink(), Sink()
    writer = make([record], [board])
    for step in range(3):
        writer.put(step, look(step, fail, raises=raises))
    writer.drain()
    (report,) = writer.reports()
    assert "Prober could not draw step 0" in report
    assert (str(writer.error) == "no ink") is raises
    assert len(record.got) == 3
    assert [pictures for _, _, pictures in board.got] == [[], [], []]
    writer.close()


def test_nothing_is_drawn_for_nobody():
    def fail() -> Figure:
        raise AssertionError

    writer = make([Sink()], [])
    writer.put(0, look(0, fail))
    writer.close()
    assert writer.reports() == []


def test_what_a_sink_cannot_store_is_said_once_and_the_rest_is_written():
    class Choosy(Sink):
        def write(self, step: int, measurements: Any, pictures: Any = ()) -> Any:
            super().write(step, measurements)
            return {"thing": TypeError("odd")}

    record = Choosy()
    writer = make([record], [])
    for step in range(3):
        writer.put(step, look(step))
    writer.close()
    (report,) = writer.reports()
    assert report == "thing could not be stored at step 0; all else is, and training goes on. TypeError: odd"
    assert len(record.got) == 3


def test_a_sink_that_failed_is_closed_too():
    bad = Sink(fails_at=0)
    writer = make([bad], [])
    writer.put(0, look(0))
    writer.close()
    assert bad.closed


def test_a_drawing_that_never_ends_costs_pictures_alone(monkeypatch):
    go = threading.Event()
    record, board = Sink(), Sink()
    writer = make([record], [board])
    writer.artist.patience = 0.3
    for step in range(9):
        writer.put(step, [*look(step, (lambda: go.wait(60)) if step == 4 else figure)])
    writer.drain()
    (report,) = writer.reports()
    assert "Prober could not draw thing of step 4, so nothing more of it is drawn" in report
    assert "No probe is drawn until it comes to its end." in report
    assert [step for step, _, _ in record.got] == list(range(9))
    assert [len(pictures) for _, _, pictures in board.got] == [1, 1, 1, 1, 0, 0, 0, 0, 0]
    writer.close()
    assert record.closed
    go.set()


def test_no_thread_is_left_when_a_run_has_ended():
    before = set(threading.enumerate())
    writer = make([Sink()], [Sink()])
    writer.put(0, look(0, figure))
    writer.close()
    for _ in range(100):
        if set(threading.enumerate()) <= before:
            break
        time.sleep(0.05)
    assert set(threading.enumerate()) <= before


def test_a_run_that_ends_waits_for_a_drawing_or_a_disk_no_longer_than_it_may(monkeypatch):
    monkeypatch.setattr(module, "_LAST", 0.2)
    monkeypatch.setattr(module, "_END", 1.0)
    go = threading.Event()
    slow = make([Sink()], [Sink()])
    slow.put(0, look(0, lambda: go.wait(60)))
    slow.close()
    assert "was left alone" in slow.reports()[0]
    record = Sink()
    record.go.clear()
    stuck = make([record], [])
    for step in range(5):
        stuck.put(step, look(step))
    stuck.close()
    (report,) = stuck.reports()
    assert "the disk took longer, and 5 looks may be lost" in report
    assert not record.closed
    go.set()
    record.go.set()
    for writer in (slow, stuck):
        writer._thread.join(10)
        assert not writer._thread.is_alive()
    assert len(record.got) == 1  # what was in hand
