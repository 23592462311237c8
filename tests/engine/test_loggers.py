"""Loggers of a run: called in the training thread alone, whatever the writer's does."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from lightning_emerge.engine.costs import Costs
from lightning_emerge.engine.writer import Findings, Writer
from lightning_emerge.figures.canvas import new_figure
from lightning_emerge.records import Measurement


class Shower:
    """Keeps what it is given and the thread that gave it."""

    def __init__(self, *, shows: bool, fails_at: int = -1) -> None:
        self.name, self.shows, self.fails_at = "Shower", shows, fails_at
        self.wrote: list[tuple[int, list[str]]] = []
        self.showed: list[tuple[int, list[str]]] = []
        self.threads: set[int] = set()

    def write(self, step: int, measurements: Any) -> None:
        self.threads.add(threading.get_ident())
        self.wrote.append((step, [found.name for found in measurements]))

    def show(self, step: int, pictures: Any) -> None:
        self.threads.add(threading.get_ident())
        if step == self.fails_at:
            raise ConnectionError("no server")
        assert all(isinstance(pixels, np.ndarray) for pixels in pictures.values())
        self.showed.append((step, list(pictures)))


def look(step: int, draw: Any = lambda: new_figure(0.5, 0.5)) -> list[Findings]:
    return [Findings("Prober", [Measurement("thing", np.zeros(()), (), step)], {"thing": draw})]


def write(sinks: list[Shower], steps: int, *, strict: bool = False) -> tuple[Writer, Costs]:
    costs = Costs()
    writer = Writer([], [], costs, loggers=sinks, strict=strict)  # pyright: ignore[reportArgumentType]
    for step in range(steps):
        writer.put(step, look(step))
    writer.drain()
    return writer, costs


def test_scalars_and_pictures_reach_loggers_in_order_in_the_thread_that_asks():
    plain, shower = Shower(shows=False), Shower(shows=True)
    writer, costs = write([plain, shower], 6)
    writer.close()
    names = ["thing", "probe_seconds", "probe_share"]
    assert plain.wrote == shower.wrote == [(step, names) for step in range(6)]
    assert plain.showed == []
    assert shower.showed == [(step, ["thing"]) for step in range(6)]
    assert plain.threads == shower.threads == {threading.get_ident()}
    assert costs.rows["logging"].looks == 6 * 3


def test_nothing_is_drawn_for_loggers_that_show_no_pictures():
    def refuse() -> None:
        raise AssertionError("it was drawn")

    writer = Writer([], [], Costs(), loggers=[Shower(shows=False)])  # pyright: ignore[reportArgumentType]
    writer.put(0, look(0, refuse))
    writer.close()
    assert not writer.draws
    assert writer.reports() == []


def test_a_logger_that_fails_at_a_picture_gets_nothing_more_and_says_so_once():
    bad, good = Shower(shows=True, fails_at=1), Shower(shows=True)
    writer, _ = write([bad, good], 3)
    writer.put(9, look(9, lambda: None))
    writer.close()
    assert bad.showed == [(0, ["thing"])]
    assert 9 not in [step for step, _ in bad.wrote]
    assert [step for step, _ in good.showed] == [0, 1, 2]
    (report,) = writer.reports()
    assert report.startswith("Shower could not log step 1, so nothing more goes there;")
    assert report.endswith("ConnectionError: no server")
    assert writer.error is None


def test_a_logger_that_fails_stops_training_where_a_probe_asks_for_that():
    writer, _ = write([Shower(shows=True, fails_at=0)], 1, strict=True)
    writer.close()
    assert isinstance(writer.error, ConnectionError)
