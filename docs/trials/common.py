"""What all trials share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import one_hot

import lightning_emerge as le

TOKENS, EACH = 5, 50
STIMULI = TOKENS * EACH
LABELS = torch.arange(TOKENS).repeat_interleave(EACH)
OWN = one_hot(LABELS).float()
Array = npt.NDArray[np.floating]
World = Callable[[int], le.Capture]


def mean(values: Array) -> float:
    """Mean of what could be measured; NaN if nothing could."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


@dataclass(frozen=True)
class Row:
    """One record of a trial.

    Attributes:
        record: its name.
        expected: what it is on average where there is nothing; None if it has no value of its own there.
        truth: what it is of the planted effect; None if none is planted.
        read: one number of its values.
    """

    record: str
    expected: float | None
    truth: float | None
    read: Callable[[Array], float] = mean


@dataclass(frozen=True)
class Trial:
    """One probe in two worlds.

    Attributes:
        probe: makes it, from a seed for what it draws by lot.
        nothing: draws a capture with nothing to find.
        planted: draws a capture with an effect.
        null: says what the first is.
        effect: says what the second is.
        rows: what is read off.
    """

    probe: Callable[[int], le.Probe]
    nothing: World
    planted: World
    null: str
    effect: str
    rows: tuple[Row, ...]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed))


@cache
def rendered() -> le.StimulusBank:
    """The default task's bank, small."""
    data = le.TokenDataModule(image_size=16, val_exemplars=2, test_exemplars=2, bank_exemplars=EACH)
    data.setup("fit")
    return data.stimulus_bank()


def first_layer(values: Array) -> float:
    return mean(values[0])


def off_diagonal(values: Array) -> float:
    """Mean over pairs of different things."""
    return float(values[..., ~np.eye(values.shape[-1], dtype=bool)].mean())
