"""The writer: draws and writes beside training, in a queue that makes training wait rather than drops anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from queue import Full, Queue
from threading import Thread
from typing import Any

from matplotlib.figure import Figure

from lightning_emerge.engine.artist import Artist, TooSlowError
from lightning_emerge.engine.bars import tqdm
from lightning_emerge.engine.costs import WAIT, WRITE, Costs
from lightning_emerge.engine.loggers import Loggers
from lightning_emerge.figures.canvas import to_pixels
from lightning_emerge.figures.frames import give_back
from lightning_emerge.records import Measurement, Pixels
from lightning_emerge.sinks.boards import Board
from lightning_emerge.sinks.loggers import LoggerSink
from lightning_emerge.store.write import ArraySink

_WAITING = 4
_LAST, _END = 5.0, 30.0
"""Seconds that a drawing, and all that is left to write, may take once the run ends."""


@dataclass(frozen=True)
class Findings:
    """What one probe measured at one look.

    Attributes:
        probe: its name in the run.
        measurements: as they are recorded.
        drawings: by measurement's name, what draws it.
        raises: whether a drawing that fails stops training.
    """

    probe: str
    measurements: Sequence[Measurement]
    drawings: dict[str, Callable[[], Figure | None]] = field(default_factory=dict[str, Callable[[], Figure | None]])
    raises: bool = False


_Job = tuple[int, Sequence[Findings]]


class Writer:
    """Writes findings to sinks, and draws them if any sink is looked at, in a thread of its own.

    Loggers are the exception: they are called in the training thread, by `put`, `drain` and `close`.

    What fails is told to the training thread, which asks for it: `reports` for what training survives, `error` for what
    is to stop it. A sink that fails gets nothing more; a probe whose drawing fails or takes too long is not drawn any
    more.

    Args:
        records: where measurements go.
        boards: where measurements, pictures and costs go.
        costs: where the time is noted.
        loggers: where scalars go, and pictures where they are taken.
        strict: whether a sink that fails stops training.
    """

    def __init__(
        self,
        records: Sequence[ArraySink],
        boards: Sequence[Board],
        costs: Costs,
        *,
        loggers: Sequence[LoggerSink] = (),
        strict: bool = False,
    ) -> None:
        self.records, self.boards = list(records), list(boards)
        self.error: Exception | None = None
        self.artist = Artist()
        self._sinks = [*records, *boards]
        self._costs, self._strict = costs, strict
        self._loggers = Loggers(loggers, costs, self._lose)
        self._reports: list[str] = []
        self._undrawn: set[str] = set()
        self._refused: set[str] = set()
        self._over = False
        self._queue: Queue[_Job | None] = Queue(_WAITING)
        self._thread = Thread(target=self._work, name="lightning_emerge writer", daemon=True)
        self._thread.start()

    def put(self, step: int, findings: Sequence[Findings]) -> None:
        """Leaves what was found at one step to be written; waits while too much is left already."""
        with self._costs.spend(WAIT):
            self._queue.put((step, findings))
        self._loggers.log(step, [measurement for found in findings for measurement in found.measurements])
        self._loggers.show()

    def drain(self, *, show: bool = False) -> None:
        """Waits until everything is written, with a progress line if it is to be shown and takes a while."""
        with self._queue.all_tasks_done:
            left = self._queue.unfinished_tasks
            with tqdm(total=left, desc="Drawing and writing", unit="look", delay=0.5, disable=not show) as bar:
                while self._queue.unfinished_tasks:
                    self._queue.all_tasks_done.wait(0.2)
                    bar.update(left - self._queue.unfinished_tasks - bar.n)
        self._loggers.show()

    def close(self) -> None:
        """Writes what is left and closes the sinks, or says that it could not in time."""
        self.artist.patience = min(self.artist.patience, _LAST)
        ends, asked = time.monotonic() + _END, 0
        with suppress(Full):
            self._queue.put(None, timeout=_END)
            asked = 1
        self._thread.join(max(0.1, ends - time.monotonic()))
        self._over = True
        self.artist.close()
        self._loggers.show()
        if self._thread.is_alive():
            self._reports.append(
                f"What was found is written within {_END:g} s of a run's end; the disk took longer, and "
                f"{self._queue.unfinished_tasks - asked} looks may be lost."
            )
            return
        for sink in self._sinks:
            with suppress(OSError):
                sink.close()

    @property
    def draws(self) -> bool:
        """Whether anybody is to see pictures."""
        return bool(self.boards) or self._loggers.draws

    def reports(self) -> list[str]:
        """Takes what has gone wrong since the last call."""
        reports, self._reports = self._reports, []
        return reports

    def undraw(self, probe: str, what: str, error: Exception, *, raises: bool) -> None:
        """Draws nothing more of a probe, and says why."""
        self._undrawn.add(probe)
        if raises:
            self.error = self.error or error
        self._reports.append(
            f"{probe} could not draw {what}, so nothing more of it is drawn; it goes on measuring. "
            f"{type(error).__name__}: {error}"
        )

    def _work(self) -> None:
        while not self._over and (job := self._queue.get()) is not None:
            try:
                self._write(*job)
            except Exception as error:  # what waits for this thread would wait for ever
                self._reports.append(f"Step {job[0]} could not be written. {type(error).__name__}: {error}")
            finally:
                self._queue.task_done()
        self._queue.task_done()

    def _write(self, step: int, findings: Sequence[Findings]) -> None:
        measurements = [measurement for found in findings for measurement in found.measurements]
        for sink in list(self.records):
            self._try(self.records, sink, step, lambda sink=sink: self._store(sink, step, measurements))
        if not self.draws:
            return
        pictures = {name: pixels for found in findings for name, pixels in self._draw(step, found).items()}
        shown = [*measurements, *self._costs.measure(step)]
        for board in list(self.boards):
            self._try(self.boards, board, step, lambda board=board: board.write(step, shown, pictures))
        if pictures:
            self._loggers.leave(step, pictures)

    def _store(self, sink: ArraySink, step: int, measurements: Sequence[Measurement]) -> None:
        for name, error in (sink.write(step, measurements) or {}).items():
            if name not in self._refused:
                self._refused.add(name)
                self._reports.append(
                    f"{name} could not be stored at step {step}; all else is, and training goes on. "
                    f"{type(error).__name__}: {error}"
                )

    def _try(self, sinks: list[Any], sink: ArraySink | Board, step: int, write: Callable[[], None]) -> None:
        try:
            with self._costs.spend_beside(WRITE):
                write()
        except Exception as error:
            sinks.remove(sink)
            self._lose(f"{type(sink).__name__} could not write step {step}", error)

    def _lose(self, said: str, error: Exception) -> None:
        """Says which sink failed, and at what; it gets nothing more."""
        if self._strict:
            self.error = self.error or error
        self._reports.append(
            f"{said}, so nothing more goes there; what is there stays as it is, and training goes on. "
            f"{type(error).__name__}: {error}"
        )

    def _draw(self, step: int, found: Findings) -> dict[str, Pixels]:
        pictures: dict[str, Pixels] = {}
        if found.probe in self._undrawn or self.artist.stuck:
            return pictures
        name = ""
        try:
            with self._costs.spend_beside(found.probe):
                for name, draw in found.drawings.items():
                    pixels = self.artist.make(partial(_draw_pixels, draw))
                    if pixels is not None:
                        pictures[name] = pixels
        except TooSlowError as error:
            late = " No probe is drawn until it comes to its end." if self.artist.stuck else ""
            self.undraw(found.probe, f"{name} of step {step}", TooSlowError(f"{error}.{late}"), raises=found.raises)
        except Exception as error:
            self.undraw(found.probe, f"step {step}", error, raises=found.raises)
        return pictures


def _draw_pixels(draw: Callable[[], Figure | None]) -> Pixels | None:
    figure = draw()
    if figure is None:
        return None
    pixels = to_pixels(figure)
    give_back(figure)
    return pixels
