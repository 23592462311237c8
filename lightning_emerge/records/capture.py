"""A capture: what one look leaves of the network, and what a probe has to say to get it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import torch

from lightning_emerge.records.bank import StimulusBank

_Place = TypeVar("_Place", int, torch.Tensor)


@dataclass(frozen=True)
class Needs:
    """What of the network a probe has to see; it gets what it asks for in its `Capture`.

    Attributes:
        activations: whole outputs of its layers on the stimulus bank.
        pooled: the same, averaged over all places: one number a channel.
        inputs: what the convolution of each of its layers gets on the stimulus bank, and what is made of it there.
        outputs: the network's own outputs on the stimulus bank.
        features: what the network's last linear map gets on the stimulus bank, and its weight.
        filters: that the second axis of its layers' outputs are their filters, as it looks at these one by one. Layers
            of which that cannot be said are left out, or refused if they were named.
        bank_gradients: gradients of the bank's mean cross-entropy with respect to its layers' weights.
        token_gradients: the same of each token's mean cross-entropy, from one backward pass a token.
        gradient_squares: the mean over stimuli of the square of each stimulus' own gradient.
        network: the network itself, to differentiate or to run on other images. It is passed as often as the probe
            passes it.
        weights: its layers' weights.
        images: the stimulus bank itself, without running it through the network.
        latents: the table of what made each stimulus, in the bank.
        training: gradients of a training batch, the update they led to and the units that fired, by layer. A probe that
            asks for these looks at training batches, at the same steps, and not at the bank.
        past: what the weights were at the probe's first look, and they and the gradients of a training batch at the
            look before. Checkpoints to go on from hold them.
        pairs: room for a matrix (stimulus, stimulus) of each of its layers, as it compares every stimulus with every
            other. The capture has nothing of it; it counts in what is said before training of a bank that is too large.

    Raises:
        ValueError: if a probe asks for training batches and for the bank.
    """

    activations: bool = False
    pooled: bool = False
    inputs: bool = False
    outputs: bool = False
    features: bool = False
    filters: bool = False
    bank_gradients: bool = False
    token_gradients: bool = False
    gradient_squares: bool = False
    network: bool = False
    weights: bool = False
    images: bool = False
    latents: bool = False
    training: bool = False
    past: bool = False
    pairs: bool = False

    def __post_init__(self) -> None:
        if self.training and (self.bank or self.network):
            raise ValueError(
                "A probe looks at training batches or at the stimulus bank; its needs name both. Write two probes."
            )

    @property
    def passes(self) -> bool:
        """Whether the bank has to go through the network."""
        seen = self.activations or self.pooled or self.inputs or self.outputs or self.features
        return seen or self.differentiates

    @property
    def differentiates(self) -> bool:
        """Whether the bank's loss has to be differentiated."""
        return self.bank_gradients or self.token_gradients or self.gradient_squares

    @property
    def bank(self) -> bool:
        """Whether there has to be a bank."""
        return self.passes or self.images or self.latents

    @property
    def of_weights(self) -> bool:
        """Whether each of its layers has to hold a weight."""
        return self.weights or self.training or self.past or self.differentiates


@dataclass(frozen=True)
class ReceptiveField:
    """Which square of the image a unit of a layer can see, by its place in the layer's output.

    Attributes:
        size: side of the square, in pixels.
        stride: pixels from the square of one unit to that of the next.
        start: pixel at which the square of the first unit begins; below zero if it reaches into the padding.
    """

    size: int
    stride: int
    start: int

    def span(self, position: _Place) -> tuple[_Place, _Place]:
        """First pixel that a position's unit sees, and the one after the last, along an axis; both may lie outside."""
        low = self.start + position * self.stride
        return low, low + self.size


@dataclass(frozen=True)
class Convolution:
    """What a layer makes of what it gets, apart from its weight: a convolution, a shift or batch norm, a ReLU.

    The layer is the module that was named. A batch norm or ReLU that follows a bare Conv2d is not part of it.

    Attributes:
        stride: places of the input from one of the output to the next, (y, x).
        dilation: places of the input from one tap of a kernel to the next, (y, x).
        padding: zeros that are put around the input: left, right, top, bottom, as `torch.nn.functional.pad` takes them.
        scale: (out,), what the convolution is multiplied by: 1, or what the batch norm does in evaluation mode.
        shift: (out,), what is added then: the bias, and what the batch norm adds.
        rectified: whether a ReLU follows in the layer.
    """

    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int, int, int]
    scale: torch.Tensor
    shift: torch.Tensor
    rectified: bool


class Network(Protocol):
    """The network as it stands at a look: in evaluation mode, eager, without autocasting; calls are differentiable."""

    def __call__(self, images: torch.Tensor, /) -> torch.Tensor:
        """Maps images (stimulus, channel, y, x), normalised as in training, to outputs (stimulus, token)."""
        ...

    def respond(self, layer: str, images: torch.Tensor, /) -> torch.Tensor:
        """A layer's output (stimulus, ...) for images; the network is run no deeper."""
        ...

    def intervene(
        self, layer: str, change: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor, /
    ) -> torch.Tensor:
        """Outputs for images, with what a function makes of a layer's output put in its place on the way."""
        ...

    def parameters(self, layers: Sequence[str], /) -> dict[str, torch.Tensor]:
        """The weight of each layer, to differentiate with respect to; never to be written to."""
        ...

    def receptive_fields(self, layers: Sequence[str], image: torch.Tensor, /) -> dict[str, ReceptiveField | None]:
        """What units of each layer see, found by passing one image (channel, y, x); None if that is all of it."""
        ...


@dataclass(frozen=True)
class Past:
    """What a probe's earlier look saw of its layers.

    Attributes:
        step: of that look.
        weights: layer -> tensor, its weight then.
        gradients: layer -> tensor, the training batch's gradient; empty unless the probe needs training batches.
    """

    step: int
    weights: Mapping[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    gradients: Mapping[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])


@dataclass(frozen=True)
class Capture:
    """What one look leaves of the network: as much of it as the probes that are due asked for.

    Attributes:
        step: optimizer steps taken when the look began; 0 is before the first update.
        layers: names of the layers that any due probe asked for, in the network's order.
        bank: the stimuli, or None if no due probe needed them.
        activations: layer -> float32 tensor (stimulus, ...), the layer's output.
        pooled: layer -> float32 tensor (stimulus, channel), the output's mean over all further axes.
        inputs: layer -> float32 tensor (stimulus, in, y, x), what the layer's convolution got.
        convolutions: layer -> what the layer makes of its input besides its weight.
        outputs: float32 tensor (stimulus, token), what the network's `forward` returned, or None.
        features: float32 tensor (stimulus, feature), what the linear map got whose output that is; None if it is that
            of something else.
        readout: tensor (token, feature), the weight of that linear map, or None.
        unfiltered: layer -> why the second axis of its output is not known to be its filters.
        weights: layer -> tensor (out, in, ...), the layer's weight at `step`: what it computes with, also where that is
            made of other parameters by a normalisation or a pruning.
        bank_gradients: layer -> tensor like `weights`, of the bank's mean cross-entropy in evaluation mode.
        token_gradients: layer -> tensor (token, out, in, ...), of each token's mean cross-entropy in evaluation mode;
            NaN for a token without stimuli.
        gradient_squares: layer -> float64 tensor like `weights`, the mean over the bank of the squared gradient of each
            stimulus' cross-entropy.
        network: what the bank passed, or None.
        gradients: layer -> tensor like `weights`, of the training batch's loss (unscaled, accumulated, averaged over
            ranks, before clipping). NaN for a weight that does not learn, that is another optimizer's, or that is made
            of other parameters. Empty unless the look was at a training batch.
        updates: layer -> tensor like `weights`, what the optimizer's step added to the weight; NaN for a weight that is
            another optimizer's.
        fired: layer -> bool tensor (channel,), whether the first ReLU behind a channel was above zero anywhere in the
            training batch. Layers without a ReLU, and those of compiled modules, are left out.
        first: this probe's first look of the run, its weights alone; None at that look.
        previous: this probe's look before; None at its first.
    """

    step: int
    layers: tuple[str, ...]
    bank: StimulusBank | None = None
    activations: Mapping[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    pooled: Mapping[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    inputs: Mapping[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    convolutions: Mapping[str, Convolution] = field(default_factory=dict[str, Convolution])
    outputs: torch.Tensor | None = None
    features: torch.Tensor | None = None
    readout: torch.Tensor | None = None
    unfiltered: Mapping[str, str] = field(default_factory=dict[str, str])
    weights: Mapping[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    bank_gradients: Mapping[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    token_gradients: Mapping[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    gradient_squares: Mapping[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    network: Network | None = None
    gradients: Mapping[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    updates: Mapping[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    fired: Mapping[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    first: Past | None = None
    previous: Past | None = None
