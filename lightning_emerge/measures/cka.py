"""Centred kernel alignment (CKA): how alike two layers lay out the same stimuli, whatever their units.

Kornblith et al. (2019), *Similarity of neural network representations revisited*. What is compared are the inner
products of the stimuli's responses about their mean, `Geometry.gram`; each layer is multiplied once, however many it is
compared with.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lightning_emerge.measures.linear import wide

_NOTHING = 1e-24  # of a gram's largest entry, squared: what is left of products that are constant but for rounding


def debiased_cka(grams: Float[Tensor, "layer stimulus stimulus"]) -> Float[Tensor, "layer layer"]:
    """Computes the CKA of each pair of layers from the unbiased estimate of their alignment (`debiased_hsic`).

    Returns:
        Symmetric matrix, zero on average for unrelated layers and so also below it; 1 on its diagonal. NaN for a layer
        that answers all stimuli alike, and with fewer than 4 stimuli.
    """
    return _normalised(debiased_hsic(grams), grams)


def debiased_alignment(
    a: Float[Tensor, "output output_b stimulus stimulus_b"], b: Float[Tensor, "output output_b stimulus stimulus_b"]
) -> Float[Tensor, ""]:
    """Computes the centred alignment of two kernels of several outputs, in the way of `debiased_cka`.

    Of each pair of outputs there is a matrix of stimuli, whose U-centred inner products are added up over pairs. So
    each output is compared about its mean over stimuli, and a stimulus with itself has no part in it: in a space of
    many dimensions this is most of a kernel, and unrelated ones would look alike by it.

    Args:
        a: inner products of what stands for a stimulus and an output; no matrix of a pair need be symmetric.
        b: likewise, of the same stimuli.

    Returns:
        1 if the kernels are the same but for a factor, about 0 if they are unrelated, and below 0 by chance. NaN for
        one that is the same for all stimuli, and with fewer than 4.
    """
    grams = torch.stack([a, b])
    if grams.shape[-1] < 4:
        return wide(grams).new_tensor(torch.nan)
    return _normalised(_inner(_u_centred(wide(grams))), grams)[0, 1]


def debiased_hsic(grams: Float[Tensor, "layer stimulus stimulus"]) -> Float[Tensor, "layer layer"]:
    """Estimates the Hilbert-Schmidt independence criterion of each pair of layers without bias.

    Song et al. (2012), *Feature selection via dependence maximization*, JMLR 13, equation 5, as an inner product of
    U-centred matrices (Székely & Rizzo 2014): that of a layer with itself is a sum of squares, and never negative.

    Returns:
        Symmetric matrix, in the product of the layers' squared units; NaN with fewer than 4 stimuli.
    """
    grams, count = wide(grams), grams.shape[-1]
    if count < 4:
        return grams.new_full((len(grams), len(grams)), torch.nan)
    return _inner(_u_centred(grams)) / (count * (count - 3))


def _u_centred(grams: Tensor) -> Tensor:
    """Matrices without their diagonals, less the sum of a row's and a column's number that fits them best."""
    count = grams.shape[-1]
    apart = 1 - torch.eye(count, dtype=grams.dtype, device=grams.device)
    hollow = grams * apart
    rows, columns = hollow.sum(dim=-1, keepdim=True), hollow.sum(dim=-2, keepdim=True)
    common, skew = (rows + columns.transpose(-1, -2)) / 2, (rows - columns.transpose(-1, -2)) / 2
    own, other = common / (count - 2) + skew / count, common / (count - 2) - skew / count
    middle = rows.sum(dim=-2, keepdim=True) / ((count - 1) * (count - 2))
    return (hollow - own - other.transpose(-1, -2) + middle) * apart


def _inner(grams: Tensor) -> Tensor:
    flat = grams.flatten(1)
    return flat @ flat.T


def _normalised(alignment: Tensor, grams: Tensor) -> Tensor:
    largest = wide(grams).flatten(1).abs().amax(dim=1)
    some = alignment.diagonal() > _NOTHING * largest.square()
    own = torch.where(some, alignment.diagonal(), torch.nan).sqrt()
    return (alignment / own[:, None] / own[None, :]).clamp(max=1)
