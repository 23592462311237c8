"""What probes cost on a GPU: `python tests/bench/gpu.py`. Without one it says that nothing is measured.

A ratio is a time over its floor, measured in the same process; share of waiting is the time in which no kernel ran over
all of the time from the first kernel to the last.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from parts import DEFAULT, FULL, make_model, read_probes
from table import medians
from torch.nn.functional import cross_entropy

import lightning_emerge as le

Figures = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Case:
    """The run to measure: the default one, made larger."""

    device: str = "cuda"
    image_size: int = 224
    batch_size: int = 256
    exemplars: int = 500
    epochs: int = 8

    def data(self) -> le.TokenDataModule:
        return le.TokenDataModule(
            self.exemplars, image_size=self.image_size, batch_size=self.batch_size, min_exemplars=1
        )

    def model(self) -> le.TokenClassifier:
        return make_model(image_size=self.image_size)

    def fit(self, callbacks: Iterable[Callback], data: le.TokenDataModule) -> int:
        """Trains, and gives the number of optimizer steps."""
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(
                accelerator="gpu" if self.device == "cuda" else "cpu",
                devices=1,
                max_epochs=self.epochs,
                limit_val_batches=0,
                logger=TensorBoardLogger(folder),
                callbacks=[*callbacks],
                enable_progress_bar=False,
                enable_model_summary=False,
                enable_checkpointing=False,
            )
            trainer.fit(self.model(), datamodule=data)
        return trainer.global_step


def bench_fit(rounds: int, case: Case, configs: Iterable[Path] = (DEFAULT,)) -> Figures:
    """A fit with the probes of some configurations over one with none."""
    data, configs = case.data(), [*configs]
    case.fit([], data)  # kernels are chosen and images are rendered
    pairs = [
        (
            _seconds(lambda: case.fit(read_probes(*configs), data), case.device),
            _seconds(lambda: case.fit([], data), case.device),
        )
        for _ in range(rounds)
    ]
    return {f"GPU: fit, probes of {configs[-1].stem} / none": medians(pairs)}


def bench_waiting(_rounds: int, case: Case) -> Figures:
    """How much of a fit the GPU waits for data, and with the default probes for data or a probe."""
    data = case.data()
    case.fit([], data)
    return {
        f"GPU: waiting, {name}": waiting(_kernels(lambda callbacks=callbacks: case.fit(callbacks, data)))
        for name, callbacks in (("no probes", []), ("default probes", read_probes(DEFAULT)))
    }


def bench_constant_batch(rounds: int, case: Case) -> Figures:
    """A fit without probes over as many steps on one batch that stays on the device, as one CUDA graph."""
    data = case.data()
    steps = case.fit([], data)
    step = _recorded(_training_step(case), case.device)

    def floor() -> None:
        for _ in range(steps):
            step()

    pairs = [(_seconds(lambda: case.fit([], data), case.device), _seconds(floor, case.device)) for _ in range(rounds)]
    return {"GPU: fit without probes / one batch as a CUDA graph": medians(pairs)}


def waiting(kernels: Iterable[tuple[float, float]]) -> dict[str, float]:
    """Says how long no kernel ran between the first and the last, from when each began and ended, in microseconds."""
    ordered = sorted(kernels)
    begin = end = ordered[0][0]
    idle = 0.0
    for start, stop in ordered:
        idle += max(start - end, 0)
        end = max(end, stop)
    return {"ms": idle / 1000, "floor_ms": (end - begin) / 1000, "ratio": idle / (end - begin)}


def _training_step(case: Case) -> Callable[[], Any]:
    model = case.model().network.to(case.device)
    optimizer = torch.optim.Adam(model.parameters(), capturable=case.device == "cuda")
    images = torch.randn(case.batch_size, 3, case.image_size, case.image_size, device=case.device)
    labels = torch.arange(case.batch_size, device=case.device) % 5

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        cross_entropy(model(images), labels).backward()
        optimizer.step()

    return step


def _recorded(step: Callable[[], Any], device: str) -> Callable[[], Any]:
    """The step as a CUDA graph, where there is CUDA."""
    if device != "cuda":
        return step
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def _kernels(work: Callable[[], Any]) -> list[tuple[float, float]]:
    """When kernels began and ended; copies to and from the GPU are none."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        work()
        torch.cuda.synchronize()
    kernels = [event for event in seen.events() if event.device_type == DeviceType.CUDA]
    return [
        (event.time_range.start, event.time_range.end)
        for event in kernels
        if not event.name.startswith(("Memcpy", "Memset"))
    ]


def _seconds(work: Callable[[], Any], device: str) -> float:
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    begin = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - begin


def bench_gpu(rounds: int) -> Figures:
    """All figures on a GPU; none without one."""
    if not torch.cuda.is_available():
        print("GPU: not measured: no GPU")
        return {}
    case = Case()
    figures = {**bench_fit(rounds, case), **bench_waiting(rounds, case), **bench_constant_batch(rounds, case)}
    return {**figures, **bench_fit(1, case, (DEFAULT, FULL))}


if __name__ == "__main__":
    print(json.dumps(bench_gpu(3), indent=2))
