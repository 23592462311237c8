"""What filters have become, those that tell most of their tokens, and the gradients that made them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from lightning_emerge.analysis.biography import read_biography, split_kernels
from lightning_emerge.figures.biography import draw_biography
from lightning_emerge.figures.curves import draw_charts
from lightning_emerge.figures.exemplars import draw_top_exemplars
from lightning_emerge.figures.filters import draw_kernels
from lightning_emerge.records import Axis, Measurement
from lightning_emerge.report.content import Picture, Section, Table
from lightning_emerge.report.overlay import MOST_LAYERS, read_all, tell_change, tell_missing, to_chart
from lightning_emerge.store.read import Run, words

_GRADIENTS = {
    "gradient_norm": "norm of the gradient",
    "update_ratio": "update over weight",
    "start_distance": "distance of the weight from its start",
    "dead_share": "channels that are silent",
}


def what_filters_became(runs: Sequence[Run]) -> Section:
    """Shows first kernels, top exemplars, selectivity, and the biography of one filter for each token."""
    section = Section()
    tell_missing(runs, ("kernels",), "FilterProbe", section)
    tell_missing(runs, ("top_crop", "filter_response"), "TopExemplarProbe", section)
    tell_missing(runs, ("class_selectivity", "selective_share"), "CategoryProbe", section)
    for run in runs:
        if "class_selectivity" in run.records and "filter_selective" not in run.records:
            section.missing.append(
                f"{run.name} has no filter_selective, which its CategoryProbe of an earlier version did not record: no "
                "filter's biography is chosen. `lightning replay` measures it at the checkpoints of a run that is over."
            )
    _add_selective(runs, section)
    for number, run in enumerate(runs):
        _add_kernels(run, number, section)
    if len(runs) == 1:
        _add_tops(runs[0], section)
        _add_biographies(runs[0], section)
    else:
        section.says.append("Top exemplars and biographies of filters are in the report of each run alone.")
    return section


def _add_selective(runs: Sequence[Run], section: Section) -> None:
    found = read_all(runs, "selective_share", section, lambda values: values.mean(str(values.dims[2]), keep_attrs=True))
    chart = to_chart(found, "selective filters, mean over tokens")
    if chart is None:
        return
    tell_change(found, "Share of filters selective for a token, averaged over tokens,", section, most=True)
    figure = draw_charts([chart], "Filters that one token drives three times as much as the others", ordered=True)
    chance = "; 0.02 over the number of tokens at most if filters do not know tokens"
    if any("filter_selective" not in run.records for run, _ in found):
        chance = ", in part of an earlier version, by which many filters that seldom fire are selective by chance"
    about = f"Share of a layer's filters, 0 to 1, averaged over tokens{chance}."
    caption = f"{about} Dark are early layers, light late ones."
    section.pictures.append(Picture("selective", figure, "Share of selective filters by layer over steps", caption))


def how_gradients_went(runs: Sequence[Run]) -> Section:
    """Shows the size of each layer's gradient and update, and how far its weight has gone."""
    section = Section()
    tell_missing(runs, list(_GRADIENTS), "GradientProbe", section, replay=False)
    charts = []
    for name, title in _GRADIENTS.items():
        found = read_all(runs, name, section)
        if name == "gradient_norm":
            tell_change(found, "The norm of the gradient", section)
        charts.append(to_chart(found, title))
    charts = [chart for chart in charts if chart is not None]
    if charts:
        figure = draw_charts(charts, "Gradients and updates of each layer", ordered=True)
        caption = (
            "Of the training batch's loss, before clipping; the upper axes are logarithmic. A layer without a ReLU has "
            f"no silent channels. At most {MOST_LAYERS} layers are drawn: dark are early ones, light late ones."
        )
        section.pictures.append(Picture("gradients", figure, "Curves of gradients by layer over steps", caption))
    return section


def _measurement(values: xr.DataArray, **beside: np.ndarray) -> Measurement:
    """A record at one step as what its figure draws."""
    axes = tuple(Axis(str(axis), values[str(axis)].values.tolist()) for axis in values.dims)
    attributes = values.attrs
    about, unit = str(attributes.get("long_name", "")), str(attributes.get("units", "1"))
    return Measurement(str(values.name), values.values, axes, int(values.step), unit, about=about, beside=beside)


def _add_kernels(run: Run, number: int, section: Section) -> None:
    kernels = run.read("kernels")
    if kernels is None:
        return
    layer, _ = split_kernels(kernels)
    for when, place in {"first": 0, "last": -1}.items():
        own = kernels.isel(step=place)
        caption = f"{run.name} at step {int(own.step)}: the weights of each filter of {layer}."
        figure = draw_kernels(_measurement(own))
        section.pictures.append(Picture(f"kernels_{number}_{when}", figure, f"Kernels of {run.name}", caption))


def _add_tops(run: Run, section: Section) -> None:
    crops, labels, response = (run.last(name) for name in ("top_crop", "top_token", "filter_response"))
    if crops is None or labels is None or response is None:
        return
    shown = labels.values[:, : crops.shape[1]]
    counts = np.isfinite(response.values).any(axis=2).sum(axis=1)
    beside = {"token": shown, "tokens": np.array(run.tokens), "filters": counts}
    caption = "The squares of stimuli that drive each filter most; a frame has the colour of the stimulus' token."
    figure = draw_top_exemplars(_measurement(crops, **beside))
    section.pictures.append(Picture("top_exemplars", figure, "Top exemplars of filters, by layer", caption))


def _add_biographies(run: Run, section: Section) -> None:
    chosen = choose_filters(run)
    rows = [[token, layer, str(number), f"{value:.2f}"] for token, layer, number, value in chosen]
    if rows:
        about = (
            "The most selective filter for each token at the last look, among those that are selective beyond chance, "
            "whose top exemplars are kept and that answer it as much as their layer does on average. "
            "Selectivity is 1 if no other token drives the filter, and 0 on average if all drive it alike."
        )
        section.tables.append(Table(about, ["token", "layer", "filter", "selectivity"], rows))
    for token, layer, number, _ in chosen:
        figure = draw_biography(read_biography(run, layer, number))
        caption = (
            f"Filter {number} of {layer}, the most selective for {token}, over steps; grey lies outside of the image."
        )
        name = f"biography_{run.tokens.index(token)}"
        section.pictures.append(Picture(name, figure, f"Biography of filter {number} of {layer}", caption))


def choose_filters(run: Run) -> list[tuple[str, str, int, float]]:
    """Finds for each token the filter that prefers it and is most selective at the last look.

    It is selective beyond chance, its top exemplars are kept, as there are no other pictures of what drives it, and
    it answers the token as much as the layer's filters do on average: pictures say little of nearly silent ones.

    Returns:
        Token, layer, number of the filter, selectivity; tokens that no filter is selective for are left out.
    """
    names = ("class_selectivity", "filter_selective", "filter_response", "top_crop")
    selectivity, selective, response, crops = (run.last(name) for name in names)
    if selectivity is None or selective is None or response is None or selectivity.shape != response.shape[:2]:
        return []
    layers = words(selectivity[str(selectivity.dims[0])])
    if layers != words(response[str(response.dims[0])]):
        return []
    kept = response.shape[1] if crops is None else crops.shape[1]
    value = np.where(selective.values == 1, selectivity.values, -1)[:, :kept]
    strong = response.values >= np.ma.masked_invalid(response.values).mean(axis=1, keepdims=True).filled(np.inf)
    preferred = np.where(np.isfinite(response.values), response.values, -np.inf).argmax(axis=2)[:, :kept]
    found: list[tuple[str, str, int, float]] = []
    for label, token in enumerate(run.tokens):
        own = np.where((preferred == label) & strong[:, :kept, label], value, -1)
        layer, number = divmod(int(own.argmax()), own.shape[1])
        if own[layer, number] > 0:
            found.append((token, layers[layer], number, float(own[layer, number])))
    return found
