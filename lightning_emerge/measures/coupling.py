"""Couplings: which filters of a convolution drive which filters of the next, beyond what its weights do in any order.

The null of both kinds of edge is the same: each filter's weights in random order. A filter keeps all its weights, its
bias and what it gets; which input each weight is of, and at which tap, is sampled anew, and the activities are worked
out again. So the null has the layer's weights and stimuli, and neither wiring nor shape of kernels. The weights of an
untrained network are in random order already, and so it differs from its null by chance alone.

All numbers of a filter are over the norm of its weights and the scale of its batch norm, which no order changes, and
each is given in standard deviations of the null of its input filter: neither an edge's strength nor its null depends on
how active the two filters are, as long as they are active at all, or on whether weights or batch norm make them so.

The correlation of an input and a filter comes along and is no edge. An input that is correlated with one that drives
the filter is correlated with the filter as well, and weights in random order do not have that: where inputs are tuned
to tokens, up to 0.9 of the edges that this null gave by correlation were false.

The floor of the cost is one convolution of the stimuli with the kernels and one gradient of it, for the layer's own
filters and for 128 or more that are sampled.
"""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, conv2d, pad
from torch.nn.grad import conv2d_weight

from lightning_emerge.measures.chance import benjamini_hochberg, exceedance
from lightning_emerge.measures.linear import wide
from lightning_emerge.records import Convolution

KINDS = ("weight", "effective")
"""Kinds of edges: by the norm of the kernel, and by what an input adds to a filter."""
RATE = 0.05
"""Rate of false discoveries among the edges of a pair of layers and a kind."""

_RANDOM = 128  # filters that are sampled for the null of a layer, at least
_ORDERS = 21  # for the null of kernels: beyond 1 / RATE, so that a single kernel counts, also once it is taken out
_ORDERED = 2**22  # weights that are put in order in all, at most, where that leaves fewer orders
_ROOM = 2**21  # numbers of a chunk's responses
_ROUNDS = 5  # of taking out of the null what counts, at most
_FLAT = 1e-4  # a spread below so much of the size is rounding


@dataclass(frozen=True)
class Activity:
    """How some filters and their inputs go together over stimuli.

    Attributes:
        activation: (filter, in) correlation of an input and a filter at the same place, given the place; NaN if one of
            them does not vary.
        effective: (filter, in) mean over stimuli and places of what an input adds to a filter, where the filter is
            above zero if a ReLU follows, in units of activation.
        alive: (filter,) whether the filter's output varies.
    """

    activation: Float[Tensor, "filter in"]
    effective: Float[Tensor, "filter in"]
    alive: Bool[Tensor, " filter"]


def couple(
    inputs: Float[Tensor, "stimulus in y x"], weight: Float[Tensor, "filter in v u"], convolution: Convolution
) -> Activity:
    """Works out how the filters of a convolution go with its inputs.

    Effective coupling is input times gradient, as in Shrikumar et al. (2017), section 2.2.2, of the filter's output
    summed over places, so that over inputs it adds up to the mean output without what the shift gives.

    Args:
        inputs: what the convolution gets.
        weight: its kernels, or others that take their place.
        convolution: what is made of it besides, with scale and shift of each filter.

    Returns:
        Correlation and effective coupling of each filter and input. Inputs are averaged over areas to the grid of the
        output where that is coarser.
    """
    cut = max(1, _ROOM * convolution.stride[0] * convolution.stride[1] // (len(weight) * inputs[0, 0].numel()))
    sums = _Sums(inputs, weight, convolution)
    for chunk in torch.arange(len(inputs), device=inputs.device).split(cut):
        sums.add(chunk)
    return sums.finish()


class _Sums:
    """Adds up over chunks of stimuli what `couple` needs."""

    def __init__(self, inputs: Tensor, weight: Tensor, convolution: Convolution) -> None:
        self.weight, self.convolution = weight, convolution
        self.padded = pad(inputs, convolution.padding)
        self.scale, self.shift = (of[:, None, None] for of in (convolution.scale, convolution.shift))
        self.grid = self._outputs(self.padded[:1]).shape[2:]
        here = inputs if inputs.shape[2:] == self.grid else adaptive_avg_pool2d(inputs, (self.grid[0], self.grid[1]))
        self.centred = (here - here.mean(dim=0)).flatten(2)
        self.size = wide(here.square().sum(dim=(0, 2, 3)))
        self.gradient = torch.zeros_like(weight)
        self.cross = wide(torch.zeros_like(weight[:, :, 0, 0]))
        self.first = wide(torch.zeros_like(weight[:, :1, 0, 0])).repeat(1, self.grid.numel())
        self.second = self.first[:, 0].clone()

    def _outputs(self, padded: Tensor) -> Tensor:
        made = self.convolution
        return conv2d(padded, self.weight, None, made.stride, 0, made.dilation) * self.scale + self.shift

    def add(self, chunk: Tensor) -> None:
        padded = self.padded[chunk]
        outputs = self._outputs(padded)
        gate = (outputs > 0).to(outputs) if self.convolution.rectified else torch.ones_like(outputs)
        made, shape = self.convolution, list(self.weight.shape)
        self.gradient += conv2d_weight(padded, shape, gate, made.stride, 0, made.dilation)  # pyright: ignore[reportArgumentType]
        outputs = (outputs * gate).flatten(2)
        self.first += outputs.sum(dim=0)
        self.second += outputs.square().sum(dim=(0, 2))
        self.cross += (outputs @ self.centred[chunk].transpose(1, 2)).sum(dim=0)

    def finish(self) -> Activity:
        count = len(self.padded)
        variance = self.second - self.first.square().sum(dim=1) / count
        spread = wide(self.centred.square().sum(dim=(0, 2)))
        alive, varies = variance > _FLAT**2 * self.second, spread > _FLAT**2 * self.size
        correlation = self.cross / (variance[:, None] * spread).sqrt()
        correlation = torch.where(alive[:, None] & varies, correlation.clamp(-1, 1), torch.nan)
        drive = (self.gradient * self.weight).sum(dim=(2, 3)) * self.scale[:, :, 0]
        return Activity(correlation, wide(drive) / (count * self.grid.numel()), alive)


def shuffle_kernels(
    weight: Float[Tensor, "filter in v u"], samples: int, generator: torch.Generator
) -> Float[Tensor, "sample filter in v u"]:
    """Puts each filter's weights in random order, over inputs and taps.

    Args:
        weight: kernels.
        samples: how many orders.
        generator: on the CPU, so that all devices have the same orders.
    """
    rows = weight.flatten(1).expand(samples, -1, -1)
    order = _random_orders(rows.shape, generator).to(weight.device)
    return rows.gather(2, order).view(samples, *weight.shape)


def _random_orders(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Random orders of the last axis, on the CPU, where NumPy sorts six times as fast."""
    return torch.from_numpy(torch.rand(tuple(shape), generator=generator).numpy().argsort(axis=-1))


def spread_stimuli(labels: Int[Tensor, " stimulus"], count: int) -> Int[Tensor, " chosen"]:
    """Chooses stimuli evenly, as many of each token as of any other, and at least one of each.

    Args:
        labels: token of each stimulus.
        count: how many, at most, if that is not below the number of tokens; all are chosen if there are no more.

    Returns:
        Positions of the chosen, in order. Of a token that has fewer than its share all are chosen.
    """
    if count >= len(labels):
        return torch.arange(len(labels), device=labels.device)
    tokens = labels.unique()
    share = max(1, count // len(tokens))
    return torch.cat([_spread((labels == token).nonzero()[:, 0], share) for token in tokens]).sort().values


def _spread(places: Tensor, count: int) -> Tensor:
    steps = torch.arange(min(count, len(places)), device=places.device)
    return places[(steps * len(places)) // len(steps)]


def coupling_strengths(
    inputs: Float[Tensor, "stimulus in y x"],
    weight: Float[Tensor, "filter in v u"],
    convolution: Convolution,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "kind filter in"], Float[Tensor, " kind"], Float[Tensor, "filter in"]]:
    """Measures each possible edge from an input to a filter against filters with their weights in random order.

    Args:
        inputs: what the convolution gets.
        weight: its kernels.
        convolution: what is made of it besides.
        generator: of the orders, on the CPU.

    Returns:
        Strengths by kind (`KINDS`), in standard deviations of the null; NaN for an input that is silent, a filter whose
        output does not vary, or an input whose null does not vary, and by weight if kernels have one weight each, which
        in another order are the same numbers. The smallest size of a strength that counts (`count_edges`) at a
        false-discovery rate of `RATE` in the kind; NaN if none counts. And the correlation of each input and filter, as
        `couple` has it, which says what goes together and not what drives what.
    """
    weight = weight.float()
    samples = max(2, -(-_RANDOM // len(weight)))
    orders = max(2 * samples, min(_ORDERS, _ORDERED // weight.numel()))
    sampled = torch.cat([weight[None], shuffle_kernels(weight, samples, generator)])
    more = Convolution(
        convolution.stride,
        convolution.dilation,
        convolution.padding,
        convolution.scale.repeat(samples + 1),
        convolution.shift.repeat(samples + 1),
        convolution.rectified,
    )
    seen = couple(inputs, sampled.flatten(0, 1), more)
    norm = (weight.flatten(1).norm(dim=1) * convolution.scale.abs())[:, None]
    alive = seen.alive.view(samples + 1, -1, 1) & (inputs.abs().amax(dim=(0, 2, 3)) > 0)
    effects = torch.where(alive, wide(seen.effective.view(sampled.shape[:3]) / norm), torch.nan)
    kinds = kernel_strengths(weight, alive[0], orders, generator), _against_inputs(effects)
    strengths, thresholds = (torch.stack(parts) for parts in zip(*kinds, strict=True))
    return strengths, thresholds, seen.activation[: len(weight)].float()


def kernel_strengths(
    weight: Float[Tensor, "filter in v u"], alive: Bool[Tensor, "filter in"], samples: int, generator: torch.Generator
) -> tuple[Float[Tensor, "filter in"], Float[Tensor, ""]]:
    """Measures the norm of each kernel against those of the filter's weights in random order.

    A few strong kernels lend their weights to the null of all and hide in it. So kernels that count are taken out of
    what the null is sampled from, and it is sampled again, until no more of them count; the weaker half of a filter's
    kernels always stays in. So does the weakest twentieth of what counts, as one in 20 of it belongs to the null, which
    would be too light without. Nothing is taken out where nothing counts, so that this finds no more in random kernels.

    Args:
        weight: kernels.
        alive: which edges there are.
        samples: how often each filter's weights are put in order.
        generator: of the orders, on the CPU.

    Returns:
        Strengths and threshold, as `coupling_strengths`; NaN for kernels of one weight, which no order changes.
    """
    if weight[0, 0].numel() == 1:
        nothing = torch.full_like(weight[:, :, 0, 0], torch.nan)
        return nothing, nothing[0, 0]
    norms: Tensor = wide(weight).flatten(2).norm(dim=2)
    order = _random_orders((samples, *weight.flatten(1).shape), generator).to(weight.device)
    weaker = norms <= norms.median(dim=1).values[:, None]
    inside = torch.ones_like(alive)
    strengths, least = _against_kernels(weight, norms, alive, inside, order)
    for _ in range(_ROUNDS):
        counted = strengths[strengths >= least].sort().values
        sure = counted[int(RATE * len(counted))] if len(counted) else least
        left = ~(strengths >= sure) | weaker
        if torch.equal(left, inside):
            break
        inside = left
        strengths, least = _against_kernels(weight, norms, alive, inside, order)
    return strengths, least


def _against_kernels(
    weight: Tensor, norms: Tensor, alive: Tensor, inside: Tensor, order: Tensor
) -> tuple[Tensor, Tensor]:
    """Judges norms by those of kernels of weights in random order, of the kernels inside; each over its filter's."""
    size = ((norms.square() * inside).sum(dim=1, keepdim=True) / inside.sum(dim=1, keepdim=True)).sqrt()
    chance = _ordered_norms(wide(weight) / size[:, :, None, None], inside, order)
    return _judge(torch.where(alive, norms / size, torch.nan), *_moments(chance), signed=False)


def _ordered_norms(weight: Tensor, inside: Tensor, order: Tensor) -> Tensor:
    """Norms (kernel,) over all samples and filters; a sample's kernels are made of the weights inside, in its order."""
    taps = weight[0, 0].numel()
    within = inside.repeat_interleave(taps, dim=1).expand_as(order).gather(2, order)
    sampled = weight.flatten(1).expand_as(order).gather(2, order)
    return sampled.masked_select(within).view(-1, taps).norm(dim=1)


def _against_inputs(values: Tensor) -> tuple[Tensor, Tensor]:
    """Judges the first of values (sample, filter, in) by the others, each input by its own."""
    return _judge(values[0], *_moments(values[1:].flatten(0, 1)), signed=True)


def _moments(null: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Values of a null (sample, ...), their mean over samples and their deviation, NaN where they do not vary."""
    known = null.isfinite()
    count = known.sum(dim=0)
    mean = null.nansum(dim=0) / count
    spread = (torch.where(known, null - mean, 0).square().sum(dim=0) / (count - 1)).sqrt()
    size = (torch.where(known, null, 0).square().sum(dim=0) / count).sqrt()
    return null, mean, torch.where(spread > _FLAT * size, spread, torch.nan)


def _judge(values: Tensor, null: Tensor, mean: Tensor, spread: Tensor, *, signed: bool) -> tuple[Tensor, Tensor]:
    """Strengths of values, and the smallest size that counts."""
    # Rounded as they are recorded, so that what counts can be told from the record.
    strengths, chance = (((part - mean) / spread).float() for part in (values, null))
    sizes, chances = (part.abs() if signed else part for part in (strengths, chance))
    tested = sizes.isfinite()
    chosen = benjamini_hochberg(exceedance(sizes[tested], chances[chances.isfinite()]), RATE)
    return strengths, sizes[tested][chosen].min() if bool(chosen.any()) else torch.full_like(sizes[0, 0], torch.nan)


def count_edges(
    strengths: Float[Tensor, "*pair filter in"], thresholds: Float[Tensor, "*pair"], kind: str
) -> Bool[Tensor, "*pair filter in"]:
    """Tells which edges count: by weight those that are strong, by effect those that are strong either way.

    Args:
        strengths: of one kind.
        thresholds: the smallest size that counts; NaN if none does.
        kind: one of `KINDS`.
    """
    sizes = strengths if kind == "weight" else strengths.abs()
    return sizes >= thresholds[..., None, None]
