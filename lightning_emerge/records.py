"""Frozen values that cross rooms: the stimulus bank, a capture of it, a measurement, and where measurements go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
Label: TypeAlias = str | int | float
Picture: TypeAlias = npt.NDArray[np.uint8]
"""RGB pixels (y, x, channel)."""


@dataclass(frozen=True)
class StimulusBank:
    """A fixed, balanced, held-out set of exemplars that probes look at, the same all through a run.

    Attributes:
        images: float tensor (stimulus, channel, y, x), normalised as the network gets its training images.
        labels: int64 tensor (stimulus,), the position of each stimulus' token in `tokens`.
        ids: one unique name a stimulus, in an order that is the same on every rank and in every run.
        tokens: the names of the tokens.
    """

    images: torch.Tensor
    labels: torch.Tensor
    ids: tuple[str, ...]
    tokens: tuple[str, ...]

    def __post_init__(self) -> None:
        sizes = {len(self.images), len(self.labels), len(self.ids)}
        if len(sizes) != 1:
            raise ValueError(
                "A stimulus bank has one image, one label and one id a stimulus; got "
                f"{len(self.images)} images, {len(self.labels)} labels and {len(self.ids)} ids."
            )
        if len(set(self.ids)) != len(self.ids):
            raise ValueError("The ids of a stimulus bank are unique; got the same id twice.")

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Capture:
    """What one look leaves of the network: as much of it as the probes that are due asked for.

    Attributes:
        step: optimizer steps taken when the look began; 0 is before the first update.
        layers: names of the layers that any due probe asked for, in the network's order.
        bank: the stimuli that went through the network, or None if no due probe needed them.
        activations: layer -> float32 tensor (stimulus, ...), the layer's output.
        outputs: float32 tensor (stimulus, token), what the network's `forward` returned, or None.
        weights: layer -> tensor (out, in, ...), the layer's weight at `step`.
        gradients: layer -> tensor like `weights`, of the training batch's loss (unscaled, accumulated, averaged over
            ranks, before clipping). Empty unless the look was at a training batch.
        updates: layer -> tensor like `weights`, what the optimizer's step added to the weight.
    """

    step: int
    layers: tuple[str, ...]
    bank: StimulusBank | None = None
    activations: Mapping[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    outputs: torch.Tensor | None = None
    weights: Mapping[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    gradients: Mapping[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])
    updates: Mapping[str, torch.Tensor] = field(default_factory=dict[str, torch.Tensor])


@dataclass(frozen=True)
class Axis:
    """One named axis of a measurement.

    Attributes:
        name: the axis' name, "layer" for one.
        labels: one coordinate for each position: names, or numbers.
        unit: unit of numeric labels.
        notes: further coordinates along the same axis, such as the token of each stimulus: name -> labels.
    """

    name: str
    labels: Sequence[Label]
    unit: str = ""
    notes: Mapping[str, Sequence[Label]] = field(default_factory=dict[str, Sequence[Label]])

    def __post_init__(self) -> None:
        for name, labels in self.notes.items():
            if len(labels) != len(self.labels):
                raise ValueError(
                    f"A note has as many labels as its axis; {self.name!r} has {len(self.labels)}, "
                    f"its note {name!r} has {len(labels)}."
                )


@dataclass(frozen=True)
class Measurement:
    """A named array with named axes, a unit, the step it was taken at and where it came from.

    Attributes:
        name: what was measured, unique among the probes of a run: "rdm" for one.
        values: floating array with one dimension for each axis. NaN means "not measurable here".
        axes: the named axes, in the order of the array's dimensions.
        step: optimizer steps taken when it was measured.
        unit: unit of the values; "1" for a pure number.
        source: the class that measured it.
        about: one sentence a reader of the record can understand without this package.
        probe: JSON of the probe's class path and arguments; the engine fills it in.

    Raises:
        ValueError: if values and axes disagree, or two axes have the same name.
        TypeError: if the values are not floating-point numbers.
    """

    name: str
    values: FloatArray
    axes: tuple[Axis, ...]
    step: int
    unit: str = "1"
    source: str = ""
    about: str = ""
    probe: str = ""

    def __post_init__(self) -> None:
        names = [axis.name for axis in self.axes]
        shape = tuple(len(axis.labels) for axis in self.axes)
        if self.values.shape != shape:
            raise ValueError(
                f"A measurement has one label for each position of each axis; {self.name!r} has values of shape "
                f"{self.values.shape} and axes {dict(zip(names, shape, strict=True))}."
            )
        if len(set(names)) != len(names):
            raise ValueError(f"The axes of a measurement have different names; {self.name!r} has {names}.")
        if not np.issubdtype(self.values.dtype, np.floating):
            raise TypeError(
                f"The values of a measurement are floating-point numbers, so that NaN can say 'not looked at'; "
                f"{self.name!r} has {self.values.dtype}. Convert them with .float()."
            )


def to_array(tensor: torch.Tensor) -> FloatArray:
    """Copies a floating tensor of any device to a NumPy array; half precision becomes float32."""
    tensor = tensor.detach()
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.float()
    return tensor.cpu().numpy().copy()


class Sink(Protocol):
    """Where measurements and pictures of one step go. Only process zero has sinks."""

    def write(self, step: int, measurements: Sequence[Measurement], pictures: Mapping[str, Picture]) -> None:
        """Stores what was measured and drawn at one step; a picture has its measurement's name."""
        ...

    def check(self, measurement: Measurement) -> None:
        """Raises ValueError if a measurement could not be stored beside what is there already."""
        ...
