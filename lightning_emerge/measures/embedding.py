"""Stimuli as points in a plane: principal components, and one picture laid over another."""

# SciPy has no types.
# pyright: reportMissingTypeStubs=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_emerge.measures.geometry import centred_gram
from lightning_emerge.measures.linear import eigenvectors, wide


def principal_scores(
    squared: Float[Tensor, "stimulus stimulus"], components: int
) -> tuple[Float[Tensor, "stimulus component"], Float[Tensor, " component"]]:
    """Finds the principal components of responses from their squared Euclidean distances (Torgerson 1952).

    Args:
        squared: squared distances between the responses to two stimuli.
        components: how many, fewer than stimuli.

    Returns:
        Scores of the stimuli, each component's largest positive, in the responses' unit; and the share of the variance
        that each component has, 0 to 1. All NaN if the distances are not finite or all zero.
    """
    values, vectors = eigenvectors(centred_gram(wide(squared)))
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)[:, :components]
    total = torch.where(values.sum() > 0, values.sum(), torch.nan)
    largest = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True))
    scores = vectors * largest.sign() * values[:components].sqrt()
    return torch.where(total > 0, scores, torch.nan), values[:components] / total


def laid_over(
    points: Float[Tensor, "stimulus axis"], target: Float[Tensor, "stimulus axis"]
) -> Float[Tensor, "stimulus axis"]:
    """Moves, turns and mirrors points as a whole so that they come nearest to others (orthogonal Procrustes).

    Schönemann (1966), *A generalized solution of the orthogonal Procrustes problem*, Psychometrika 31. Distances stay.
    """
    from scipy.linalg import orthogonal_procrustes

    about, middle = points - points.mean(dim=0), target.mean(dim=0)
    turn, _ = orthogonal_procrustes(about.cpu().numpy(), (target - middle).cpu().numpy())
    return about @ torch.from_numpy(turn).to(about) + middle
