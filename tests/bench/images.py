"""What images cost: maximising, rendering, visiting a million."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from parts import make_data, make_model
from rates import operations, passing, writing
from table import Row, compared

import lightning_emerge as le
from lightning_emerge.capture import open_network
from lightning_emerge.data.dataset import Visit
from lightning_emerge.measures.maximisation import find_palette, maximise


def bench_maximising(rounds: int) -> Iterator[Row]:
    """Maximising 8 filters of conv4_3 over as many passes of 8 images there and back to the image."""
    model, iterations = make_model(), 64
    images = make_data().stimulus_bank().images
    exemplars, palette = images[:8], find_palette(images)
    with open_network(model, ["conv4_3"]) as network:

        def respond(images: torch.Tensor) -> torch.Tensor:
            return network.respond("conv4_3", images).mean(dim=(2, 3))[:, :8]

        def passes() -> None:
            for _ in range(iterations):
                seen = exemplars.clone().requires_grad_()
                torch.autograd.grad(respond(seen).diagonal().sum(), seen)

        deep = operations(respond, images[:1]) / operations(model.network, images[:1])
        row = Row(
            "images",
            "maximising images of 8 filters of conv4_3, 64 iterations",
            "64 passes of 8 images there and back to the image",
            floor=passing(model.network, exemplars, 2 * iterations * deep),
            why="The rest is the waves' transform, the resampling of the image and Adam's steps.",
        )
        yield compared(row, lambda: maximise(respond, exemplars, palette, iterations=iterations), passes, rounds)


def bench_rendering(rounds: int) -> Iterator[Row]:
    """Rendering at 64 x 64 over writing as many bytes, and at 10^6 exemplars a token over at 10^3."""
    few, many = _rendered(1000), _rendered(1_000_000)
    canvas, random = np.random.default_rng(0).random((1000, 3, 64, 64), dtype=np.float32), np.random.default_rng(0)
    token = few.tokens[0]

    def visit(data: le.TokenDataModule) -> Callable[[], None]:
        exemplars = data.train_dataloader().dataset

        def run() -> None:
            for _ in range(16):
                exemplars[Visit(random.integers(0, len(exemplars), 64).tolist(), 0)]

        return run

    row = Row(
        "images",
        "rendering 1,000 exemplars at 64 x 64",
        "writing as many floats as bytes",
        floor=writing(canvas.size),
        why="Background, blur, light, noise and pieces are about 0.7 million operations a picture.",
    )
    yield compared(row, lambda: few.images("train", token, range(1000)), lambda: canvas.astype(np.uint8), rounds)
    why = "What a picture costs does not depend on how many there are."
    row = Row(
        "images", "visiting 1,024 of 1,000,000 a token, not cached", "the same of 1,000 a token", bar=1.2, why=why
    )
    yield compared(row, visit(many), visit(few), rounds)
    before = _resident()
    for _ in range(10):
        visit(many)()
    why = "A label, and a place in an epoch's order, is all that is kept of an exemplar."
    figure = "memory that visiting 10,240 of 1,000,000 a token leaves"
    yield Row("images", figure, why=why, value=_resident() - before, unit="MiB")


def _rendered(exemplars: int) -> le.TokenDataModule:
    data = le.TokenDataModule(exemplars, image_size=64, cache_mib=0)
    data.setup("fit")
    return data


def _resident() -> float:
    """Resident memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
