"""Answers about runs, each in its own time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Hashable
from concurrent.futures import Future, wait
from heapq import heappop, heappush
from queue import SimpleQueue
from threading import Lock, Thread
from time import monotonic
from typing import Any

Work = Callable[[], Any]

_LONG, _TICK = 2.0, 0.1


class Lanes:
    """Does what is asked of one run after the other, and of several runs at once, so that none waits for another.

    As memory that is set aside in a thread is not given back, the first threads do all that they can. One that has been
    at the same work for more than 2 s is not counted as one of `most`, so that work that hangs takes no thread from the
    other lanes; its own lane has no second one. The threads end with the program, whatever they are doing.

    Args:
        most: threads that work.
        ever: threads, with those whose work takes long.
    """

    def __init__(self, most: int, ever: int = 72) -> None:
        self._most, self._lock = most, Lock()
        self._free, self._threads = list(range(ever)), dict[int, SimpleQueue[Hashable]]()
        self._since: dict[int, float] = {}
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

    def wait(self, futures: Collection[Future[Any]], limit: float) -> bool:
        """Waits so many seconds at most; says whether all is done."""
        end = monotonic() + limit
        while wait(futures, max(0.0, min(_TICK, end - monotonic()))).not_done:
            if monotonic() >= end:
                return False
            with self._lock:
                self._start()
        return True

    def drop(self, lane: Hashable, future: Future[Any]) -> None:
        """Forgets work that nobody waits for any more, unless it has begun."""
        with self._lock:
            if lane not in self._work:
                return
            self._work[lane] = deque(one for one in self._work[lane] if one[0] is not future)
            if not self._work[lane] and lane in self._waiting:
                self._waiting.remove(lane)
                del self._work[lane]

    def _start(self) -> None:
        while self._waiting and self._free and self._count_working() < self._most:
            number = heappop(self._free)
            if number not in self._threads:
                self._threads[number] = SimpleQueue()
                Thread(target=self._serve, args=(number,), name=f"emerge_{number}", daemon=True).start()
            self._since[number] = monotonic()
            self._threads[number].put(self._waiting.popleft())

    def _count_working(self) -> int:
        now = monotonic()
        return sum(now - since < _LONG for since in self._since.values())

    def _serve(self, number: int) -> None:
        while True:
            self._run(number, self._threads[number].get())

    def _run(self, number: int, lane: Hashable) -> None:
        while True:
            with self._lock:
                if not self._work[lane]:
                    del self._work[lane], self._since[number]
                    heappush(self._free, number)
                    self._start()
                    return
                future, work = self._work[lane].popleft()
                self._since[number] = monotonic()
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)
