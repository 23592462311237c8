"""When a probe looks: functions from an optimizer step to yes or no."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from math import ceil, floor, inf, isfinite, log10, sqrt
from statistics import median
from typing import Any


class Schedule(ABC):
    """Says at which optimizer steps to look. Step 0 is before the first update."""

    @abstractmethod
    def __call__(self, step: int) -> bool:
        """Whether to look when `step` optimizer steps have been taken."""

    def bind(self, steps_per_epoch: float) -> Schedule:
        """Gives the schedule in steps alone, for a run whose epochs have so many optimizer steps."""
        return self

    def hear(self, step: int, loss: float) -> None:
        """Takes the training loss of a step. A schedule follows the loss if its class has a `hear` of its own.

        It is called once for each step, in their order, before the schedule is asked about `step + 1`, and with the
        same numbers in all processes. Each run has a copy of the schedule; when a run resumes, the copy hears of all
        steps before anew. So what a schedule decides may depend on what it has heard, and on nothing else.

        Args:
            step: optimizer steps taken, from 1 on.
            loss: of the batch that this step learned from, the mean over its micro-batches and over processes, as
                float32. NaN if the step had none.
        """
        return  # most schedules are functions of the step alone

    def count_looks(self, steps: int) -> int:
        """Says how many looks a run of so many optimizer steps has; a schedule that follows the loss estimates it."""
        return sum(bool(self(step)) for step in range(steps + 1))

    def __or__(self, other: Schedule) -> AnyOf:
        return AnyOf([self, other])


class LogSpaced(Schedule):
    """Looks at step 0 and then at steps evenly spaced on a logarithmic axis, as emergence is quick early and slow late.

    Args:
        per_decade: looks from one power of ten to the next, 1 to 1000. Below about `per_decade / 2.3` steps, where
            looks would be less than one step apart, every step is looked at.
        first: no look between step 0 and this step, at least 1.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(self, per_decade: int = 20, first: int = 1) -> None:
        if not 1 <= per_decade <= 1000:
            raise ValueError(f"LogSpaced: per_decade lies in 1 to 1000; got {per_decade}.")
        if first < 1:
            raise ValueError(f"LogSpaced: first is at least 1; got {first}.")
        self.per_decade, self.first = per_decade, first

    def __call__(self, step: int) -> bool:
        if step < self.first:
            return step == 0
        nearest = floor(self.per_decade * log10(step) + 0.5)
        return any(round(10 ** (k / self.per_decade)) == step for k in (nearest - 1, nearest, nearest + 1))


class EverySteps(Schedule):
    """Looks at step 0 and at every n-th step.

    Args:
        n: steps from one look to the next, at least 1.

    Raises:
        ValueError: if `n` is below 1.
    """

    def __init__(self, n: int) -> None:
        if n < 1:
            raise ValueError(f"EverySteps: n is at least 1; got {n}.")
        self.n = n

    def __call__(self, step: int) -> bool:
        return step % self.n == 0


class Epochs(Schedule):
    """Looks at step 0 and at the end of every n-th epoch.

    Args:
        n: epochs from one look to the next, at least 1.

    Raises:
        ValueError: if `n` is below 1.
    """

    def __init__(self, n: int = 1) -> None:
        if n < 1:
            raise ValueError(f"Epochs: n is at least 1; got {n}.")
        self.n = n

    def __call__(self, step: int) -> bool:
        raise RuntimeError("Epochs does not know how many steps an epoch has; call bind(steps_per_epoch) first.")

    def bind(self, steps_per_epoch: float) -> Schedule:
        if not 1 <= steps_per_epoch < inf:
            raise ValueError(
                f"Epochs: an epoch has a known number of steps; got {steps_per_epoch}. "
                "Give trainer.limit_train_batches, or watch its steps_per_epoch, or use EverySteps."
            )
        return EverySteps(self.n * int(steps_per_epoch))


class At(Schedule):
    """Looks at the steps listed.

    Args:
        steps: at least one step, none negative.

    Raises:
        ValueError: if the list is empty or a step is negative.
    """

    def __init__(self, steps: Sequence[int]) -> None:
        if not steps or min(steps) < 0:
            raise ValueError(f"At: steps is a list of at least one step, none negative; got {list(steps)}.")
        self.steps = frozenset(steps)

    def __call__(self, step: int) -> bool:
        return step in self.steps


class LossMoved(Schedule):
    """Looks at step 0, and whenever the training loss has moved by a share of its start since the last such look.

    So looks are dense where a network learns and rare where it does not, and following costs nothing: the loss is there
    anyway. What is compared is the median of the last few losses, so that one bad batch counts for nothing. A move that
    goes on in the direction of the one before takes the share alone; the first one, and one that turns around, also
    takes 3.5 standard errors of the noise between batches.

    A fall to zero has about `1 / share` looks if it is slow, and half of that if it takes 20 steps. They come about
    `window / 2` steps after the move. 100 steps of nothing but noise have less than one look on average.
    There is none before step `window + 2` but step 0; join it to `LogSpaced` for those. Losses that are not finite are
    left out, so that a run that has diverged is looked at no more.

    A replay, which has no loss, looks at all checkpoints whatever the schedule: give `Checkpoints` the same one.

    Args:
        share: of the loss at the start, more than 0 and at most 1. A loss that is further from its start than from zero
            counts its distance from the start instead.
        window: losses whose median is compared, 1 to 1000; the start is the median of the first of them.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(self, share: float = 0.05, window: int = 7) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"LossMoved: share is more than 0 and at most 1; got {share}.")
        if not 1 <= window <= 1000:
            raise ValueError(f"LossMoved: window lies in 1 to 1000; got {window}.")
        self.share, self.window = share, window
        self._losses = deque[float](maxlen=window)
        self._changes = deque[float](maxlen=_CHANGES)  # from one batch to the next: noise, whatever the trend
        self._start: float | None = None
        self._level = self._direction = 0.0
        self._looks = {0}

    def __call__(self, step: int) -> bool:
        return step in self._looks

    def hear(self, step: int, loss: float) -> None:
        if not isfinite(loss):
            return
        if self._losses:
            self._changes.append(abs(loss - self._losses[-1]))
        self._losses.append(loss)
        if len(self._losses) < self.window:
            return
        now = median(self._losses)
        if self._start is None:
            self._start = self._level = now
        elif self._moved(now - self._level, self.share * max(abs(self._start), abs(now - self._start))):
            self._looks.add(step + 1)
            self._direction, self._level = now - self._level, now

    def _moved(self, move: float, least: float) -> bool:
        if move * self._direction <= 0:
            least = max(least, _CERTAIN * _MEDIANS * median(self._changes) / _TYPICAL / sqrt(self.window))
        return abs(move) > least

    def count_looks(self, steps: int) -> int:
        return min(steps + 1, 1 + ceil(2 / self.share))


_CHANGES = 32
"""Changes from one loss to the next from which the noise is taken."""
_CERTAIN = 3.5
"""Standard errors that a move takes which turns around."""
_MEDIANS = 1.77
"""Standard deviation of the difference of two medians of n normal numbers, in units of theirs over the root of n."""
_TYPICAL = 0.954
"""Median distance of two normal numbers, in units of their standard deviation."""


def follows_loss(schedule: Any) -> bool:
    """Whether a schedule is to hear of the training loss."""
    if isinstance(schedule, AnyOf):
        return any(map(follows_loss, schedule.schedules))
    return isinstance(schedule, Schedule) and type(schedule).hear is not Schedule.hear


class AnyOf(Schedule):
    """Looks when at least one of several schedules says so.

    Args:
        schedules: at least one schedule.

    Raises:
        ValueError: if the list is empty.
    """

    def __init__(self, schedules: Sequence[Schedule]) -> None:
        if not schedules:
            raise ValueError("AnyOf: schedules is a list of at least one schedule; got an empty list.")
        self.schedules = tuple(schedules)

    def __call__(self, step: int) -> bool:
        return any(schedule(step) for schedule in self.schedules)

    def bind(self, steps_per_epoch: float) -> Schedule:
        return AnyOf([schedule.bind(steps_per_epoch) for schedule in self.schedules])

    def hear(self, step: int, loss: float) -> None:
        for schedule in filter(follows_loss, self.schedules):
            schedule.hear(step, loss)

    def count_looks(self, steps: int) -> int:
        following = [schedule for schedule in self.schedules if follows_loss(schedule)]
        others = [schedule for schedule in self.schedules if schedule not in following]
        known = sum(any(schedule(step) for schedule in others) for step in range(steps + 1))
        return min(steps + 1, known + sum(schedule.count_looks(steps) for schedule in following))
