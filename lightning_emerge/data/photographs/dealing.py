"""Which exemplar falls into which split, by content."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch

from lightning_emerge.data.datamodule import check_lowest
from lightning_emerge.data.dataset import Exemplars
from lightning_emerge.data.names import SPLITS
from lightning_emerge.data.photographs.decoding import Pixels

Key = TypeVar("Key")


class Row(NamedTuple, Generic[Key]):
    """One exemplar of a split: the label of its token, and what it is found by."""

    label: int
    key: Key


@dataclass(frozen=True)
class Deal:
    """How the exemplars of each token are dealt out to the splits, in equal shares of each token.

    Attributes:
        seed: of the split.
        min_exemplars: how many each token must have, at least 1.
        val_share: share of each token's exemplars in the validation split, above 0 and below 0.5.
        test_share: share in the test split, above 0 and below 0.5.
        bank_exemplars: stimuli of each token, at least 2.
        exemplars: how many of each token are trained on at most, at least `min_exemplars`; all that are left if none.

    Raises:
        ValueError: if a value is out of its range.
    """

    seed: int
    min_exemplars: int
    val_share: float
    test_share: float
    bank_exemplars: int
    exemplars: int | None = None

    def __post_init__(self) -> None:
        for name, share in (("val_share", self.val_share), ("test_share", self.test_share)):
            if not 0 < share < 0.5:
                raise ValueError(f"data.{name} lies above 0 and below 0.5; got {share}.")
        check_lowest(min_exemplars=(self.min_exemplars, 1), bank_exemplars=(self.bank_exemplars, 2))
        if self.exemplars is not None and self.exemplars < self.min_exemplars:
            raise ValueError(
                f"data.exemplars is at least data.min_exemplars ({self.min_exemplars}); got {self.exemplars}. "
                "Lower data.min_exemplars on purpose, or give more exemplars."
            )

    def check_dense(self, counts: Mapping[str, int]) -> None:
        """Compares how many exemplars there are with how many there must be.

        Args:
            counts: exemplars of each token, by what the token is called in the error.

        Raises:
            ValueError: if a token has fewer.
        """
        for token, count in counts.items():
            if count < self.min_exemplars:
                raise ValueError(
                    f"Each token has at least data.min_exemplars ({self.min_exemplars}) exemplars; "
                    f"{token} has {count}. Add exemplars, or lower data.min_exemplars on purpose."
                )

    def check_left(self, counts: Mapping[str, int]) -> None:
        """Looks whether the splits that are held out leave something to train on.

        Args:
            counts: exemplars of each token, by name.

        Raises:
            ValueError: if they do not.
        """
        for token, count in counts.items():
            if self._borders(count)[-1] >= count:
                raise ValueError(
                    f"The bank, validation and test splits leave no exemplar of {token!r} to train on; "
                    f"lower data.bank_exemplars ({self.bank_exemplars}), data.val_share or data.test_share."
                )

    def __call__(self, contents: Mapping[str, Mapping[Key, bytes]]) -> dict[str, list[Row[Key]]]:
        """Deals the exemplars out; more of them move as few others as can be.

        What has the same content as another exemplar, be it of another token, is never held out, so that no picture of
        training is in another split.

        Args:
            contents: by token, and there by what an exemplar is found by, a digest of its content.

        Returns:
            The exemplars of "train", "val", "test" and "bank", by token.

        Raises:
            ValueError: if a token has too few exemplars that are there once.
        """
        times = Counter(digest for found in contents.values() for digest in found.values())
        repeated = {digest for digest, count in times.items() if count > 1}
        splits: dict[str, list[Row[Key]]] = {split: [] for split in SPLITS}
        for label, (token, found) in enumerate(contents.items()):
            for split, keys in self._deal_token(token, found, repeated).items():
                splits[split] += [Row(label, key) for key in keys]
        return splits

    def _borders(self, count: int) -> tuple[int, int, int]:
        """How many of a token's exemplars are in the bank; in the bank or validation; in these or test."""
        val, test = (max(1, round(share * count)) for share in (self.val_share, self.test_share))
        return self.bank_exemplars, self.bank_exemplars + val, self.bank_exemplars + val + test

    def _deal_token(self, token: str, found: Mapping[Key, bytes], repeated: Set[bytes]) -> dict[str, list[Key]]:
        bank, val, test = self._borders(len(found))
        once = sum(digest not in repeated for digest in found.values())
        if once < test:
            raise ValueError(
                f"The bank, validation and test splits hold exemplars whose content is there once; {token!r} has "
                f"{once} of these and {test} are needed. Remove copies, or lower data.bank_exemplars "
                f"({self.bank_exemplars}), data.val_share or data.test_share."
            )

        def place(key: Key) -> tuple[bool, bytes]:
            return found[key] in repeated, hashlib.sha256(f"{self.seed}/".encode() + found[key]).digest()

        dealt = sorted(found, key=place)
        trained = set(dealt[test:] if self.exemplars is None else dealt[test : test + self.exemplars])
        return {
            "train": [key for key in found if key in trained],
            "val": dealt[bank:val],
            "test": dealt[val:test],
            "bank": dealt[:bank],
        }


def hold(
    splits: Mapping[str, Sequence[Row[Key]]], images: Mapping[Key, Pixels], name: Callable[[Row[Key]], str]
) -> dict[str, Exemplars]:
    """Puts the exemplars of each split in memory.

    Args:
        splits: the exemplars of each split.
        images: uint8 arrays (channel, y, x), by what an exemplar is found by.
        name: gives an exemplar's id.
    """
    return {
        split: Exemplars(
            torch.from_numpy(np.stack([images[row.key] for row in rows])),
            torch.tensor([row.label for row in rows]),
            tuple(name(row) for row in rows),
        )
        for split, rows in splits.items()
    }
