"""When a probe looks: functions from an optimizer step to yes or no."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import floor, inf, log10


class Schedule(ABC):
    """Says at which optimizer steps to look. Step 0 is before the first update."""

    @abstractmethod
    def __call__(self, step: int) -> bool:
        """Whether to look when `step` optimizer steps have been taken."""

    def bind(self, steps_per_epoch: float) -> Schedule:
        """Gives the schedule in steps alone, for a run whose epochs have so many optimizer steps."""
        return self

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
