"""The biography of one filter, from a run's records."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xarray as xr

from lightning_emerge.figures.biography import Biography
from lightning_emerge.figures.canvas import to_rgb
from lightning_emerge.figures.curves import Chart, Curve, Line
from lightning_emerge.figures.exemplars import frame_block
from lightning_emerge.figures.filters import kernel_colours
from lightning_emerge.store.read import Run
from lightning_emerge.store.shown import shown_of

_COLUMNS = 10
_CHARTS = {
    "filter_response": "mean\nactivation\nby token",
    "filter_norm": "norm of\nweights",
    "filter_gradient_norm": "norm of\ngradient",
    "filter_cosine_start": "cosine with\nits start",
}


def read_biography(run: str | Path | Run, layer: str, number: int) -> Biography:
    """Reads all that a run's records have of one filter.

    Args:
        run: the run, or its folder.
        layer: name of its layer.
        number: of the filter in its layer, from 0.

    Raises:
        FileNotFoundError: if there are no records.
        ValueError: if no probe has looked at such a filter.
    """
    run = Run.of(run)
    wanted = (*_CHARTS, "top_crop", "top_token", "maximising_image")
    values = {name: _values(run, name, layer, number) for name in wanted}
    found = {name: own for name, own in values.items() if own is not None}
    recorded = run.read("kernels")
    of, kernels = ("", None) if recorded is None else split_kernels(recorded)
    if kernels is not None and of == layer and number < kernels.shape[1]:
        found["kernels"] = kernels[:, number].dropna("step", how="all")
    if not found:
        raise ValueError(_unknown(run.records, layer, number))
    columns, tokens = _columns(found), run.tokens
    tops = _tops(found, columns)
    strips = {
        "kernel": _kernels(found, columns),
        "maximising\nimage": _maximising(found, columns),
        "top\nexemplars": tops,
    }
    charts = [_chart(name, found[name], title, tokens) for name, title in _CHARTS.items() if name in found]
    dead = [step for step, top in zip(columns, tops, strict=True) if top is None and _looked(found, step)]
    shown = {name: pictures for name, pictures in strips.items() if any(picture is not None for picture in pictures)}
    return Biography(f"filter {number} of {layer}", columns, shown, charts, dead)


def _chart(name: str, values: xr.DataArray, title: str, tokens: Sequence[str]) -> Chart:
    """A curve of values (step,), or one for each token of values (step, token)."""
    steps, rows = values.step.values.tolist(), np.atleast_2d(values.values.T)
    span = shown_of(name, values.attrs).range
    if span[0] is None and not (rows < 0).any():
        span = (0.0, span[1])
    labels = tokens if values.ndim > 1 else [""]
    curves = [Curve(label, Line(steps, own)) for label, own in zip(labels, rows, strict=True)]
    return Chart(title, str(values.attrs.get("units", "")), curves, span)


def split_kernels(kernels: xr.DataArray) -> tuple[str, xr.DataArray]:
    """The layer of a record of kernels, and its values (step, filter, channel, y, x).

    Records of earlier versions have no axis of layers and say in their `long_name` which it is.
    """
    if kernels.ndim == 5:
        return str(kernels.attrs.get("long_name", "")), kernels
    axis = str(kernels.dims[1])
    return str(kernels[axis].values[0]), kernels.isel({axis: 0}, drop=True)


def _values(run: Run, name: str, layer: str, number: int) -> xr.DataArray | None:
    """Values (step, ...) of a measure of (layer, filter, ...) at the steps at which it was taken."""
    if name not in run.records:
        return None
    values = run.records[name]
    axis = str(values.dims[1])
    if layer not in values[axis].values.tolist() or not 0 <= number < values.shape[2]:
        return None
    looked = run.read(name, chosen={axis: layer})
    own = None if looked is None else looked[:, number]
    return own if own is not None and bool(own.notnull().any()) else None


def _unknown(records: xr.Dataset, layer: str, number: int) -> str:
    coordinates = [str(name) for name in records.coords if str(name).startswith("layer")]
    layers = list(dict.fromkeys(str(one) for name in coordinates for one in records[name].values))
    if layer in layers:
        return f"A biography is of a filter that a probe has looked at, by its number in {layer}; none has at {number}."
    near = get_close_matches(layer, layers, 1, cutoff=0)
    rest = f" Did you mean {near[0]!r}? Probes looked at {', '.join(layers)}." if near else " They hold no layers."
    return f"A biography is of a filter that a probe has looked at; these records have no layer {layer!r}.{rest}"


def _columns(found: dict[str, xr.DataArray]) -> list[int]:
    """Steps evenly chosen among those at which there are pictures, those of the sparsest kind; or among all."""
    kinds = [found[name].step.values for name in ("filter_response", "maximising_image", "kernels") if name in found]
    steps = min(kinds or [next(iter(found.values())).step.values], key=len)
    at = np.linspace(0, len(steps) - 1, min(_COLUMNS, len(steps))).round().astype(int)
    return [int(step) for step in steps[at]]


def _at(values: xr.DataArray | None, step: int) -> npt.NDArray[np.floating] | None:
    if values is None or step not in values.step.values:
        return None
    picture = np.asarray(values.sel(step=step).values, dtype=np.float32)
    return picture if np.isfinite(picture).any() else None


def _kernels(found: dict[str, xr.DataArray], columns: Sequence[int]) -> list[npt.NDArray[np.floating] | None]:
    kernels = [_at(found.get("kernels"), step) for step in columns]
    return [None if kernel is None else kernel_colours(kernel[None])[0] for kernel in kernels]


def _maximising(found: dict[str, xr.DataArray], columns: Sequence[int]) -> list[npt.NDArray[np.floating] | None]:
    images = [_at(found.get("maximising_image"), step) for step in columns]
    return [None if image is None else to_rgb(image.transpose(1, 2, 0)) for image in images]


def _tops(found: dict[str, xr.DataArray], columns: Sequence[int]) -> list[npt.NDArray[np.floating] | None]:
    crops = [_at(found.get("top_crop"), step) for step in columns]
    labels = [_at(found.get("top_token"), step) for step in columns]
    return [
        None if crop is None or label is None else frame_block(crop, label)
        for crop, label in zip(crops, labels, strict=True)
    ]


def _looked(found: dict[str, xr.DataArray], step: int) -> bool:
    return "filter_response" in found and step in found["filter_response"].step.values
