"""How layers lay out the stimuli, and stimuli as points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure

from lightning_emerge.analysis.embedding import align_components, draw_embedding
from lightning_emerge.analysis.geometry import draw_run_fits
from lightning_emerge.figures.curves import draw_charts
from lightning_emerge.figures.embedding import Panel, draw_planes
from lightning_emerge.figures.rdm import draw_rdm_steps
from lightning_emerge.report.content import Picture, Section
from lightning_emerge.report.overlay import (
    MOST_LAYERS,
    Reduce,
    evenly,
    read_all,
    tell_change,
    tell_missing,
    tell_runs,
    to_chart,
)
from lightning_emerge.store.folder import Folder
from lightning_emerge.store.format import METADATA
from lightning_emerge.store.layout import STORE
from lightning_emerge.store.read import Run, words
from lightning_emerge.store.shown import shown_of

_SHAPE = {
    "distance_ratio": "Distance within tokens over that between",
    "silhouette": "Silhouette of the tokens",
    "participation_ratio": "Dimensions (participation ratio)",
}
_COLLAPSE = {
    "collapse_variability": "NC1: variance within over between",
    "collapse_norms": "NC2: lengths of the means",
    "collapse_angles": "NC2: angles of the means",
    "collapse_disagreement": "NC4: nearest mean decides otherwise",
}


def how_layers_lie(runs: Sequence[Run]) -> Section:
    """Shows RDMs by layer at some steps, fits of models, dimensions, and signs of neural collapse."""
    section = Section()
    tell_missing(runs, ("rdm", "model_fit", "distance_ratio"), "SimilarityProbe", section)
    tell_missing(runs, (*list(_SHAPE)[1:], *_COLLAPSE), "CategoryProbe", section)
    for number, run in enumerate(runs):
        _add_rdms(run, number, 4 if len(runs) == 1 else 2, section)
    _add_fits(runs, section)
    _add_charts(runs, _SHAPE, "shape", "How each layer has the tokens apart", section)
    _add_charts(
        runs, _COLLAPSE, "collapse", "Signs of neural collapse: all are 0 in a network that has collapsed", section
    )
    return section


def where_stimuli_lie(runs: Sequence[Run]) -> Section:
    """Shows stimuli as points in a plane, by layer and step."""
    section = Section()
    tell_missing(runs, ("distances",), "EmbeddingProbe", section)
    for number, run in enumerate(runs):
        if "distances" in run.records:
            _add_points(run, number, section)
    return section


def _add_rdms(run: Run, number: int, columns: int, section: Section) -> None:
    looks = run.read("distance_ratio")
    if looks is None or "rdm" not in run.records or "stimulus_token" not in run.records.coords:
        return
    taken = looks.step.values
    rdms = run.read("rdm", [int(taken[k]) for k in evenly(len(taken), columns)])
    if rdms is None:
        return
    axis = str(rdms.dims[1])
    rdms = rdms.isel({axis: evenly(rdms.sizes[axis], MOST_LAYERS)})
    tokens = words(rdms.stimulus_token)
    order = np.argsort([list(dict.fromkeys(tokens)).index(token) for token in tokens], kind="stable")
    values = rdms.values[:, :, order][:, :, :, order]
    steps, unit = rdms.step.values.tolist(), str(rdms.attrs.get("units", ""))
    _, end = shown_of("rdm", rdms.attrs).range
    figure = draw_rdm_steps(values, steps, words(rdms[axis]), [tokens[k] for k in order], unit, end)
    caption = (
        f"{run.name}: a square for each layer (rows) and step (columns), a row and a column in it for each of "
        f"{len(tokens)} stimuli, in the order of their tokens. Dark blocks on the diagonal are "
        "tokens that have become clusters."
    )
    section.pictures.append(
        Picture(f"rdm_{number}", figure, f"Dissimilarity matrices of {run.name} by layer and step", caption)
    )


def _add_fits(runs: Sequence[Run], section: Section) -> None:
    title = "How alike the RDM of a layer and that of a model of one thing alone are"
    if len(runs) == 1:
        figure = draw_run_fits(runs[0]) if "model_fit" in runs[0].records else None
        caption = "-1 to 1; 0 if they have nothing in common."
    else:
        figure, caption = _overlay_fits(runs, title, section), tell_runs(runs).strip()
    if figure is not None:
        alt = f"{title}: curves by layer over steps"
        section.pictures.append(Picture("model_fit", figure, alt, f"{title}. {caption}"))


def _overlay_fits(runs: Sequence[Run], title: str, section: Section) -> Figure | None:
    """Draws the fits in two layers, that in the middle and the last."""
    first = next((fits for fits in (run.read("model_fit") for run in runs) if fits is not None), None)
    if first is None:
        return None
    layers = words(first[str(first.dims[1])])
    charts = [
        to_chart(read_all(runs, "model_fit", section, _at_layer(number)), layers[number])
        for number in sorted({len(layers) // 2, len(layers) - 1})
    ]
    return draw_charts([chart for chart in charts if chart is not None], title)


def _at_layer(number: int) -> Reduce:
    return lambda fits: fits.isel({str(fits.dims[1]): number}, drop=True)


def _add_charts(
    runs: Sequence[Run],
    records: dict[str, str],
    name: str,
    title: str,
    section: Section,
) -> None:
    charts = []
    for record, heading in records.items():
        found = read_all(runs, record, section)
        if record in ("distance_ratio", "collapse_variability"):
            tell_change(found, heading, section)
        charts.append(to_chart(found, heading))
    charts = [chart for chart in charts if chart is not None]
    if not charts:
        return
    figure = draw_charts(charts, title, ordered=True)
    caption = (
        f"{tell_runs(runs)}At most {MOST_LAYERS} layers are drawn, evenly chosen: dark are early ones, light late ones."
    )
    section.pictures.append(Picture(name, figure, f"{title}: curves by layer over steps", caption))


def _add_points(run: Run, number: int, section: Section) -> None:
    embedding = _embedding(run)
    taken = run.read("variance_share")
    if embedding is not None and taken is not None and int(embedding.step[-1]) == int(taken.step[-1]):
        section.says.append(_trust(run, embedding))
        figure = draw_embedding(embedding, 4 if embedding.sizes["step"] > 3 else embedding.sizes["step"])
        caption = (
            f"{run.name}: each point is a stimulus of the bank, by UMAP at some steps, each laid over the step before; "
            "then by principal components at the last, and the paths of the tokens' centres. Trust, 0 to 1: whether "
            "neighbours in the picture are neighbours in the layer."
        )
        section.pictures.append(Picture(f"embedding_{number}", figure, f"Stimuli of {run.name} as points", caption))
        return
    section.missing.append(
        f"{run.name} has no points by UMAP for all its steps, which `lightning embed {run.folder}` makes from its "
        "records. Below are principal components."
    )
    _add_components(run, number, section)


def _embedding(run: Run) -> xr.Dataset | None:
    """What `embed_run` has left in a run's folder, as far as it can be read."""
    home = f"{run.folder.rstrip('/')}/embedding"
    if not Folder(f"{home}/{STORE}").exists(METADATA):
        return None
    kept = Run(home, f"the embedding of {run.name}", forgiving=True)
    found = kept.read_together([str(name) for name in kept.records.data_vars])
    run.trouble += kept.trouble
    return found if found.sizes.get("step") else None


def _trust(run: Run, embedding: xr.Dataset) -> str:
    last = embedding.isel(step=-1)
    each = ", ".join(
        f"{layer} {trust:.2f}" for layer, trust in zip(words(last.layer), last.umap_trust.values, strict=True)
    )
    return f"{run.name} at step {int(last.step)}: trustworthiness of the points by UMAP, 0 to 1: {each}."


def _add_components(run: Run, number: int, section: Section) -> None:
    shares = run.read("variance_share")
    taken = run.steps if shares is None else shares.step.values.tolist()
    distances = run.read("distances", [taken[k] for k in evenly(len(taken), 4)])
    if distances is None or "stimulus_token" not in distances.coords:
        return
    axis, steps = str(distances.dims[1]), distances.step.values.tolist()
    squared = torch.from_numpy(distances.values).double().square()
    panels: list[Panel] = []
    shares_by_layer: list[str] = []
    for k, layer in enumerate(words(distances[axis])):
        planes = align_components(squared[:, k])
        panels += [
            Panel(f"{layer}, step {step}: {plane.share:.0%}", plane.points)
            for step, plane in zip(steps, planes, strict=True)
        ]
        shares_by_layer.append(f"{layer} {planes[-1].share:.2f}")
    section.says.append(
        f"{run.name} at step {steps[-1]}: share of the variance in the plane, 0 to 1: {', '.join(shares_by_layer)}."
    )
    figure = draw_planes(panels, words(distances.stimulus_token), f"Stimuli of {run.name} by two principal components")
    caption = "Each point is a stimulus of the bank; the percentage is the share of the layer's variance in the plane."
    section.pictures.append(Picture(f"components_{number}", figure, f"Stimuli of {run.name} as points", caption))
