"""Whether things emerged in an order that was foretold, against shuffled orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from lightning_emerge.measures.chance import middle_range, p_value

_SHUFFLES = 9999


@dataclass(frozen=True)
class Order:
    """How far emergence times follow an order of groups.

    Attributes:
        agreement: share of pairs of things from different groups that emerged in the order foretold, ties counting
            half; 0.5 by chance.
        low: lower end of what 95% of shuffled orders have.
        high: upper end.
        p_value: share of shuffled orders that agree as well or better, this one included.
        pairs: how many pairs were compared.
        seen: how many things of all were seen to emerge; of none nothing is known about their order.
        things: how many there are.
    """

    agreement: float
    low: float
    high: float
    p_value: float
    pairs: int
    seen: int
    things: int


def compare_order(runs: Sequence[Mapping[str, Sequence[float | None]]], order: Sequence[str], seed: int = 0) -> Order:
    """Compares the order in which groups of things emerged with one that was foretold.

    The statistic is that of Jonckheere (1954, Biometrika 41) and Terpstra, as a share. Things of one run are compared
    with each other alone, and which group a thing is of is shuffled 9,999 times: alike in all runs with as many things
    in each group, which are taken to be the same things, since seeds of one task are no independent tests.

    Its p-value is about the order only if times of different groups can be exchanged: if all are read off the same
    measure, and no thing is another by a second name. A probability and an AUC that come of the same responses reach
    10% of their ways at different steps.

    Args:
        runs: for each run, group -> emergence times of its things, in steps, in the same order in each run; None is
            later than anything.
        order: names of the groups, the first to emerge first; groups that a run lacks are left out.
        seed: of the shuffles.

    Raises:
        ValueError: if no run has things of two groups.
    """
    tables = [_Table.of(run, order) for run in runs]
    tables = [table for table in tables if table.pairs]
    pairs = sum(table.pairs for table in tables)
    if not pairs:
        raise ValueError(
            f"An order is one of things in two groups or more; no run has things in two of {', '.join(order)}."
        )
    rng = np.random.default_rng(seed)
    agreements = torch.from_numpy(_agreements(tables, rng) / pairs)
    low, high = middle_range(agreements[1:])
    times = [time for run in runs for name in order for time in run.get(name, ())]
    seen = sum(time is not None for time in times)
    return Order(
        float(agreements[0]),
        float(low),
        float(high),
        float(p_value(agreements[0], agreements)),
        pairs,
        seen,
        len(times),
    )


def _agreements(tables: Sequence[_Table], rng: np.random.Generator) -> npt.NDArray[np.floating]:
    """How many pairs agree: at first as groups are, then if they are shuffled, alike in runs of the same things."""
    shuffles = [[rng.permutation(table.groups) for table in tables] for _ in range(_SHUFFLES)]
    alike: dict[bytes, list[int]] = {}
    for number, table in enumerate(tables):
        alike.setdefault(table.groups.tobytes(), []).append(number)
    total = np.zeros(1 + _SHUFFLES)
    for same in alike.values():
        groups, before = tables[same[0]].groups, sum(tables[number].before for number in same)
        among = np.stack([groups, *(orders[same[0]] for orders in shuffles)])
        for late in range(1, int(groups.max()) + 1):  # sums of halves, which are exact in any order
            total += np.einsum("si,ij,sj->s", among < late, before, among == late, optimize=True)
    return total


@dataclass(frozen=True)
class _Table:
    """Things of a run: which was before which, and of which group each is."""

    before: npt.NDArray[np.floating]
    groups: npt.NDArray[np.integer]
    pairs: int

    @staticmethod
    def of(run: Mapping[str, Sequence[float | None]], order: Sequence[str]) -> _Table:
        named = [(number, time) for number, name in enumerate(order) for time in run.get(name, ())]
        times = np.array([np.inf if time is None else time for _, time in named], np.float64)
        groups = np.array([number for number, _ in named], np.int64)
        before = (times[:, None] < times[None, :]) + 0.5 * (times[:, None] == times[None, :])
        return _Table(before, groups, int((groups[:, None] < groups[None, :]).sum()))
