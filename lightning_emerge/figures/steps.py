"""The axis of optimizer steps, the same in all pictures and in the tab: linear to 10, and logarithmic beyond."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

STEPS = "optimizer steps (log beyond 10)"
"""What the axis is called."""

_LINEAR = 10  # up to here steps are as far apart as they are many; they take as much room as each decade beyond
_MARGIN, _CROWDED = 0.02, 0.92  # shares of the axis: before the first and after the last step, and where ticks end


def place(step: int, last: int) -> float:
    """Where a step lies on an axis from step 0 to the last: 0 to 1.

    Args:
        step: optimizer steps taken, from 0 to `last`.
        last: those taken at the end of the axis.
    """
    return float(_to_places(np.array(step)) / _to_places(np.array(last))) if last > 0 else 0.0


def ticks(last: int) -> list[int]:
    """Steps to name on an axis that ends at the last: 0, 5, 10 and the decades beyond; the last step is always named.

    On an axis that ends by 10 they are evenly apart.
    """
    if last <= 0:
        return [0]
    width = max(1, next(k for k in (1, 2, 5) if k >= last / 4)) if last <= _LINEAR else 5
    beyond = 10 ** np.arange(1, math.ceil(math.log10(last)) + 1) if last > _LINEAR else []
    named = [*range(0, _LINEAR, width), *(int(step) for step in beyond)]
    return [*(step for step in named if step == 0 or place(step, last) < _CROWDED), last]


def scale_steps(axes: Axes, last: int, *, named: bool = True) -> None:
    """Makes the x axis of what was drawn over steps one of steps, from 0 to the last, with all of it in view.

    Args:
        axes: what was drawn over steps.
        last: the last step.
        named: whether the axis is called by its name.
    """
    axes.set_xscale("function", functions=(_to_places, _to_steps))
    axes.set_xticks(ticks(last))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}" if value < 1e5 else f"{value:.0f}")
    end = max(0.1, float(_to_places(np.array(last))))
    left, right = _to_steps(np.array([-_MARGIN, 1 + _MARGIN]) * end)
    axes.set_xlim(float(left), float(right))
    if named:
        axes.set_xlabel(STEPS, fontsize=9)


def _to_places(steps: npt.NDArray[np.number]) -> npt.NDArray[np.float64]:
    steps = np.asarray(steps, np.float64)
    return np.where(steps < _LINEAR, steps / _LINEAR, np.log10(np.maximum(steps, _LINEAR)))


def _to_steps(places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.where(places < 1, places * _LINEAR, 10 ** np.maximum(places, 1))
