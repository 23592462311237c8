"""Least changes that count as an emergence: three standard errors over stimuli, and a tenth at least."""

from __future__ import annotations

from math import sqrt
from statistics import NormalDist

LEAST = 0.1
"""Of shares, probabilities and AUCs, however many stimuli there are: a smaller change is real and no emergence."""

_ERRORS = 3


def least_change(error: float, among: int = 1) -> float:
    """Gives the least change of a number from 0 to 1 that counts, of its standard error.

    Args:
        error: standard error of one level. Two levels of the same stimuli differ by the square root of two times as
            much at most, if they are not correlated negatively.
        among: of how many series it is the one that ended highest. Three standard errors are more, so that the best of
            them by chance is as rare as one series alone (Bonferroni).
    """
    normal = NormalDist()
    errors = -normal.inv_cdf(normal.cdf(-_ERRORS) / among)
    return max(LEAST, errors * sqrt(2) * error)


def least_share(*stimuli: int) -> float:
    """Gives the least change of a share of stimuli, or of a mean probability over them, that counts.

    The variance of a mean of n numbers from 0 to 1 is at most 1 / 4n (Popoviciu 1935), that of a share of one half.

    Args:
        *stimuli: how many the mean is over, at least 1; several numbers for the mean of as many such means, those of
            tokens for one.

    Raises:
        ValueError: if there are none.
    """
    if not stimuli or min(stimuli) < 1:
        raise ValueError(f"A share is one of 1 stimulus or more; got {', '.join(map(str, stimuli)) or 'none'}.")
    return least_change(sqrt(sum(0.25 / count for count in stimuli)) / len(stimuli))


def least_auc(ones: int, others: int, among: int = 1) -> float:
    """Gives the least change of an area under the ROC curve that counts.

    The variance of one that is at chance, (a + b + 1) / 12ab, is that of Mann & Whitney (1947, Annals of Mathematical
    Statistics 18).

    Args:
        ones: stimuli that have what is told, at least 1.
        others: those that lack it, at least 1.
        among: of how many series, such as those of layers, it is the one that ended highest.

    Raises:
        ValueError: if there are none of one kind.
    """
    if min(ones, others) < 1:
        raise ValueError(f"An AUC is of 1 stimulus or more of each kind; got {ones} and {others}.")
    return least_change(sqrt((ones + others + 1) / (12 * ones * others)), among)
