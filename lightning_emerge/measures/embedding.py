"""Stimuli as points in a plane: principal components, one picture laid over another, and how far to trust them."""

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
    about, middle = points - points.mean(dim=0), target.mean(dim=0)
    cross = about.T @ (target - middle)
    # The nearest rotation of cross = U S V' is U V' = (cross cross')^-1/2 cross, here from eigenvectors.
    values, left = eigenvectors(cross @ cross.T)
    if not bool(values[0] > 0):
        return about + middle
    turn = left @ (left / values.sqrt()).T @ cross
    return about @ turn + middle


def trustworthiness(
    squared: Float[Tensor, "stimulus stimulus"], points: Float[Tensor, "stimulus axis"], neighbours: int
) -> Float[Tensor, ""]:
    """Computes how far the neighbours that a picture shows are neighbours in the layer.

    Venna & Kaski (2001), *Neighborhood preservation in nonlinear projection methods*.

    Args:
        squared: squared distances in the layer, or anything that grows with the distance.
        points: the picture.
        neighbours: how many of each point count, fewer than half the stimuli.

    Returns:
        0 to 1, 1 if all neighbours in the picture are neighbours in the layer, about 0.5 for points at random.
    """
    count = len(squared)
    ranks = _ranks_from(squared)
    near = _ranks_from(torch.cdist(wide(points), wide(points))) <= neighbours
    intruders = wide((ranks - neighbours).clamp(min=0) * near).sum()
    return 1 - intruders * 2 / (count * neighbours * (2 * count - 3 * neighbours - 1))


def _ranks_from(distances: Tensor) -> Tensor:
    """The rank of each other stimulus by its distance, from 1; 0 for the stimulus itself."""
    apart = wide(distances).clone().fill_diagonal_(-torch.inf)
    return apart.argsort(dim=1, stable=True).argsort(dim=1)
