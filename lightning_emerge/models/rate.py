"""A learning rate that rises and falls over a run, up to that of the optimizer."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR


class RiseAndFall(OneCycleLR):
    """Lets the learning rate rise to the optimizer's own, and fall to nearly zero, each along half a cosine.

    It is one cycle of Smith & Topin (2019), *Super-convergence*. Its height is the optimizer's `lr`, and the momentum
    stays as it is. A rate that is high at once turns filters before anything is learned, with shuffled labels as far as
    with the tokens' own; see docs/regimes.md.

    Args:
        optimizer: whose rate it sets.
        total_steps: optimizer steps of the run; `TokenClassifier` gives them.
        rise: share of them after which the rate is highest, above 0 to below 1.
        start: share of its height at which it begins, above 0 to 1.

    Raises:
        ValueError: if an argument is out of its range, or the steps are not known.
    """

    def __init__(
        self, optimizer: Optimizer, total_steps: int | None = None, rise: float = 0.5, start: float = 1e-3
    ) -> None:
        if not 0 < rise < 1:
            raise ValueError(f"RiseAndFall: rise is above 0 and below 1; got {rise}.")
        if not 0 < start <= 1:
            raise ValueError(f"RiseAndFall: start is above 0 and at most 1; got {start}.")
        highest = [float(group["lr"]) for group in optimizer.param_groups]
        super().__init__(
            optimizer, highest, total_steps=total_steps, pct_start=rise, cycle_momentum=False, div_factor=1 / start
        )
