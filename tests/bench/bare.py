"""One training run of a configuration in a process of its own: by Lightning's `fit`, or by a loop of PyTorch alone.

Both begin with the same weights and visit the same batches in the same order, so they end with the same bits.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningCLI
from torch import nn
from torch.nn.functional import cross_entropy

from lightning_emerge.cli.parser import ANY_PARTS
from lightning_emerge.cli.quiet import hold_messages, silence_warnings


class Clock(Callback):
    """Times training alone, without what comes before it and after it."""

    seconds = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds = -time.perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds += time.perf_counter()


def loop(model: LightningModule, data: LightningDataModule, epochs: int) -> list[float]:
    """Trains as PyTorch's tutorials do; gives the validation accuracy after each epoch."""
    network: nn.Module = model.network  # pyright: ignore[reportAssignmentType]
    settings = model.configure_optimizers()
    optimizer, scheduler = settings["optimizer"], settings["lr_scheduler"]["scheduler"]
    training, validation = data.train_dataloader(), data.val_dataloader()
    found = []
    for epoch in range(epochs):
        training.sampler.set_epoch(epoch)
        network.train()
        for batch in training:
            optimizer.zero_grad()
            cross_entropy(network(batch["image"]), batch["label"]).backward()
            optimizer.step()
        scheduler.step()
        network.eval()
        right, seen = 0, 0
        with torch.no_grad():
            for batch in validation:
                logits = network(batch["image"])
                cross_entropy(logits, batch["label"])
                right += int((logits.argmax(1) == batch["label"]).sum())
                seen += len(logits)
        found.append(right / seen)
    return found


def main() -> None:
    """Prints the seconds that it took, of the clock and of the processors, and a digest of the weights."""
    how, *arguments = sys.argv[1:]
    silence_warnings()
    hold_messages()
    cli = LightningCLI(
        **ANY_PARTS,
        save_config_callback=None,
        run=False,
        args=arguments,
    )
    cli.datamodule.setup("fit")
    clock = Clock()
    began, used = time.perf_counter(), time.process_time()
    if how == "fit":
        cli.trainer.callbacks.append(clock)
        cli.trainer.fit(cli.model, cli.datamodule)
    else:
        loop(cli.model, cli.datamodule, cli.trainer.max_epochs or 1)
    seconds, processors = time.perf_counter() - began, time.process_time() - used
    weights = b"".join(value.numpy().tobytes() for value in cli.model.network.state_dict().values())
    digest = hashlib.sha256(weights).hexdigest()
    spent = {"seconds": seconds, "training": clock.seconds or seconds, "processors": processors, "weights": digest}
    if cli.trainer.is_global_zero:
        print(json.dumps(spent))


if __name__ == "__main__":
    main()
