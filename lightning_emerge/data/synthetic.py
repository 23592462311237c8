"""The dense-sample task: images rendered from a grammar of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from lightning_emerge.data.datamodule import ExemplarDataModule, check_lowest
from lightning_emerge.data.dataset import Exemplars
from lightning_emerge.data.grammar.files import read_grammar
from lightning_emerge.data.grammar.tokens import DEFAULT_GRAMMAR, Grammar, Token
from lightning_emerge.data.names import SPLITS
from lightning_emerge.data.rendering.latents import latents_table
from lightning_emerge.data.rendering.nuisances import Nuisances
from lightning_emerge.data.rendering.render import paint, part_masks, render
from lightning_emerge.data.rendering.scenes import Scenes, sample_scenes
from lightning_emerge.records import StimulusBank

_MOST = 1_000_000


class TokenDataModule(ExemplarDataModule):
    """Tokens made of parts that they share, so that only a conjunction of parts tells which token it is.

    An image is a function of (grammar, nuisances, seed, split, token, index) alone. Without a grammar of your own there
    are the five tokens of `lightning_emerge.data.grammar.tokens.DEFAULT_GRAMMAR`.

    Args:
        exemplars: training exemplars of each token, `min_exemplars` to 1,000,000.
        val_exemplars: validation exemplars of each token, 2 to 1,000,000.
        test_exemplars: test exemplars of each token, likewise.
        bank_exemplars: stimuli of each token that probes look at, likewise.
        image_size: side of the square images in pixels, at least 8.
        batch_size: exemplars in a batch, over all processes.
        seed: of the exemplars and of their order.
        grammar: the tokens, or a YAML file of them (see `lightning_emerge.data.grammar.files.read_grammar`).
        nuisances: how far exemplars vary.
        min_exemplars: the fewest training exemplars of a token; 500 makes a dense sample.
        cache_mib: memory, in MiB in each process, that rendered images may take. A split that does not fit is rendered
            anew at each visit, to the same bytes.
        num_workers: processes that prepare batches beside the training process; of use when a split is not cached.
        shuffle_labels: whether training exemplars get wrong tokens, as a control (see `ExemplarDataModule`).

    Raises:
        ValueError: if an argument is out of its range, or the grammar's check fails.
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
        grammar: str | Grammar | None = None,
        nuisances: Nuisances | None = None,
        min_exemplars: int = 500,
        cache_mib: int = 1024,
        num_workers: int = 0,
        shuffle_labels: bool = False,
    ) -> None:
        super().__init__(image_size, batch_size, seed, num_workers, shuffle_labels=shuffle_labels)
        check_lowest(min_exemplars=(min_exemplars, 1), cache_mib=(cache_mib, 0))
        counts = {"train": exemplars, "val": val_exemplars, "test": test_exemplars, "bank": bank_exemplars}
        if exemplars < min_exemplars:
            raise ValueError(
                f"data.exemplars is at least data.min_exemplars ({min_exemplars}) a token; got {exemplars}. "
                "500 make a dense sample; lower data.min_exemplars if you want fewer on purpose."
            )
        check_lowest(**{f"{split}_exemplars": (counts[split], 2) for split in SPLITS[1:]})
        for split, count in counts.items():
            if count > _MOST:
                name = "exemplars" if split == "train" else f"{split}_exemplars"
                raise ValueError(f"data.{name} is at most {_MOST:,} a token; got {count:,}.")
        self.counts: Mapping[str, int] = counts
        self.nuisances = nuisances or Nuisances()
        self.grammar = read_grammar(grammar) if isinstance(grammar, str) else grammar or DEFAULT_GRAMMAR
        self.grammar.check()
        self.cache_mib = cache_mib

    @property
    def tokens(self) -> tuple[str, ...]:
        return self.grammar.names

    def load(self) -> Mapping[str, Exemplars]:
        room = self.cache_mib * 2**20
        splits: dict[str, Exemplars] = {}
        for split in reversed(SPLITS):  # the bank first: it is looked at most often
            exemplars = self._exemplars(split)
            size = len(exemplars) * 3 * self.image_size**2
            if size <= room:
                room -= size
                exemplars = Exemplars(exemplars.pixels(), exemplars.labels, exemplars.ids)
            splits[split] = exemplars
        return {split: splits[split] for split in SPLITS}

    def stimulus_bank(self) -> StimulusBank:
        each = range(self.counts["bank"])
        latents = pd.concat([self.latents("bank", token, each) for token in self.tokens], ignore_index=True)
        return replace(super().stimulus_bank(), latents=latents)

    def images(self, split: str, token: str, indices: Sequence[int]) -> npt.NDArray[np.uint8]:
        """Renders some of a token's exemplars: uint8 (exemplar, channel, y, x)."""
        return paint(self._scenes(split, token, indices), self.image_size)

    def latents(self, split: str, token: str, indices: Sequence[int]) -> pd.DataFrame:
        """What made each of a token's exemplars, one row an exemplar.

        Columns are described in `lightning_emerge.data.rendering.latents.latents_table`.
        """
        scenes = self._scenes(split, token, indices)
        return latents_table(scenes, split, token, indices, self.grammar, self.image_size)

    def masks(self, split: str, token: str, indices: Sequence[int]) -> npt.NDArray[np.float32]:
        """Where each part of a token's exemplars is seen.

        Returns:
            float32 array (exemplar, part, y, x), the share of each pixel that shows the part, in the order of the
            token's parts.
        """
        return part_masks(self._scenes(split, token, indices), self.image_size)

    def _scenes(self, split: str, token: str, indices: Sequence[int]) -> Scenes:
        label = self._label(split, token)
        return sample_scenes(
            self.grammar.tokens[label], label, indices, split=split, seed=self.seed, nuisances=self.nuisances
        )

    def _label(self, split: str, token: str) -> int:
        if split not in SPLITS:
            raise ValueError(f"A split is one of {', '.join(SPLITS)}; got {split!r}.")
        if token not in self.tokens:
            raise ValueError(f"A token is one of {', '.join(self.tokens)}; got {token!r}.")
        return self.tokens.index(token)

    def _exemplars(self, split: str) -> Exemplars:
        count = self.counts[split]
        labels = torch.arange(len(self.tokens)).repeat_interleave(count)
        images = _Rendered(self.grammar.tokens, split, count, self.seed, self.image_size, self.nuisances)
        return Exemplars(images, labels, _Ids(split, self.tokens, count))


@dataclass(frozen=True)
class _Rendered:
    """Images that are rendered whenever they are asked for."""

    tokens: tuple[Token, ...]
    split: str
    count: int
    seed: int
    size: int
    nuisances: Nuisances

    def __getitem__(self, indices: torch.Tensor) -> torch.Tensor:
        labels, numbers = np.divmod(indices.numpy(), self.count)
        images = render(
            self.tokens, labels, numbers, split=self.split, seed=self.seed, size=self.size, nuisances=self.nuisances
        )
        return torch.from_numpy(images)


@dataclass(frozen=True)
class _Ids(Sequence[str]):
    """`split/token/index` of each exemplar, made when asked for: millions of names would fill the memory."""

    split: str
    tokens: tuple[str, ...]
    each: int

    def __len__(self) -> int:
        return len(self.tokens) * self.each

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> tuple[str, ...]: ...

    def __getitem__(self, at: int | slice) -> str | tuple[str, ...]:
        if isinstance(at, slice):
            return tuple(self[k] for k in range(*at.indices(len(self))))
        label, index = divmod(range(len(self))[at], self.each)
        return f"{self.split}/{self.tokens[label]}/{index:06d}"
