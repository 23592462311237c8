"""Points in a plane from distances, look after look."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]


def lay_out(squared: Iterable[Points], count: int) -> Points:
    """Lays stimuli out by classical multidimensional scaling at each look, each over the look before.

    Torgerson (1952), *Multidimensional scaling: I. Theory and method*; laid over each other by the rotation or
    reflection of Schönemann (1966), *A generalized solution of the orthogonal Procrustes problem*, never by scaling.

    Args:
        squared: at each look, squared distances (stimulus, stimulus).
        count: of stimuli.

    Returns:
        (look, stimulus, 2), centred, in the unit of distances; NaN for stimuli without distances.
    """
    looks: list[Points] = []
    before: Points | None = None
    for distances in squared:
        points = scale(distances)
        if before is not None:
            points = lay_over(points, before)
        looks.append(points)
        # A stimulus without distances now stays where it was for the looks that follow.
        before = points if before is None else np.where(np.isfinite(points), points, before)
    return np.stack(looks) if looks else np.empty((0, count, 2))


def scale(squared: Points) -> Points:
    """Classical multidimensional scaling of squared distances (stimulus, stimulus) into a plane (stimulus, 2).

    Stimuli that have no distance to most others, as those that a layer does not answer to, are left out: NaN.
    """
    points = np.full((len(squared), 2), np.nan)
    known = np.isfinite(squared).sum(axis=1) > len(squared) / 2
    own = squared[np.ix_(known, known)]
    if len(own) < 3 or not np.isfinite(own).all():
        return points
    own = (own + own.T) / 2
    centred = -0.5 * (own - own.mean(axis=0) - own.mean(axis=1)[:, None] + own.mean())
    lengths, directions = np.linalg.eigh(centred)
    points[known] = directions[:, :-3:-1] * np.sqrt(np.clip(lengths[:-3:-1], 0, None))
    return points


def lay_over(points: Points, before: Points) -> Points:
    """Turns and mirrors points (stimulus, 2) about the origin so that they lie nearest to where they were."""
    both = np.isfinite(points).all(axis=1) & np.isfinite(before).all(axis=1)
    if not both.any():
        return points
    left, _, right = np.linalg.svd(points[both].T @ before[both])
    return points @ (left @ right)
