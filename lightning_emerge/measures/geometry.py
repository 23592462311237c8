"""What one matrix product leaves of a layer: stimulus by stimulus, all that RDMs, CKA and read-outs are made from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lightning_emerge.measures.linear import wide
from lightning_emerge.records import as_stored

_ROOM = 2**19  # entries: what stays in the processor's cache
_BLOCKS = 4


@dataclass(frozen=True)
class Geometry:
    """How the responses of a layer to some stimuli lie to each other.

    A pattern is a stimulus' responses without their mean over features. All else is worked out from squared distances
    of patterns, in float64 where the device has it, and never as a small difference of large numbers: an untrained
    layer that answers all stimuli nearly alike is resolved as well as any.

    Attributes:
        patterns: squared Euclidean distance between two stimuli's patterns, summed over features. NaN where a
            stimulus' responses are not finite.
        lengths: Euclidean norm of each pattern; 0 if the responses are all equal, or differ by rounding alone.
        means: mean of each stimulus' responses over features.
        features: how many features there are.
    """

    patterns: Float[Tensor, "stimulus stimulus"]
    lengths: Float[Tensor, " stimulus"]
    means: Float[Tensor, " stimulus"]
    features: int

    def __len__(self) -> int:
        return len(self.means)

    @cached_property
    def correlation(self) -> Float[Tensor, "stimulus stimulus"]:
        """One minus the Pearson correlation of two patterns, 0 to 2; NaN where a stimulus has no pattern."""
        lengths = torch.where(self.lengths > 0, self.lengths, torch.nan)
        scaled = (self.patterns - _differences(lengths).square()) / (2 * lengths[:, None] * lengths[None, :])
        return scaled.clamp(0, 2)

    @cached_property
    def squared(self) -> Float[Tensor, "stimulus stimulus"]:
        """Squared Euclidean distance between the responses to two stimuli, summed over features."""
        return self.patterns + self.features * _differences(self.means).square()

    @cached_property
    def gram(self) -> Float[Tensor, "stimulus stimulus"]:
        """Inner products of the responses to two stimuli, each less the mean response over stimuli."""
        return centred_gram(self.squared)

    def average(self, weights: Float[Tensor, "group stimulus"]) -> Geometry:
        """Gives the geometry of weighted means of stimuli, such as those of tokens.

        Args:
            weights: of each stimulus in each mean; rows add up to 1 (see `token_weights`).
        """
        weights = weights.to(self.patterns)
        spread = weights @ self.patterns @ weights.T
        within = spread.diagonal() / 2
        patterns = (spread - within[:, None] - within[None, :]).clamp(min=0)
        lengths = (weights @ self.lengths.square() - within).clamp(min=0).sqrt()
        return Geometry(patterns, lengths, weights @ self.means, self.features)


def layer_geometry(features: Float[Tensor, "stimulus feature"]) -> Geometry:
    """Measures the geometry of a layer's responses, with one product of the responses and their transpose.

    Patterns are brought to length 1 and to mean 0 over stimuli before they are multiplied, some thousand features at a
    time: the layer is never copied, and float32 loses nothing to what all stimuli have in common.

    Args:
        features: responses of a layer's units to each stimulus, flattened.
    """
    low, high = features.amin(dim=1, keepdim=True), features.amax(dim=1, keepdim=True)
    # A constant pattern is one that varies by no more than its own rounding.
    rounding = torch.maximum(low.abs(), high.abs()) * (8 * torch.finfo(features.dtype).eps)
    varied = (high - low > rounding) & (high - low).isfinite()
    means = features.mean(dim=1, keepdim=True)
    gain = torch.where(varied, 1 / (high - low), 0)
    squares = torch.zeros_like(means)
    for rows in _patterns(features, means, gain):
        squares += rows.square_().sum(dim=1, keepdim=True)
    unit = torch.where(varied, gain / squares.sqrt(), 0)
    products, all_vary = features.new_zeros(len(features), len(features)), bool(varied.all())
    for rows in _patterns(features, means, unit):
        if not all_vary:
            rows.masked_fill_(~varied, 0)
        add_products(products, rows.sub_(rows.mean(dim=0)))
    products = wide(products.triu() + products.triu(1).T)
    wide_means = wide(means[:, 0])
    lengths = torch.where(varied[:, 0], 1 / wide(unit[:, 0]), wide_means * 0)
    own = products.diagonal()
    apart = (own[:, None] + own[None, :] - 2 * products).clamp(0, 4)
    patterns = _differences(lengths).square() + lengths[:, None] * lengths[None, :] * apart
    return Geometry(patterns, lengths, wide_means, features.shape[1])


def activation_geometry(activations: Float[Tensor, "stimulus ..."]) -> Geometry:
    """Measures the geometry of a layer's activations: `layer_geometry` of them, as `Capture.once` can ask for it.

    Features are taken in the order in which they lie in memory, which needs no copy and which no product depends on.
    """
    return layer_geometry(as_stored(activations).flatten(1))


def centred_gram(squared: Float[Tensor, "*batch stimulus stimulus"]) -> Float[Tensor, "*batch stimulus stimulus"]:
    """Turns squared Euclidean distances into inner products about the mean over stimuli.

    Torgerson (1952), *Multidimensional scaling: I. Theory and method*, Psychometrika 17: -1/2 H D H with H = I - 1/n.
    """
    rows = squared.mean(dim=-1, keepdim=True)
    return (rows + rows.transpose(-1, -2) - rows.mean(dim=-2, keepdim=True) - squared) / 2


def add_products(total: Tensor, rows: Tensor) -> None:
    """Adds rows @ rows.T to a matrix: its upper triangle and some of the lower: 5/8 of the work of all of it."""
    step = max(32, -(-len(rows) // _BLOCKS))
    for start in range(0, len(rows), step):
        total[start : start + step, start:].addmm_(rows[start : start + step], rows[start:].T)


def token_weights(labels: Int[Tensor, " stimulus"], tokens: int) -> Float[Tensor, "token stimulus"]:
    """Gives the weight of each stimulus in its token's mean, float64; a row of NaN for a token without stimuli."""
    member = torch.nn.functional.one_hot(labels, tokens).T
    return wide(member) / member.sum(dim=1, keepdim=True)


def deal_folds(labels: Int[Tensor, " stimulus"], folds: int) -> Int[Tensor, " stimulus"]:
    """Deals the exemplars of each token to folds 0, 1, ..., as equal in size as can be.

    Each fold has exemplars that follow each other. Neighbours in a folder or a data set are often views of one thing,
    such as frames of a film or augmented copies: dealt to folds in turn, a read-out would be tested on what it was
    fitted to.

    Args:
        labels: token of each stimulus.
        folds: how many; a token with fewer exemplars has one in each of the first folds.
    """
    same = labels[:, None] == labels[None, :]
    counts = same.sum(dim=1)
    return same.tril(-1).sum(dim=1) * counts.clamp(max=folds) // counts


def _patterns(features: Tensor, means: Tensor, gain: Tensor) -> Iterator[Tensor]:
    """Gives the patterns times their gain, some thousand features at a time, in one piece of memory that is reused."""
    width = max(1, min(_ROOM // len(features), features.shape[1]))
    room = features.new_empty(len(features), width)
    for chunk in torch.split(features, width, dim=1):
        yield torch.sub(chunk, means, out=room[:, : chunk.shape[1]]).mul_(gain)


def _differences(values: Tensor) -> Tensor:
    return values[:, None] - values[None, :]
