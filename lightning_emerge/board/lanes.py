"""Answers about runs, each in its own time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from heapq import heappop, heappush
from threading import Lock
from typing import Any

Work = Callable[[], Any]


class Lanes:
    """Does what is asked of one run after the other, and of several runs at once, so that none waits for another.

    As memory that is set aside in a thread is not given back, the first threads do all that they can.

    Args:
        most: threads.
    """

    def __init__(self, most: int) -> None:
        self._threads = [ThreadPoolExecutor(1, f"emerge_{number}") for number in range(most)]
        self._free, self._lock = list(range(most)), Lock()
        self._work: dict[Hashable, deque[tuple[Future[Any], Work]]] = {}
        self._waiting: deque[Hashable] = deque()

    def submit(self, lane: Hashable, work: Work) -> Future[Any]:
        """Has something done when all that was asked in its lane before is done."""
        future: Future[Any] = Future()
        with self._lock:
            if lane not in self._work:
                self._work[lane] = deque()
                self._waiting.append(lane)
            self._work[lane].append((future, work))
            self._start()
        return future

    def _start(self) -> None:
        while self._free and self._waiting:
            number = heappop(self._free)
            self._threads[number].submit(self._run, number, self._waiting.popleft())

    def _run(self, number: int, lane: Hashable) -> None:
        while True:
            with self._lock:
                if not self._work[lane]:
                    del self._work[lane]
                    heappush(self._free, number)
                    self._start()
                    return
                future, work = self._work[lane].popleft()
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
