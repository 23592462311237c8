"""How well a network tells each token: accuracy and confidence."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def accuracy_by_token(
    logits: Float[Tensor, "stimulus token"], labels: Int[Tensor, " stimulus"]
) -> Float[Tensor, " token"]:
    """Computes the share of each token's stimuli whose largest logit is their own token's.

    Returns:
        0 to 1 for each token; NaN for a token without stimuli. On a tie the token with the lowest label wins;
        a stimulus with a NaN among its logits is classified wrongly.
    """
    right = (logits.argmax(dim=1) == labels) & ~logits.isnan().any(dim=1)
    return _mean_by_token(right.to(logits.dtype), labels, logits.shape[1])


def confidence_by_token(
    logits: Float[Tensor, "stimulus token"], labels: Int[Tensor, " stimulus"]
) -> Float[Tensor, " token"]:
    """Averages, over each token's stimuli, the softmax probability given to their own token.

    Returns:
        0 to 1 for each token; NaN for a token without stimuli.
    """
    own = logits.softmax(dim=1).gather(1, labels[:, None])[:, 0]
    return _mean_by_token(own, labels, logits.shape[1])


def _mean_by_token(values: Tensor, labels: Tensor, tokens: int) -> Tensor:
    sums = values.new_zeros(tokens).index_add_(0, labels, values)
    return sums / torch.bincount(labels, minlength=tokens)
