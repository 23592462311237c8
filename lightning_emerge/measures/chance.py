"""Chance: where what was found stands among what would be found if there were nothing to find."""

# SciPy has no types.
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lightning_emerge.measures.linear import wide

_TIE = 1e-12  # values that differ by less are equal but for rounding


def p_value(observed: Float[Tensor, "*shape"], among: Float[Tensor, "*shape n"]) -> Float[Tensor, "*shape"]:
    """Computes the share of values that are as large as the one that was observed, or larger.

    Phipson & Smyth (2010), *Permutation p-values should never be zero*.

    Args:
        observed: the value.
        among: those that chance gives, and the observed one as one of them.

    Returns:
        1 / n to 1.
    """
    return wide(among >= observed[..., None] - _TIE).mean(dim=-1)


def middle_range(among: Float[Tensor, " n"], share: float = 0.95) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Finds the range in the middle in which a share of values lies, between 0 and 1.

    Args:
        among: one value or more, in any unit.
        share: of the values.

    Returns:
        Its lower and upper ends, in the unit of the values, interpolated linearly between two of them; NaN if any is.
    """
    values, tail = wide(among), (1 - share) / 2
    low, high = torch.quantile(values, values.new_tensor([tail, 1 - tail]))
    return low, high


def exceedance(values: Float[Tensor, " n"], null: Float[Tensor, " m"]) -> Float[Tensor, " n"]:
    """Computes the p-values of many values by one null: (1 + numbers of it as large or larger) / (1 + its size).

    Phipson & Smyth (2010), equation 2.
    """
    # NumPy sorts several times as fast on a CPU.
    ordered = null.sort().values if null.device.type != "cpu" else torch.from_numpy(np.sort(null.numpy()))
    below = torch.searchsorted(ordered, values)
    return wide(1 + len(null) - below) / (1 + len(null))


def benjamini_hochberg(p: Float[Tensor, " n"], rate: float) -> Bool[Tensor, " n"]:
    """Chooses what is discovered at a false-discovery rate (Benjamini & Hochberg 1995).

    Args:
        p: p-values, 0 to 1.
        rate: of false ones among the discoveries, 0 to 1.
    """
    from scipy.stats import false_discovery_control

    return torch.from_numpy(false_discovery_control(p.cpu().numpy()) <= rate).to(p.device)
