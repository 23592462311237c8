"""The LightningModule that trains a network to tell tokens apart."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR, ReduceLROnPlateau
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from lightning_emerge.models.rate import RiseAndFall


class TokenClassifier(LightningModule):
    """Trains a network by cross-entropy and says how well it tells each token.

    Logged: `train/loss`, `train/accuracy` and `learning_rate` at each step; `val/...` and `test/...` of loss, accuracy
    and accuracy of each token once an epoch. The confusion matrix of the last validation or test is in `confusion`.

    Args:
        network: maps images (exemplar, channel, y, x) to logits (exemplar, token).
        optimizer: any optimizer; it is given the network's parameters.
        scheduler: any learning-rate scheduler, or none for a constant rate. `RiseAndFall` and `OneCycleLR` are told how
            many optimizer steps the run has, if they were not.
        scheduler_interval: whether the scheduler counts optimizer steps or epochs.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: OptimizerCallable = torch.optim.Adam,
        scheduler: LRSchedulerCallable | None = None,
        scheduler_interval: Literal["step", "epoch"] = "epoch",
    ) -> None:
        super().__init__()
        self.network = network
        self._optimizer, self._scheduler, self._interval = optimizer, scheduler, scheduler_interval
        self.tokens: tuple[str, ...] = ()
        self.confusion: Mapping[str, torch.Tensor] = {}

    def check_data(self, data: LightningDataModule) -> None:
        """Compares the network with the data it is to learn.

        Raises:
            ValueError: if the network's number of outputs or the size of its images is not the data's.
        """
        tokens, shape = getattr(data, "tokens", None), getattr(data, "image_shape", None)
        outputs = getattr(self.network, "tokens", None)
        if tokens is not None and outputs is not None and outputs != len(tokens):
            raise ValueError(
                f"The network has one output a token; it has {outputs}, the data have {len(tokens)} tokens. "
                f"Set --model.network.init_args.tokens={len(tokens)}."
            )
        if shape is None:
            return
        for name, value in (("channels", shape[0]), ("image_size", shape[1])):
            own = getattr(self.network, name, value)
            if own != value:
                raise ValueError(
                    f"The network and the data agree on {name}; the network has {own}, the data have {value}. "
                    f"Set --model.network.init_args.{name}={value}."
                )

    def setup(self, stage: str) -> None:
        """Makes the metrics, for which the tokens have to be known."""
        data = getattr(self.trainer, "datamodule", None)
        if data is not None:
            self.check_data(data)
        tokens = _token_names(data, self.network)
        if tokens == self.tokens:
            return
        self.tokens = tokens
        self.val_metrics, self.test_metrics = _make_metrics(len(self.tokens)), _make_metrics(len(self.tokens))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps images (exemplar, channel, y, x) to logits (exemplar, token)."""
        return self.network(images)

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> torch.Tensor:
        logits, label = self(batch["image"]), batch["label"]
        loss = cross_entropy(logits, label)
        if self._is_logged():
            accuracy = (logits.detach().argmax(dim=1) == label).float().mean()
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            self.log_dict({"train/loss": loss, "learning_rate": rate}, batch_size=len(label))
            self.log("train/accuracy", accuracy, prog_bar=True, batch_size=len(label))
        return loss

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        self._evaluate("val", batch)

    def test_step(self, batch: Mapping[str, Any], batch_idx: int) -> None:
        self._evaluate("test", batch)

    def on_validation_epoch_end(self) -> None:
        self._report("val")

    def on_test_epoch_end(self) -> None:
        self._report("test")

    def predict_step(self, batch: Mapping[str, Any], batch_idx: int) -> dict[str, Any]:
        """Returns ids, the name of the likeliest token and the probabilities (exemplar, token)."""
        probabilities = self(batch["image"]).softmax(dim=1)
        tokens = [self.tokens[k] for k in probabilities.argmax(dim=1).tolist()]
        return {"id": batch["id"], "token": tokens, "probabilities": probabilities}

    def configure_optimizers(self) -> Any:
        optimizer = self._optimizer(self.network.parameters())
        if self._scheduler is None:
            return optimizer
        scheduler = self._scheduler(optimizer, **self._length())
        settings: dict[str, Any] = {"scheduler": scheduler, "interval": self._interval}
        if isinstance(scheduler, ReduceLROnPlateau):
            if self._interval == "step":
                raise ValueError(
                    "ReduceLROnPlateau watches a loss that is known once an epoch; got scheduler_interval 'step'. "
                    "Set --model.scheduler_interval=epoch."
                )
            settings["monitor"] = getattr(scheduler, "monitor", "val/loss")
        return {"optimizer": optimizer, "lr_scheduler": settings}

    def _length(self) -> dict[str, int]:
        """The argument that a scheduler of one cycle lacks, if this is one."""
        made = self._scheduler
        kinds = (made, getattr(made, "func", None), *getattr(made, "args", ()))
        given: Mapping[str, Any] = getattr(made, "keywords", {})
        cycle = any(isinstance(kind, type) and issubclass(kind, OneCycleLR | RiseAndFall) for kind in kinds)
        if not cycle or given.get("total_steps") or given.get("epochs"):
            return {}
        if self._interval != "step":
            raise ValueError(
                "A rate that rises and falls over the run counts optimizer steps; got scheduler_interval 'epoch'. Set "
                "--model.scheduler_interval=step."
            )
        try:
            steps = self.trainer.estimated_stepping_batches
        except RuntimeError:  # nobody trains it yet: somebody wants to know whether the arguments will do
            return {"total_steps": 100}
        if not 0 < steps < inf:
            raise ValueError(
                "A rate that rises and falls over the run has to know its length; this one has no last step. Set "
                "--trainer.max_epochs, or --model.scheduler.init_args.total_steps."
            )
        return {"total_steps": int(steps)}

    def _is_logged(self) -> bool:
        """Whether a logger is going to ask for this step, or callbacks at the end of an epoch."""
        # Lightning takes a millisecond for each value, and does so before it knows whether anyone wants it.
        every: int = self.trainer.log_every_n_steps  # pyright: ignore[reportAttributeAccessIssue]
        asked = every > 0 and (self.trainer.global_step + 1) % every == 0
        return asked or self.trainer.is_last_batch or bool(self.trainer.fast_dev_run)  # pyright: ignore[reportAttributeAccessIssue]

    def _metrics(self, split: str) -> MetricCollection:
        return self.val_metrics if split == "val" else self.test_metrics

    def _evaluate(self, split: str, batch: Mapping[str, Any]) -> None:
        logits, label = self(batch["image"]), batch["label"]
        self.log(f"{split}/loss", cross_entropy(logits, label), batch_size=len(label), sync_dist=True)
        self._metrics(split).update(logits, label)

    def _report(self, split: str) -> None:
        values = self._metrics(split).compute()
        self._metrics(split).reset()
        self.log(f"{split}/accuracy", values["accuracy"], prog_bar=True, sync_dist=True)
        for token, accuracy in zip(self.tokens, values["accuracy_by_token"], strict=True):
            self.log(f"{split}/accuracy/{token}", accuracy, sync_dist=True)
        self.confusion = {**self.confusion, split: values["confusion"]}


def _make_metrics(tokens: int) -> MetricCollection:
    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(tokens, average="micro"),
            "accuracy_by_token": MulticlassAccuracy(tokens, average=None),
            "confusion": MulticlassConfusionMatrix(tokens),
        },
        compute_groups=False,
    )


def _token_names(data: LightningDataModule | None, network: nn.Module) -> tuple[str, ...]:
    names = getattr(data, "tokens", None)
    if names is not None:
        return tuple(names)
    count = getattr(network, "tokens", None)
    if count is None:
        raise ValueError(
            "TokenClassifier learns the tokens from the data module's or the network's `tokens`; neither has it."
        )
    return tuple(str(k) for k in range(count))
