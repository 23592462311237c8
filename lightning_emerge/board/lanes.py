"""Answers about runs, each in its own time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any

Work = Callable[[], Any]


class Lanes:
    """Does what is asked of one run after the other, and of several runs at once, so that none waits for another.

    Threads are few and are used again, as memory that is set aside in many threads is not given back.

    Args:
        most: threads.
    """

    def __init__(self, most: int) -> None:
        self._pool, self._lock = ThreadPoolExecutor(most, "emerge"), Lock()
        self._waiting: dict[Hashable, deque[tuple[Future[Any], Work]]] = {}

    def submit(self, lane: Hashable, work: Work) -> Future[Any]:
        """Has something done when all that was asked in its lane before is done."""
        future: Future[Any] = Future()
        with self._lock:
            begin = lane not in self._waiting
            self._waiting.setdefault(lane, deque()).append((future, work))
        if begin:
            self._pool.submit(self._run, lane)
        return future

    def _run(self, lane: Hashable) -> None:
        while True:
            with self._lock:
                if not self._waiting[lane]:
                    del self._waiting[lane]
                    return
                future, work = self._waiting[lane].popleft()
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
