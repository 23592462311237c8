"""Stimuli as points in a plane, by layer and step after step, from the distances that an `EmbeddingProbe` records.

UMAP begins each step where the step before ended and goes on with small moves, and the outcome is laid over it; points
then move as far as their neighbours do and do not jump. All of this comes from records alone: after the fit, or
whenever it is asked for, it is the same picture, and training never waits for it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr
from matplotlib.figure import Figure

from lightning_emerge.figures.embedding import Journey, Panel, draw_journeys
from lightning_emerge.measures.embedding import laid_over, principal_scores
from lightning_emerge.records import Axis, FloatArray, Label, Measurement
from lightning_emerge.store.layout import STORE
from lightning_emerge.store.read import Run, open_run
from lightning_emerge.store.write import ArraySink

_SIZE = 10.0  # half the side of the first picture, as UMAP has it
_FIRST, _LATER = (500, 1.0), (400, 0.015)  # epochs, and how far a point moves in one at first
_SPREAD, _LEAST = 1.0, 0.1  # UMAP's defaults
_STREAM = (7919, 15838, 23757)  # of the negative samples: the same at every step, so that they move nothing

_SLOW = (
    ("umap.utils", "fast_knn_indices"),
    ("umap.umap_", "smooth_knn_dist"),
    ("umap.umap_", "compute_membership_strengths"),
    ("umap.layouts", "_nb_optimize_layout_euclidean_single_epoch"),
)  # to compile


@dataclass(frozen=True)
class Plane:
    """One picture of a layer at a step.

    Attributes:
        points: (stimulus, 2); NaN if the layer answers all stimuli alike.
        trust: its trustworthiness, 0 to 1.
        share: share of the layer's variance in the plane, 0 to 1; NaN for UMAP, whose plane is bent.
    """

    points: npt.NDArray[np.float64]
    trust: float
    share: float = np.nan


def align_umap(squared: Iterable[torch.Tensor], neighbours: int = 15) -> list[Plane]:
    """Lays one layer's stimuli out by UMAP at each of some steps, each from where the step before left them.

    McInnes, Healy & Melville (2018), *UMAP: Uniform manifold approximation and projection*. The first step begins with
    the principal components.

    Args:
        squared: squared distances (stimulus, stimulus) at each step.
        neighbours: of each stimulus, that are to stay its neighbours.
    """
    planes: list[Plane] = []
    before: torch.Tensor | None = None
    for distances in squared:
        if not bool(distances.isfinite().all() & (distances.max() > 0)):
            planes.append(Plane(np.full((len(distances), 2), np.nan), np.nan))
            continue
        start = _start(distances) if before is None else before
        points = _umap(distances, start, neighbours, *(_FIRST if before is None else _LATER))
        before = points - points.mean(dim=0) if before is None else laid_over(points, before)
        planes.append(Plane(before.numpy(), _trust(distances, before, neighbours)))
    return planes


def align_components(squared: Iterable[torch.Tensor], neighbours: int = 15) -> list[Plane]:
    """Lays one layer's stimuli out by their first two principal components at each step, over the step before.

    Args:
        squared: squared distances (stimulus, stimulus) at each step.
        neighbours: of each stimulus, for the trustworthiness.
    """
    planes: list[Plane] = []
    before: torch.Tensor | None = None
    for distances in squared:
        points, shares = principal_scores(distances, 2)
        if bool(points.isfinite().all()):
            before = points if before is None else laid_over(points, before)
            planes.append(Plane(before.numpy(), _trust(distances, points, neighbours), float(shares.sum())))
        else:
            planes.append(Plane(points.numpy(), np.nan))
    return planes


def embed_run(run: str | Path | Run, looks: int = 20, neighbours: int = 15) -> xr.Dataset:
    """Embeds the stimuli of a run whose `EmbeddingProbe` has recorded their distances, and keeps it in its folder.

    Args:
        run: the run, or its folder. The outcome goes into `embedding/` in it, in place of an earlier one, and can be
            opened by `open_run` again.
        looks: how many of the looks at most, evenly chosen, the first and the last among them; 1 or more.
        neighbours: UMAP's, and those that count for the trustworthiness.

    Returns:
        `umap` and `pca` (step, layer, stimulus, plane), the points; `umap_trust` and `pca_trust` (step, layer); and
        `pca_share` (step, layer), the share of the layer's variance that the two components have.

    Raises:
        FileNotFoundError: if there are no records.
        ValueError: if they hold no distances.
    """
    run = Run.of(run)
    records = run.read("distances")
    if records is None:
        raise ValueError(f"An embedding is made from what an EmbeddingProbe records; {run} has no 'distances'.")
    chosen = np.unique(np.linspace(0, records.sizes["step"] - 1, looks).round().astype(int))
    records = records.isel(step=chosen)
    layer = str(records.dims[1])
    squared = torch.from_numpy(records.values).double().square()
    found = {
        name: [align(squared[:, k], neighbours) for k in range(squared.shape[1])]
        for name, align in (("umap", align_umap), ("pca", align_components))
    }
    layers = Axis("layer", records[layer].values.tolist())
    stimuli = Axis("stimulus", records.stimulus.values.tolist(), notes=_notes(records))
    home = f"{run.folder}/embedding"
    sink = ArraySink(f"{home}/{STORE}", -1)
    try:
        for number, step in enumerate(records.step.values.tolist()):
            sink.write(step, list(_measure(step, number, found, (layers, stimuli))))
    finally:
        sink.close()
    return open_run(home).load()


def draw_embedding(embedding: xr.Dataset, columns: int = 4) -> Figure:
    """Draws what `embed_run` gives: each layer by UMAP at some steps, by components at the last, and tokens' paths.

    Args:
        embedding: of a run whose stimuli have tokens.
        columns: steps to draw, evenly chosen, the first and the last among them.
    """
    tokens = [str(token) for token in embedding.stimulus_token.values]
    names = np.array(tokens)
    chosen = np.unique(np.linspace(0, embedding.sizes["step"] - 1, columns).round().astype(int))
    journeys: dict[str, Journey] = {}
    for layer in embedding.layer.values.tolist():
        own = embedding.sel(layer=layer)
        panels = [
            Panel(f"UMAP, step {int(now.step)}, trust {float(now.umap_trust):.2f}", now.umap.values)
            for now in (own.isel(step=number) for number in chosen)
        ]
        last, points = own.isel(step=-1), own.umap.values
        about = f"{float(last.pca_share):.0%} of variance, trust {float(last.pca_trust):.2f}"
        panels.append(Panel(f"PCA: {about}", last.pca.values))
        path = np.stack([points[:, names == name].mean(axis=1) for name in dict.fromkeys(tokens)], axis=1)
        journeys[layer] = Journey(panels, path, points[-1])
    return draw_journeys(journeys, tokens)


def last_scores(run: str | Path | Run, components: int = 50) -> dict[str, FloatArray]:
    """Gives each layer's principal components at the last look of an `EmbeddingProbe`, for TensorBoard's projector.

    Returns:
        By layer, (stimulus, component) in float32; layers that answer all stimuli alike are left out.
    """
    run = Run.of(run)
    records = run.last("distances")
    if records is None:
        raise ValueError(f"Points are made from what an EmbeddingProbe records; {run} has no 'distances'.")
    squared = torch.from_numpy(records.values).double().square()
    count = min(components, squared.shape[-1] - 1)
    found = {
        str(layer): principal_scores(own, count)[0]
        for layer, own in zip(records[records.dims[0]].values, squared, strict=True)
    }
    return {layer: scores.float().numpy() for layer, scores in found.items() if bool(scores.isfinite().all())}


def _measure(
    step: int, number: int, found: dict[str, list[list[Plane]]], axes: tuple[Axis, Axis]
) -> Iterable[Measurement]:
    source, (layers, stimuli) = "embed_run", axes
    for name, by_layer in found.items():
        planes = [planes[number] for planes in by_layer]
        points = np.stack([plane.points for plane in planes])
        about = "Stimuli as points in a plane, laid over those of the look before"
        unit = "of the plane" if name == "umap" else "RMS over units"
        yield Measurement(name, points, (layers, stimuli, Axis("plane", ["x", "y"])), step, unit, source, about)
        trust = np.array([plane.trust for plane in planes])
        about = "Trustworthiness of the picture: whether neighbours in it are neighbours in the layer; 1 if all are"
        yield Measurement(f"{name}_trust", trust, (layers,), step, "0 to 1", source, about)
    share = np.array([planes[number].share for planes in found["pca"]])
    about = "Share of the layer's variance that the first two principal components have"
    yield Measurement("pca_share", share, (layers,), step, "share", source, about)


def _notes(records: xr.DataArray) -> dict[str, list[Label]]:
    return {"token": records.stimulus_token.values.tolist()} if "stimulus_token" in records.coords else {}


def _start(squared: torch.Tensor) -> torch.Tensor:
    points, _ = principal_scores(squared, 2)
    return points / points.abs().max() * _SIZE


def _trust(squared: torch.Tensor, points: torch.Tensor, neighbours: int) -> float:
    """How far neighbours in a picture are neighbours in the layer, 0 to 1 (Venna & Kaski 2001); NaN below 3 stimuli."""
    from sklearn.manifold import trustworthiness

    fewer = min(neighbours, (len(squared) - 1) // 2)
    if not fewer:
        return np.nan
    return float(trustworthiness(squared.numpy(), points.numpy(), n_neighbors=fewer, metric="precomputed"))


def _umap(squared: torch.Tensor, start: torch.Tensor, neighbours: int, epochs: int, rate: float) -> torch.Tensor:
    """Moves points from where they start so that neighbours stay or become neighbours.

    UMAP's class stretches both axes of where it starts to the same length, which moves all points of a picture that
    has settled; so its graph and its optimiser are called themselves.
    """
    with warnings.catch_warnings(), _same_threads():
        warnings.simplefilter("ignore")  # no TensorFlow, which is needed for something else
        _keep_compiled()
        from umap.layouts import optimize_layout_euclidean
        from umap.umap_ import find_ab_params, fuzzy_simplicial_set, make_epochs_per_sample

        a, b = find_ab_params(_SPREAD, _LEAST)
        distances = squared.sqrt().numpy().astype(np.float32)
        fewer = min(neighbours, len(distances) - 1)
        seed: Any = np.random.RandomState(0)  # of its own: no global number is used up
        made: Any = fuzzy_simplicial_set(distances, fewer, seed, "precomputed")
        graph = made[0].tocoo()
        graph.sum_duplicates()
        kept = graph.data >= graph.data.max() / epochs  # weaker ones would never be sampled
        points = np.ascontiguousarray(start.numpy().astype(np.float32))
        moved = optimize_layout_euclidean(
            points,
            points,
            graph.row[kept],
            graph.col[kept],
            epochs,
            len(points),
            make_epochs_per_sample(graph.data[kept], epochs),
            a,
            b,
            np.array(_STREAM, np.int64),
            1.0,
            rate,
            parallel=False,
            move_other=True,
        )
    return torch.from_numpy(moved).double()


@cache
def _keep_compiled() -> None:
    """Keeps UMAP's functions on disk where it can: UMAP compiles them anew in each process, for eight seconds."""
    import lightning_emerge.data.rendering.compiled  # noqa: F401  # says where they are kept

    for module, name in _SLOW:
        with suppress(AttributeError, RuntimeError):  # another release of UMAP, or no folder to keep it in
            getattr(import_module(module), name).enable_caching()


@contextmanager
def _same_threads() -> Iterator[None]:
    """Gives torch its number of threads back: numba sets that of the whole process to what it was started with."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
