"""What every network of the table has: a name, what makes it, and what it is to look at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn

import lightning_emerge as le

TOKENS = 5
EACH = 6
"""Stimuli of a token."""

_LABELS = torch.arange(TOKENS).repeat_interleave(EACH)


@dataclass(frozen=True)
class Entry:
    """One network.

    Attributes:
        name: as its library calls it.
        source: the library.
        make: gives the network, with random weights.
        bank: gives its stimuli, with the task.
    """

    name: str
    source: str
    make: Callable[[], nn.Module]
    bank: Callable[[], le.StimulusBank]


def apart(*shape: int, seed: int = 0) -> torch.Tensor:
    """Noise (stimulus, *shape) around a mean of each token's own."""
    generator = torch.Generator().manual_seed(seed)
    means = torch.randn(TOKENS, *shape, generator=generator)
    return means[_LABELS] + 0.7 * torch.randn(len(_LABELS), *shape, generator=generator)


def words(length: int = 12, vocabulary: int = 40) -> torch.Tensor:
    """Ids of words (stimulus, position), half of them of a token's own."""
    generator = torch.Generator().manual_seed(0)
    own = torch.randint(1, vocabulary, (TOKENS, length), generator=generator)[_LABELS]
    others = torch.randint(1, vocabulary, own.shape, generator=generator)
    return torch.where(torch.rand(own.shape, generator=generator) < 0.5, own, others)


def stimuli(make: Callable[[], Any], tokens: int = TOKENS, **task: Any) -> Callable[[], le.StimulusBank]:
    """What gives stimuli of any structure; labels are taken modulo the number of tokens."""

    def bank() -> le.StimulusBank:
        ids = tuple(f"s{number:02d}" for number in range(len(_LABELS)))
        names = tuple("abcde"[:tokens])
        return le.StimulusBank(make(), _LABELS % tokens, ids, names, task=le.Task(**task))

    return bank


def images(side: int, **task: Any) -> Callable[[], le.StimulusBank]:
    """What gives exemplars of the default grammar, with their latents."""
    return lambda: _exemplars(side, tuple(task.items()))


@cache
def _exemplars(side: int, task: tuple[tuple[str, Any], ...]) -> le.StimulusBank:
    data = le.TokenDataModule(val_exemplars=EACH, test_exemplars=2, bank_exemplars=EACH, image_size=side)
    data.setup("fit")
    bank = data.stimulus_bank()
    return le.StimulusBank(bank.inputs, bank.labels, bank.ids, bank.tokens, bank.latents, le.Task(**dict(task)))
