"""What measures of geometry cost: dissimilarities, CKA, embeddings."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import rsatoolbox
import torch
from parts import forward, make_data, make_model
from passed import run_bank
from rates import grams, passing
from table import Row, compared

import lightning_emerge as le
from lightning_emerge.analysis.embedding import align_umap
from lightning_emerge.capture import default_layers
from lightning_emerge.measures.cka import debiased_cka
from lightning_emerge.measures.geometry import layer_geometry
from lightning_emerge.measures.rdm import correlation_rdm


def bench_rdm(rounds: int) -> Iterator[Row]:
    """The correlation RDM of 500 stimuli x 36,864 features."""
    features = torch.randn(500, 36_864, generator=torch.Generator().manual_seed(0))
    data, floor = rsatoolbox.data.Dataset(features.numpy()), grams(500, [36_864])
    yield compared(
        Row(
            "geometry",
            "correlation RDM, 500 x 36,864",
            "its one Gram product",
            floor=floor,
            why="A Gram product computes each pair twice; ours computes it once, and reads the responses twice more.",
        ),
        lambda: correlation_rdm(features),
        lambda: features @ features.T,
        rounds,
    )
    yield compared(
        Row("geometry", "the same", "rsatoolbox", bar=1, floor=floor, why="rsatoolbox computes in float64."),
        lambda: correlation_rdm(features),
        lambda: rsatoolbox.rdm.calc_rdm(data, "correlation"),
        rounds,
    )


def bench_cka(rounds: int) -> Iterator[Row]:
    """CKA of 13 x 13 layers on 256 images at 64 x 64, over the forward pass and the Gram products that it needs."""
    model = make_model(image_size=64)
    images = torch.rand(256, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    bank = le.StimulusBank(images, torch.arange(256) % 5, tuple(map(str, range(256))), tuple("abcde"))
    layers = [layer for layer in default_layers(model) if layer.startswith("conv")]
    features = [rows[0].numel() for rows in run_bank(model, bank, layers).activations.values()]

    def work() -> None:
        seen = run_bank(model, bank, layers).activations.values()
        debiased_cka(torch.stack([layer_geometry(rows.flatten(1)).gram for rows in seen]))

    def products() -> None:
        for rows in run_bank(model, bank, layers).activations.values():
            rows.flatten(1) @ rows.flatten(1).T

    why = "Responses are read once more to be centred; the CKA of Gram matrices is little beside that."
    floor = passing(model.network, images) + grams(256, features)
    row = Row("geometry", "debiased CKA, 13 x 13 layers, 256 at 64 x 64", "forward pass and Gram products", why=why)
    yield compared(Row(**{**vars(row), "floor": floor}), work, products, rounds)


def bench_geometry(rounds: int) -> Iterator[Row]:
    """All that CategoryProbe and SimilarityProbe measure of 250 stimuli in 13 layers, over one forward pass."""
    model, bank = make_model(), make_data().stimulus_bank()
    layers = tuple(layer for layer in default_layers(model) if layer.startswith("conv"))
    seen = run_bank(model, bank, layers)

    def work() -> None:
        fresh = {layer: rows.view_as(rows) for layer, rows in seen.activations.items()}  # products are not known yet
        capture = le.Capture(
            0, layers, bank, activations=fresh, unfiltered={}, outputs=seen.outputs, features=None, readout=None
        )
        for probe in (le.CategoryProbe(), le.SimilarityProbe()):
            list(probe.measure(capture))

    row = Row(
        "geometry",
        "all measures of CategoryProbe and SimilarityProbe, 250 stimuli, 13 layers",
        "one forward pass of the bank",
        floor=grams(250, [rows[0].numel() for rows in seen.activations.values()]),
        why="They share one product a layer; most of the rest is reading activations and fitting read-outs.",
    )
    yield compared(row, work, lambda: forward(model.network, bank.images), rounds)


def bench_embedding(_rounds: int) -> Iterator[Row]:
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

    why = "Each step begins where the one before ended, and is turned onto it; AlignedUMAP moves all steps together."
    yield compared(
        Row("geometry", "UMAP of 20 steps of 250 points", "umap-learn's AlignedUMAP", bar=1, why=why),
        lambda: align_umap(squared),
        aligned,
        1,
    )
    pictures = align_umap(squared)[12:]
    moves = [
        np.linalg.norm(after.points - before.points, axis=1).mean() / np.ptp(after.points, axis=0).max()
        for before, after in pairwise(pictures)
    ]
    why = "After convergence, from step to step."
    yield Row("geometry", "how far its points move", "the picture's width", why=why, value=float(np.mean(moves)))
