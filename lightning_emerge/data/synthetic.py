"""The dense-sample task: images rendered from a grammar of tokens."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from lightning_emerge.data.datamodule import ExemplarDataModule
from lightning_emerge.data.dataset import Exemplars
from lightning_emerge.data.render import SPLITS, Nuisances, render
from lightning_emerge.data.tokens import DEFAULT_GRAMMAR


class TokenDataModule(ExemplarDataModule):
    """Five tokens made of parts that they share, so that only a conjunction of parts tells which token it is.

    An image is a function of (seed, split, token, index) alone. The five tokens are described in
    `lightning_emerge.data.tokens`.

    Args:
        exemplars: training exemplars of each token; at least 500, the "dense sample".
        val_exemplars: validation exemplars of each token.
        test_exemplars: test exemplars of each token.
        bank_exemplars: stimuli of each token that probes look at.
        image_size: side of the square images in pixels, at least 8.
        batch_size: exemplars in a batch, over all processes.
        seed: of the exemplars and of their order.
        nuisances: how far exemplars vary.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self,
        exemplars: int = 500,
        val_exemplars: int = 100,
        test_exemplars: int = 100,
        bank_exemplars: int = 50,
        image_size: int = 48,
        batch_size: int = 32,
        seed: int = 0,
        nuisances: Nuisances | None = None,
    ) -> None:
        super().__init__(image_size, batch_size, seed)
        counts = {"train": exemplars, "val": val_exemplars, "test": test_exemplars, "bank": bank_exemplars}
        if exemplars < 500:
            raise ValueError(f"data.exemplars is at least 500 a token, for a dense sample; got {exemplars}.")
        for split in SPLITS[1:]:
            if counts[split] < 2:
                raise ValueError(f"data.{split}_exemplars is at least 2 a token; got {counts[split]}.")
        self.counts: Mapping[str, int] = counts
        self.nuisances = nuisances or Nuisances()
        self.grammar = DEFAULT_GRAMMAR

    @property
    def tokens(self) -> tuple[str, ...]:
        return self.grammar.names

    def load(self) -> Mapping[str, Exemplars]:
        return {split: self._render(split, count) for split, count in self.counts.items()}

    def _render(self, split: str, count: int) -> Exemplars:
        images = [
            render(
                token,
                label,
                range(count),
                split=split,
                seed=self.seed,
                size=self.image_size,
                nuisances=self.nuisances,
            )
            for label, token in enumerate(self.grammar.tokens)
        ]
        ids = tuple(f"{split}/{name}/{index:06d}" for name in self.tokens for index in range(count))
        labels = torch.arange(len(self.tokens)).repeat_interleave(count)
        return Exemplars(torch.from_numpy(np.concatenate(images)), labels, ids)
