"""How long before another a series emerged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lightning_emerge.analysis.crossing import correlate, pairs
from lightning_emerge.analysis.emergence_time import Looks, judge


@dataclass(frozen=True)
class Lead:
    """How many optimizer steps one series left its baseline before another.

    Attributes:
        steps: above zero if the first was first; None if one of them has not emerged.
        low: lower end of the 95% interval.
        high: upper end of it.
    """

    steps: float | None
    low: float | None
    high: float | None


def lead_time(
    steps: Sequence[int] | npt.ArrayLike, leader: npt.ArrayLike, follower: npt.ArrayLike, least: tuple[float, float]
) -> Lead:
    """Finds how long before another a series leaves its baseline for good: the lead of its onset.

    The interval holds the leads of all pairs of onsets that are together as likely as those of an interval of one.
    Where both have the same looks, what disturbs both alike at a look does not count as uncertainty of the lead. No
    lead is known better than the looks around both.

    Args:
        steps: step of each look, ascending.
        leader: (look,) the series that is thought to come first; looks with NaN are left out.
        follower: (look,) the other.
        least: the least change that counts of the one and of the other, as for `emergence_time`.

    Returns:
        The lead, above zero if `leader` is first.

    Raises:
        ValueError: as `emergence_time`.
    """
    looks = [Looks.of(steps, values) for values in (leader, follower)]
    found = [judge(own, least_own) for own, least_own in zip(looks, least, strict=True)]
    if not all(one.emerged for one in found):
        return Lead(None, None, None)
    one, other = found
    alike = correlate(one.rise, other.rise) if np.array_equal(looks[0].steps, looks[1].steps) else 0.0
    early, late = one.onset(), other.onset()
    (a_low, a_high), (b_low, b_high) = (_ends(own) for own in looks)
    shortest = np.subtract.outer(-a_high, -b_low)[pairs(early.late, late.early, alike)]
    longest = np.subtract.outer(-a_low, -b_high)[pairs(early.early, late.late, alike)]
    lead = looks[1].place(other.rise.begun) - looks[0].place(one.rise.begun)
    low, high = float(shortest.min()), float(longest.max())
    return Lead(min(max(lead, low), high), low, high)


def _ends(looks: Looks) -> tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]]:
    """The looks around each gap."""
    spans = [looks.span(gap, gap) for gap in range(len(looks.values) + 1)]
    low, high = zip(*spans, strict=True)
    return np.array(low), np.array(high)
