"""A learning rate that rises and falls over a run, up to that of the optimizer."""

from __future__ import annotations

from math import cos, inf, pi

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


class RiseAndFall(LambdaLR):
    """Lets the learning rate rise to the optimizer's own, by the same factor at each step, and fall to zero.

    It falls along half a cosine (Loshchilov & Hutter 2017, equation 5, without restarts). A rate that is high at once
    turns filters before anything is learned, with shuffled labels as far as with the tokens' own; and with one that
    grows slowly where learning begins, tokens emerge slowly enough to be looked at. See docs/regimes.md.

    Args:
        optimizer: whose rate it sets.
        total_steps: optimizer steps of the run, at least 1; `TokenClassifier` gives them.
        rise: share of them after which the rate is highest, 0 to 1.
        start: share of its height at which it begins, above 0 to 1.

    Raises:
        ValueError: if an argument is out of its range, or the steps are not known.
    """

    def __init__(
        self, optimizer: Optimizer, total_steps: int | None = None, rise: float = 0.5, start: float = 1e-3
    ) -> None:
        if total_steps is None or not 1 <= total_steps < inf:
            raise ValueError(f"RiseAndFall: total_steps is the run's number of optimizer steps; got {total_steps}.")
        if not 0 <= rise <= 1:
            raise ValueError(f"RiseAndFall: rise is a share of the steps, 0 to 1; got {rise}.")
        if not 0 < start <= 1:
            raise ValueError(f"RiseAndFall: start is above 0 and at most 1; got {start}.")
        self.total_steps, self.rise, self.start = total_steps, rise, start
        super().__init__(optimizer, self._share)

    def _share(self, step: int) -> float:
        top = self.rise * self.total_steps
        if step < top:
            return self.start ** (1 - step / top)
        return 0.5 + 0.5 * cos(pi * min(1.0, (step - top) / max(self.total_steps - top, 1)))
