"""A run's loggers, told in the training thread what was found; one that fails gets nothing more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from queue import SimpleQueue

from lightning.pytorch.utilities.seed import isolate_rng

from lightning_emerge.engine.costs import LOG, Costs
from lightning_emerge.records import Measurement, Pixels
from lightning_emerge.sinks.loggers import LoggerSink


class Loggers:
    """Logs what was found. The training thread calls it, since Lightning logs there too: no two calls ever overlap.

    What a logger does to the random streams is undone.

    Args:
        sinks: one a logger.
        costs: where the time is noted.
        fail: is told of a logger that raised, which gets nothing more: what to report, and the error.
    """

    def __init__(self, sinks: Sequence[LoggerSink], costs: Costs, fail: Callable[[str, Exception], None]) -> None:
        self._sinks, self._costs, self._fail = list(sinks), costs, fail
        self._drawn: SimpleQueue[tuple[int, Mapping[str, Pixels]]] = SimpleQueue()

    @property
    def draws(self) -> bool:
        """Whether any of them takes pictures."""
        return any(sink.shows for sink in self._sinks)

    def leave(self, step: int, pictures: Mapping[str, Pixels]) -> None:
        """Leaves pictures for the next call of `show`; any thread may."""
        self._drawn.put((step, pictures))

    def log(self, step: int, measurements: Sequence[Measurement]) -> None:
        """Logs what was measured at a step."""
        shown = [*measurements, *self._costs.measure(step)] if self._sinks else []
        self._each(self._sinks, step, lambda sink: sink.write(step, shown))

    def show(self) -> None:
        """Logs the pictures that were left."""
        while not self._drawn.empty():
            step, pictures = self._drawn.get()
            showing = [sink for sink in self._sinks if sink.shows]
            self._each(showing, step, lambda sink, step=step, pictures=pictures: sink.show(step, pictures))

    def _each(self, sinks: Sequence[LoggerSink], step: int, log: Callable[[LoggerSink], None]) -> None:
        for sink in list(sinks):
            try:
                with isolate_rng(), self._costs.spend(LOG):
                    log(sink)
            except Exception as error:
                self._sinks.remove(sink)
                self._fail(f"{sink.name} could not log step {step}", error)
