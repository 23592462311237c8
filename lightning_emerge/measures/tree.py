"""Trees of tokens: which lie nearest, and which groups of them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def average_linkage(rdm: Float[Tensor, "token token"]) -> Float[Tensor, "merge 4"]:
    """Joins the two nearest groups of tokens until one is left; groups are as far apart as their tokens on average.

    Sokal & Michener (1958), UPGMA.

    Args:
        rdm: distances between tokens, two or more.

    Returns:
        One row a merge, as SciPy's `linkage` has them: the two groups' numbers (tokens first, then merges in their
        order), their distance, and how many tokens the new group has. All NaN if a distance is NaN.
    """
    count = len(rdm)
    if bool(rdm.isnan().any()):
        return rdm.new_full((count - 1, 4), torch.nan)
    members = {number: [number] for number in range(count)}
    merges: list[list[float]] = []
    for new in range(count, 2 * count - 1):
        near, one, other = min(
            (float(rdm[members[a]][:, members[b]].mean()), a, b) for a in members for b in members if a < b
        )
        members[new] = members.pop(one) + members.pop(other)
        merges.append([float(one), float(other), near, float(len(members[new]))])
    return rdm.new_tensor(merges)
