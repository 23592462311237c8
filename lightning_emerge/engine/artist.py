"""The artist: calls what draws in a thread of its own, so that a drawing that never ends keeps nobody."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import Any

PATIENCE = 60.0
"""Seconds that a drawing may take."""


class TooSlowError(RuntimeError):
    """A drawing took longer than it may, or an earlier one still does."""


@dataclass
class _Order:
    """What is to be called, and what came of it."""

    make: Callable[[], Any]
    done: Event = field(default_factory=Event)
    value: Any = None
    error: BaseException | None = None


class Artist:
    """Makes one thing at a time. One that takes too long is left alone, and nothing else is made until it ends.

    Attributes:
        patience: seconds to wait; it may be made shorter while somebody waits.
    """

    def __init__(self) -> None:
        self.patience = PATIENCE
        self._orders: SimpleQueue[_Order | None] = SimpleQueue()
        self._turn = Lock()
        self._stuck: _Order | None = None
        # Nothing waits for it when the process ends: it may never come back.
        Thread(target=self._work, name="lightning_emerge artist", daemon=True).start()

    def make(self, make: Callable[[], Any]) -> Any:
        """Calls a function and gives what it returns.

        Raises:
            TooSlowError: if it takes too long, or one before it still does.
            Exception: what the function raises. `SystemExit` and the like become a `RuntimeError`.
        """
        with self._turn:
            if self._stuck is not None and not self._stuck.done.is_set():
                raise TooSlowError("an earlier drawing has not come to its end")
            order, began = _Order(make), time.monotonic()
            self._orders.put(order)
            while not order.done.wait(0.1):
                if time.monotonic() - began > self.patience:
                    self._stuck = order
                    raise TooSlowError(f"it took more than {self.patience:g} s and was left alone")
        if isinstance(order.error, Exception):
            raise order.error
        if order.error is not None:
            raise RuntimeError(f"it raised {type(order.error).__name__}") from order.error
        return order.value

    @property
    def stuck(self) -> bool:
        """Whether a drawing that was left alone has not come to its end."""
        return self._stuck is not None and not self._stuck.done.is_set()

    def close(self) -> None:
        """Lets the thread end, when what it is at has come to its end."""
        self._orders.put(None)

    def _work(self) -> None:
        while (order := self._orders.get()) is not None:
            try:
                order.value = order.make()
            except BaseException as error:  # a drawing may call sys.exit
                order.error = error
            order.done.set()
