"""What every data module of this package shares: splits in memory, loaders, the stimulus bank."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader

from lightning_emerge.data.dataset import Batch, BatchOrder, Exemplars, normalise
from lightning_emerge.records import StimulusBank


class ExemplarDataModule(LightningDataModule, ABC):
    """Exemplars of tokens in four splits that share none: train, val, test and the stimulus bank.

    Args:
        image_size: side of the square images in pixels, at least 8.
        batch_size: exemplars in a batch, over all processes, at least 1.
        seed: of the exemplars and of their order, at least 0.
        num_workers: processes that prepare batches beside the training process, at least 0. Batches are the same.
        shuffle_labels: whether the labels of the training exemplars are dealt out anew among them, once, by the seed. A
            control: there is as much to learn, and nothing that holds for the other splits, which keep their labels.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(
        self, image_size: int, batch_size: int, seed: int, num_workers: int, *, shuffle_labels: bool = False
    ) -> None:
        super().__init__()
        check_lowest(
            image_size=(image_size, 8), batch_size=(batch_size, 1), seed=(seed, 0), num_workers=(num_workers, 0)
        )
        self.image_size, self.batch_size, self.seed, self.num_workers = image_size, batch_size, seed, num_workers
        self.shuffle_labels = shuffle_labels
        self._splits: Mapping[str, Exemplars] = {}

    @property
    @abstractmethod
    def tokens(self) -> tuple[str, ...]:
        """Names of the tokens, in the order of their labels."""

    @abstractmethod
    def load(self) -> Mapping[str, Exemplars]:
        """Makes or reads the splits "train", "val", "test" and "bank"."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channel, y, x) of an image."""
        return (3, self.image_size, self.image_size)

    def setup(self, stage: str) -> None:
        """Loads all splits, once."""
        if self._splits:
            return
        splits = dict(self.load())
        if self.shuffle_labels:
            labels = splits["train"].labels
            order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(self.seed))
            splits["train"] = replace(splits["train"], labels=labels[order])
        self._splits = splits

    def check_processes(self, count: int) -> None:
        """Compares the batches with the number of processes that are to share them; `setup` comes first.

        Raises:
            ValueError: if a batch cannot be dealt out.
        """
        for split in self._splits:
            if split != "bank":
                self._order(split, 0, count)

    def stimulus_bank(self) -> StimulusBank:
        """The exemplars that probes look at, the same in every run with the same data; `setup` comes first."""
        bank = self._splits["bank"]
        return StimulusBank(normalise(bank.pixels()), bank.labels, tuple(bank.ids), self.tokens)

    def examples(self, split: str, count: int) -> torch.Tensor:
        """The first exemplars of each token in a split, uint8 (token, exemplar, channel, y, x); `setup` comes first.

        There are as many of each as the token with the fewest has, and `count` at most.
        """
        exemplars = self._splits[split]
        own = [(exemplars.labels == label).nonzero()[:count, 0] for label in range(len(self.tokens))]
        fewest = min(map(len, own))
        return torch.stack([exemplars.images[at[:fewest]] for at in own])

    def train_dataloader(self) -> DataLoader[Batch]:
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._loader("test")

    def predict_dataloader(self) -> DataLoader[Batch]:
        return self._loader("test")

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        # Lightning's own way goes through every exemplar's name, which takes longer than the tensors do.
        image, label = (batch[key].to(device, non_blocking=True) for key in ("image", "label"))
        # Bytes reach a GPU in a quarter of the time, and are made and pinned in less.
        return Batch(image=normalise(image) if image.dtype == torch.uint8 else image, label=label, id=batch["id"])

    def _loader(self, split: str) -> DataLoader[Batch]:
        trainer = self.trainer
        on_gpu = trainer is not None and trainer.strategy.root_device.type == "cuda"
        exemplars = replace(self._splits[split], raw=on_gpu)
        rank, world_size = (trainer.global_rank, trainer.world_size) if trainer else (0, 1)
        order = self._order(split, rank, world_size)
        # The order gives whole batches of indices, so that each batch is one look-up. A loader samples a random number
        # for its workers; with a generator it is not one of those that training samples.
        settings: dict[str, Any] = {
            "sampler": order,
            "batch_size": None,
            "num_workers": self.num_workers,
            "pin_memory": on_gpu,
            "generator": torch.Generator().manual_seed(self.seed),
        }
        if split != "train" or trainer is None:
            return DataLoader(exemplars, **settings)
        order.set_epoch(trainer.current_epoch)  # workers prepare batches before Lightning says which epoch it is
        return _TrainingLoader(exemplars, **settings).of(trainer, order)

    def _order(self, split: str, rank: int, world_size: int) -> BatchOrder:
        training = split == "train"
        size = self.batch_size if training else max(self.batch_size, 100)
        return BatchOrder(
            len(self._splits[split]), size, rank=rank, world_size=world_size, seed=self.seed, training=training
        )


class _TrainingLoader(DataLoader[Batch]):
    """Knows how far training has come in an epoch, so that a run that goes on visits what was left of it.

    Lightning saves the state in checkpoints, and loads it before it iterates.
    """

    def of(self, trainer: Trainer, order: BatchOrder) -> _TrainingLoader:
        self._trainer, self._order = trainer, order
        return self

    def state_dict(self) -> dict[str, int]:
        progress: Any = self._trainer.fit_loop.epoch_loop.batch_progress.current
        if progress.processed >= self._trainer.num_training_batches:
            return {"epoch": self._order.epoch + 1, "batch": 0}
        return {"epoch": self._order.epoch, "batch": progress.processed}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        self._order.go_on(state["epoch"], state["batch"])


def check_lowest(**arguments: tuple[int, int]) -> None:
    """Compares arguments of a data module, each given with its lowest value.

    Raises:
        ValueError: if one is lower.
    """
    for name, (value, lowest) in arguments.items():
        if value < lowest:
            raise ValueError(f"data.{name} is at least {lowest}; got {value}.")
