"""How the geometry of a run's layers came to be what it is, from its records alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure

from lightning_emerge.figures.curves import Chart, Curve, Level, Line, draw_charts
from lightning_emerge.measures.cka import debiased_cka
from lightning_emerge.measures.geometry import centred_gram
from lightning_emerge.store.read import Run


def step_cka(run: str | Path | Run, layer: str) -> xr.DataArray:
    """Compares a layer with itself at all steps, by the debiased CKA of its patterns.

    It is worked out from the recorded RDMs, so no look depends on an earlier one. One minus a correlation is half the
    squared distance of two patterns at mean 0 and length 1, so it is those that are compared.

    Args:
        run: one in which a `SimilarityProbe` looked, or its folder.
        layer: its name.

    Returns:
        Array (step, step_b), 1 for the same layout of the stimuli, about 0 for unrelated ones. Stimuli to which the
        layer did not respond at some step are left out; NaN where fewer than 4 are left.

    Raises:
        FileNotFoundError: if there are no records.
        ValueError: if they hold no RDM of that layer.
    """
    run = Run.of(run)
    axis = _layer_axis(run, "rdm")
    layers = run.records[axis].values.tolist()
    if layer not in layers:
        raise ValueError(f"A layer is one whose RDM was recorded: {', '.join(map(str, layers))}; got {layer!r}.")
    rdms = run.read("rdm", chosen={axis: layer})
    if rdms is None:
        rdms = run.records["rdm"].isel({"step": [], axis: 0})
    values = torch.from_numpy(rdms.values).double()
    apart = ~torch.eye(values.shape[-1], dtype=torch.bool)
    responds = (values.isfinite() & apart).any(dim=-1).all(dim=0)
    grams = centred_gram(2 * values[:, responds][:, :, responds])
    found = debiased_cka(grams).numpy() if len(grams) else np.zeros((0, 0))
    steps = rdms.step.values
    about = {"units": "1", "long_name": f"Debiased CKA of {layer} at two steps"}
    return xr.DataArray(found, {"step": steps, "step_b": steps}, ("step", "step_b"), "step_cka", about)


def draw_run_fits(run: str | Path | Run) -> Figure | None:
    """Draws how alike each layer's RDM and each model's are over the steps of a run.

    Args:
        run: the run, or its folder.

    Returns:
        The picture, or None if no `SimilarityProbe` has looked.

    Raises:
        FileNotFoundError: if there are no records.
    """
    fits = Run.of(run).read("model_fit")
    if fits is None:
        return None
    layers, models = (_words(fits[str(axis)]).tolist() for axis in fits.dims[1:])
    title = "How alike the RDM of each layer is to that of a model of one thing alone"
    steps, unit = fits.step.values.tolist(), str(fits.attrs["units"])
    charts = [
        Chart(layer, unit, [Curve(model, Line(steps, own[:, k])) for k, model in enumerate(models)], level=Level(0.0))
        for layer, own in zip(layers, fits.values.swapaxes(0, 1), strict=True)
    ]
    return draw_charts(charts, title, columns=4, sharey=True)


def to_rsatoolbox(run: str | Path | Run, record: str = "rdm", **chosen: Any) -> Any:
    """Gives a run's RDMs to rsatoolbox, for its model fits, inference and pictures.

    Args:
        run: the run, or its folder.
        record: "rdm", of stimuli, or "token_rdm", or "distances" of an `EmbeddingProbe`.
        **chosen: steps and layers to give, as xarray's `sel` takes them: `step=624, layer=["conv1_1", "fc2"]`.

    Returns:
        rsatoolbox.rdm.RDMs, one RDM for each step and layer. They are among the descriptors of the RDMs; ids and tokens
        of the stimuli are among those of the patterns.

    Raises:
        ImportError: if rsatoolbox is not installed.
        FileNotFoundError: if there are no records.
        ValueError: if they hold none of that name.
    """
    try:
        from rsatoolbox.rdm.rdms import RDMs
    except ImportError as error:
        raise ImportError("RDMs are given to rsatoolbox, which is not installed: pip install rsatoolbox.") from error
    run = Run.of(run)
    axis = _layer_axis(run, record)
    wanted = {axis if name == "layer" else name: np.atleast_1d(own) for name, own in chosen.items()}
    steps = wanted.pop("step", None)
    rdms = run.read(record, chosen=wanted)
    if rdms is None:
        raise ValueError(f"RDMs are given of steps at which they were recorded; {run} has no {record!r} at any.")
    rdms = rdms if steps is None else rdms.sel(step=steps)
    rows, count = str(rdms.dims[2]), rdms.shape[-1]
    steps, layers = np.repeat(rdms.step.values, rdms.shape[1]), np.tile(_words(rdms[axis]), rdms.shape[0])
    patterns = {"stimulus" if rows.startswith("stimulus") else "token": _words(rdms[rows])}
    if f"{rows}_token" in rdms.coords:
        patterns["token"] = _words(rdms[f"{rows}_token"])
    upper = np.triu_indices(count, 1)
    return RDMs(
        rdms.values.reshape(-1, count, count)[:, upper[0], upper[1]].astype(np.float64),
        dissimilarity_measure=rdms.attrs["units"],
        rdm_descriptors={"step": steps, "layer": layers},
        pattern_descriptors=patterns,
    )


def _layer_axis(run: Run, record: str) -> str:
    if record not in run.records:
        raise ValueError(f"RDMs are what a SimilarityProbe or an EmbeddingProbe records; {run} has no {record!r}.")
    return str(run.records[record].dims[1])


def _words(labels: xr.DataArray) -> np.ndarray:
    # rsatoolbox does not know NumPy's strings of variable length.
    return np.array([str(label) for label in labels.values])
