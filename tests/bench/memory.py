"""What looking adds to the peak memory of a fit, in processes of their own."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from parts import DEFAULT, make_model, read_probes
from table import Row

import lightning_emerge as le


def bench_memory(rounds: int) -> Iterator[Row]:
    """Peak memory of a fit with a bank of 500 at 64 x 64, looked at in all layers, beyond that of one without."""
    peaks = {kind: [_peak(kind) for _ in range(min(rounds, 2))] for kind in ("none", "default")}
    yield Row(
        "memory",
        "peak of a fit with a bank of 500 at 64 x 64",
        "that of one without probes",
        why="The activations of the bank in the probes' layers are kept while they look.",
        value=statistics.median(peaks["default"]) - statistics.median(peaks["none"]),
        unit="MiB",
    )


def _peak(kind: str) -> float:
    """Peak resident memory in MiB of a fit in a process of its own."""
    command = [sys.executable, __file__, kind]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def _fit(kind: str) -> None:
    data = le.TokenDataModule(bank_exemplars=100, image_size=64)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="cpu",
            devices=1,
            max_steps=6,
            limit_val_batches=0,
            logger=TensorBoardLogger(folder),
            callbacks=[*(read_probes(DEFAULT, schedule=le.EverySteps(1)) if kind == "default" else ())],
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
        )
        trainer.fit(make_model(image_size=64), datamodule=data)


if __name__ == "__main__":
    _fit(sys.argv[1])
    # Not getrusage, whose peak counts from that of the process which started this one.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    print(int(peak.split()[1]) / 1024)
