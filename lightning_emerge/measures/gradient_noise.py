"""How much of a gradient is signal: the gradients of single stimuli against their mean."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

_ROUNDING = 16
"""Steps of the mean gradients' floating type within which a variance is rounding alone."""


@dataclass(frozen=True)
class Noise:
    """The noise of a layer's gradient, estimated without bias.

    Attributes:
        signal: estimate of |G|^2, the squared norm of the true mean gradient; below zero where noise hides it.
        variance: estimate of tr(Sigma), the variance of one stimulus' gradient, summed over weights.
        gsnr: mean over weights of squared mean gradient over variance.
    """

    signal: Float[Tensor, ""]
    variance: Float[Tensor, ""]
    gsnr: Float[Tensor, ""]


def gradient_noise(
    means: Float[Tensor, "token ..."], square: Float[Tensor, "*weight"], counts: Int[Tensor, " token"]
) -> Noise:
    """Estimates signal and noise of a layer's gradient from those of stimuli whose numbers by token are fixed.

    With w^2 a weight's variance within tokens (over n stimuli of k tokens, with n - k), the squared mean gradient is
    mean^2 - w^2/n, as mean^2 alone expects w^2/n too much. The variance, of a stimulus of any token, is that between
    tokens and (1 - (k - 1)/n) w^2, as means of tokens differ by chance too. With one token these are the variance s^2
    with n - 1, and mean^2 - s^2/n. To take s^2/n with several would be wrong: fixed numbers leave no chance which
    tokens are sampled, and their gradients cancel more than those of chance would.

    Sums over weights estimate |G|^2 and tr(Sigma), and the mean over weights of their ratio is the signal-to-noise
    ratio. For normal gradients the inverse of a variance that is estimated with n - 1 degrees of freedom is too large
    by 2/(n - 3), so the squared mean over it is taken 1 - 2/(n - 1) times: the ratio then has no bias either, and is 0
    on average where there is noise alone.

    A weight whose gradient is the same for all stimuli, zero for one, has no ratio and is left out of the mean. So is
    one with no variance above the rounding of the mean gradients.

    Source: GSNR: Liu et al., Understanding Why Neural Networks Generalize Well Through GSNR of Parameters, ICLR 2020,
    section 2.1, there without correction for n. |G|^2 and tr(Sigma): McCandlish et al., An Empirical Model of
    Large-Batch Training, 2018, appendix A.1, with batches of 1 and n, for stimuli sampled regardless of token.

    Args:
        means: mean over each token's stimuli of the gradient.
        square: mean over all stimuli of its square, weight by weight.
        counts: stimuli of each token; tokens without any are left out. Where tokens have different numbers, variances
            within them are taken to be alike.

    Returns:
        NaN in all three if no token has two stimuli; NaN as gsnr if no weight has a variance, and with fewer than 4
        stimuli.
    """
    shares = counts[counts > 0].to(square) / counts.sum()
    count, tokens = int(counts.sum()), len(shares)
    present = means[counts > 0].to(square.dtype)
    squared = _weigh(shares, present).square()
    of_tokens = _weigh(shares, present.square())
    within = (square - of_tokens).clamp(min=0) * (count / (count - tokens) if count > tokens else torch.nan)
    signals = squared - within / count
    variances = (1 - (tokens - 1) / count) * within + of_tokens - squared
    varies = variances > _ROUNDING * torch.finfo(means.dtype).eps * square
    kept = 1 - 2 / (count - 1) if count > 3 else torch.nan
    ratios = torch.where(varies, (kept * squared - within / count) / variances, torch.nan)
    gsnr = torch.where(variances.isnan().any(), torch.nan, ratios.nanmean())
    return Noise(signals.sum(), variances.sum(), gsnr)


def noise_scale(signal: Float[Tensor, ""], variance: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Computes the simple noise scale tr(Sigma) / |G|^2: about the batch at which signal and noise are of one size.

    Source: McCandlish et al., An Empirical Model of Large-Batch Training, 2018, equation 2.9.

    Args:
        signal: estimate of |G|^2.
        variance: estimate of tr(Sigma).

    Returns:
        A number of stimuli, zero or above. NaN if the signal is not above zero: it is smaller than the stimuli can tell
        from none. To average noise scales, average signal and variance and divide then, as leaving such looks out
        leaves out the largest.
    """
    return torch.where(signal > 0, variance / signal, torch.nan)


def _weigh(shares: Tensor, rows: Tensor) -> Tensor:
    return (shares @ rows.flatten(1)).view(rows.shape[1:])
