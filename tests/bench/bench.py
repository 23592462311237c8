"""Speed, as ratios in one run: `make bench`. Absolute times are for this machine at this hour; trust the ratios.

Each figure is a time over its floor: the least work, measured beside it, that any way of doing the same has to do.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from board import bench_board
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger

import lightning_emerge as le
from lightning_emerge.analysis.embedding import align_umap
from lightning_emerge.capture import Pass, default_layers, open_network, run_bank
from lightning_emerge.measures.cka import debiased_cka
from lightning_emerge.measures.geometry import layer_geometry
from lightning_emerge.measures.maximise import find_palette, maximise
from lightning_emerge.measures.rdm import correlation_rdm

DEFAULT = (
    le.CategoryProbe,
    le.GradientProbe,
    le.FilterProbe,
    le.TopExemplarProbe,
    le.SimilarityProbe,
    le.EmbeddingProbe,
)
"""The probes of configs/vgg5.yaml."""


def paired(work: Callable[[], Any], floor: Callable[[], Any], rounds: int) -> dict[str, float]:
    """Times two things in turn, so that a machine whose speed drifts slows both; medians in milliseconds."""
    work()
    floor()
    times: list[tuple[float, float]] = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        middle = time.perf_counter()
        floor()
        times.append((middle - begin, time.perf_counter() - middle))
    return {
        "ms": 1000 * statistics.median(a for a, _ in times),
        "floor_ms": 1000 * statistics.median(b for _, b in times),
        "ratio": statistics.median(a / b for a, b in times),
    }


def bench_looks(rounds: int) -> dict[str, dict[str, float]]:
    """Each probe's look, measured and drawn, and all of them together, over one forward pass of the bank of 250."""
    data, model = le.TokenDataModule(), _model()
    data.setup("fit")
    bank, layers = data.stimulus_bank(), default_layers(model)
    weights = {layer: model.network.get_submodule(layer)[0].weight.detach() for layer in layers}

    def floor() -> None:
        run_bank(model, bank, [])

    def look(probe: le.Probe) -> Callable[[], None]:
        def run() -> None:
            seen = run_bank(model, bank, layers) if probe.needs.passes else Pass()
            with open_network(model, layers) as network:
                show(probe, seen, network)

        def show(probe: le.Probe, seen: Pass, network: le.Network) -> None:
            gradients = weights if probe.needs.training else {}
            capture = le.Capture(
                0,
                layers,
                bank,
                seen.activations,
                outputs=seen.outputs,
                weights=weights,
                gradients=gradients,
                updates=gradients,
                network=network,
            )
            for measurement in probe.measure(capture):
                probe.draw(measurement)

        return run

    probes = [kind() for kind in DEFAULT]
    return {f"{type(probe).__name__}: look / forward pass": paired(look(probe), floor, rounds) for probe in probes}


def bench_rdm(rounds: int) -> dict[str, dict[str, float]]:
    """The correlation RDM of 500 stimuli x 36,864 features over the one matrix product that it needs."""
    features = torch.randn(500, 36_864, generator=torch.Generator().manual_seed(0))
    import rsatoolbox

    data = rsatoolbox.data.Dataset(features.numpy())
    return {
        "RDM 500 x 36,864 / Gram product": paired(
            lambda: correlation_rdm(features), lambda: features @ features.T, rounds
        ),
        "RDM 500 x 36,864: rsatoolbox / ours": paired(
            lambda: rsatoolbox.rdm.calc_rdm(data, "correlation"), lambda: correlation_rdm(features), rounds
        ),
    }


def bench_cka(rounds: int) -> dict[str, dict[str, float]]:
    """CKA of 13 x 13 layers on 256 images at 64 x 64, over the forward pass and the Gram products that it needs."""
    model = _model(image_size=64)
    images = torch.rand(256, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    bank = le.StimulusBank(images, torch.arange(256) % 5, tuple(map(str, range(256))), tuple("abcde"))
    layers = [layer for layer in default_layers(model) if layer.startswith("conv")]

    def work() -> None:
        seen = run_bank(model, bank, layers).activations.values()
        debiased_cka(torch.stack([layer_geometry(rows.flatten(1)).gram for rows in seen]))

    def floor() -> None:
        for rows in run_bank(model, bank, layers).activations.values():
            rows.flatten(1) @ rows.flatten(1).T

    return {"CKA 13 x 13, 256 at 64 x 64 / forward + Grams": paired(work, floor, rounds)}


def bench_geometry(rounds: int) -> dict[str, dict[str, float]]:
    """All that CategoryProbe and SimilarityProbe measure of 250 stimuli in 13 layers, over one forward pass."""
    data, model = le.TokenDataModule(), _model()
    data.setup("fit")
    bank = data.stimulus_bank()
    layers = tuple(layer for layer in default_layers(model) if layer.startswith("conv"))
    seen = run_bank(model, bank, layers)
    weights = {layer: model.network.get_submodule(layer)[0].weight.detach() for layer in layers}

    def work() -> None:
        fresh = {layer: rows.view_as(rows) for layer, rows in seen.activations.items()}  # products are not known yet
        capture = le.Capture(0, layers, bank, fresh, outputs=seen.outputs, weights=weights)
        for probe in (le.CategoryProbe(), le.SimilarityProbe()):
            list(probe.measure(capture))

    return {"geometry of 250 in 13 layers / forward pass": paired(work, lambda: run_bank(model, bank, []), rounds)}


def bench_embedding(rounds: int) -> dict[str, dict[str, float]]:
    """20 steps of 250 points, ours over umap-learn's AlignedUMAP."""
    random, labels = np.random.default_rng(0), np.arange(250) % 5
    centres, own = random.normal(size=(5, 100)), random.normal(size=(250, 100))
    grown = np.linspace(0, 2, 20).clip(max=1)
    rows = [own * (1.2 - 0.6 * s) + 1.2 * s * centres[labels] + 0.03 * random.normal(size=own.shape) for s in grown]
    squared = [torch.cdist(one, one) ** 2 for one in map(torch.from_numpy, rows)]
    relations = [{k: k for k in range(250)}] * 19

    def aligned() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from umap import AlignedUMAP

            AlignedUMAP(random_state=0).fit(rows, relations=relations)

    figures = {"20 steps of 250 points / AlignedUMAP": paired(lambda: align_umap(squared), aligned, 1)}
    pictures = align_umap(squared)[12:]
    moves = [
        np.linalg.norm(after.points - before.points, axis=1).mean() / np.ptp(after.points, axis=0).max()
        for before, after in pairwise(pictures)
    ]
    figures["movement from step to step / picture's width"] = {
        "ms": 0.0,
        "floor_ms": 0.0,
        "ratio": float(np.mean(moves)),
    }
    return figures


def bench_maximising(rounds: int) -> dict[str, dict[str, float]]:
    """Maximising 8 filters of conv4_3 over as many passes of 8 images there and back to the image."""
    data, model, iterations = le.TokenDataModule(), _model(), 64
    data.setup("fit")
    images = data.stimulus_bank().images
    exemplars, palette = images[:8], find_palette(images)
    with open_network(model, ["conv4_3"]) as network:

        def respond(images: torch.Tensor) -> torch.Tensor:
            return network.respond("conv4_3", images).mean(dim=(2, 3))[:, :8]

        def floor() -> None:
            for _ in range(iterations):
                seen = exemplars.clone().requires_grad_()
                torch.autograd.grad(respond(seen).diagonal().sum(), seen)

        name = "maximising 8 filters of conv4_3 / its floor"
        return {name: paired(lambda: maximise(respond, exemplars, palette, iterations=iterations), floor, rounds)}


def bench_rendering(rounds: int) -> dict[str, dict[str, float]]:
    """Rendering at 64 x 64 over writing as many bytes, and at 10^6 exemplars a token over at 10^3."""
    from lightning_emerge.data.dataset import Visit

    few, many = _rendered(1000), _rendered(1_000_000)
    canvas = np.random.default_rng(0).random((1000, 3, 64, 64), dtype=np.float32)
    token = few.tokens[0]
    random = np.random.default_rng(0)

    def visit(data: le.TokenDataModule) -> Callable[[], None]:
        exemplars = data.train_dataloader().dataset

        def run() -> None:
            for _ in range(16):
                exemplars[Visit(random.integers(0, len(exemplars), 64).tolist(), 0)]

        return run

    figures = {
        "render 1,000 at 64 x 64 / floats to bytes": paired(
            lambda: few.images("train", token, range(1000)), lambda: canvas.astype(np.uint8), rounds
        ),
        "visit 1,024 of 10^6 a token / of 10^3": paired(visit(many), visit(few), rounds),
    }
    before = _resident()
    for _ in range(10):
        visit(many)()
    figures["visit 10,240 of 10^6 a token: memory"] = {"mib": _resident() - before}
    return figures


def _rendered(exemplars: int) -> le.TokenDataModule:
    data = le.TokenDataModule(exemplars, image_size=64, cache_mib=0)
    data.setup("fit")
    return data


def _resident() -> float:
    """Resident memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def bench_fit(rounds: int) -> dict[str, dict[str, float]]:
    """156 steps (2 epochs) with the default probes, their pictures and records, over the same without."""
    data = le.TokenDataModule()
    data.setup("fit")

    def fit(probes: list[le.Probe]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            trainer = _trainer(folder, probes, max_epochs=2)
            trainer.fit(_model(), datamodule=data)

    def probes() -> list[le.Probe]:
        looks = {le.TopExemplarProbe: le.LogSpaced(5), le.EmbeddingProbe: le.LogSpaced(10)}  # as in configs/vgg5.yaml
        return [kind(looks.get(kind, le.LogSpaced(20)), on_error="raise") for kind in DEFAULT]

    return {"fit, 2 epochs: default probes / none": paired(lambda: fit(probes()), lambda: fit([]), rounds)}


def bench_memory(rounds: int) -> dict[str, dict[str, float]]:
    """Peak memory of a fit with a bank of 500 at 64 x 64, looked at in all layers, beyond that of one without."""
    peaks = {kind: [_peak(kind) for _ in range(rounds)] for kind in ("none", "default")}
    more = statistics.median(peaks["default"]) - statistics.median(peaks["none"])
    return {"fit, bank of 500 at 64 x 64: peak memory": {"mib": more}}


def _peak(kind: str) -> float:
    """Peak resident memory in MiB of a fit in a process of its own."""
    command = [sys.executable, __file__, "--peak", kind]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[-1])


def _fit_at_64(kind: str) -> None:
    data = le.TokenDataModule(bank_exemplars=100, image_size=64)
    data.setup("fit")
    probes = DEFAULT if kind == "default" else ()
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(folder, [probe(le.EverySteps(1), on_error="raise") for probe in probes], max_steps=6)
        trainer.fit(_model(image_size=64), datamodule=data)


def _trainer(folder: str, probes: Sequence[Callback], **length: int) -> Trainer:
    return Trainer(
        accelerator="cpu",
        devices=1,
        limit_val_batches=0,
        logger=TensorBoardLogger(folder),
        callbacks=list(probes),
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        **length,
    )


def _model(**changes: int) -> le.TokenClassifier:
    seed_everything(0, verbose=False)
    return le.TokenClassifier(le.VGG(**changes))


def _conditions() -> dict[str, str]:
    packages = ("lightning_emerge", "lightning", "torch", "numpy", "matplotlib", "zarr")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, Python {platform.python_version()}",
        **{name: version(name) for name in packages},
    }


def _say(name: str, figure: dict[str, float]) -> str:
    limit = "".join(f", {figure[key]:.0f} at most" for key in ("limit_ms", "limit_mib") if key in figure)
    if "mib" in figure:
        return f"{name:45} {figure['mib']:24.1f} MiB more{limit}"
    if "floor_ms" not in figure:
        return f"{name:45} {figure['ms']:17.1f}{limit}"
    return f"{name:45} {figure['ratio']:7.2f} {figure['ms']:9.1f} {figure['floor_ms']:9.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="paired rounds of each figure (default: 5)")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"), help="where the figures go as JSON")
    parser.add_argument("--only", help="a word in the name of what to measure, such as rdm (default: all)")
    parser.add_argument("--peak", choices=["none", "default"], help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.peak:
        _fit_at_64(wanted.peak)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    figures: dict[str, dict[str, float]] = {}
    print(f"{'figure':45} {'ratio':>7} {'ms':>9} {'floor ms':>9}")
    geometry = (bench_rdm, bench_cka, bench_geometry, bench_embedding)
    for bench in (*geometry, bench_maximising, bench_rendering, bench_looks, bench_memory, bench_fit, bench_board):
        if wanted.only and wanted.only not in bench.__name__:
            continue
        for name, figure in bench(wanted.rounds if bench not in (bench_fit, bench_memory) else 2).items():
            figures[name] = figure
            print(_say(name, figure), flush=True)
    wanted.json.parent.mkdir(parents=True, exist_ok=True)
    wanted.json.write_text(json.dumps({"conditions": _conditions(), "figures": figures}, indent=2))
    print(f"\n{wanted.json}")


if __name__ == "__main__":
    main()
