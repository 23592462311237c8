"""Trees of tokens: which lie nearest, and which groups of them."""

# SciPy has no types.
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def average_linkage(rdm: Float[Tensor, "token token"]) -> Float[Tensor, "merge 4"]:
    """Joins the two nearest groups of tokens until one is left; groups are as far apart as their tokens on average.

    Sokal & Michener (1958), UPGMA.

    Args:
        rdm: distances between tokens, one or more.

    Returns:
        One row a merge, none of a single token, as SciPy has them: the two groups' numbers (tokens first, then merges
        in their order), their distance, and how many tokens the new group has. All NaN if a distance is NaN.
    """
    from scipy.cluster.hierarchy import average

    count = len(rdm)
    if count < 2 or bool(rdm.isnan().any()):
        return rdm.new_full((count - 1, 4), torch.nan)
    rows, columns = torch.triu_indices(count, count, 1, device=rdm.device)
    return torch.from_numpy(average(rdm[rows, columns].double().cpu().numpy())).to(rdm)
