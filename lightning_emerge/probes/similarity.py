"""SimilarityProbe: the geometry of each layer's responses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Literal, final

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import pad

from lightning_emerge.capture.needs import Activations, Pairs
from lightning_emerge.figures.cka import draw_alignment
from lightning_emerge.figures.rdm import MOST_CELLS, draw_rdms
from lightning_emerge.figures.tree import draw_trees
from lightning_emerge.measures.cka import debiased_cka
from lightning_emerge.measures.compare import COMPARISONS
from lightning_emerge.measures.geometry import Geometry, activation_geometry, deal_folds, token_weights
from lightning_emerge.measures.model_rdms import model_rdms
from lightning_emerge.measures.rdm import (
    cosine_rdm,
    crossnobis_rdm,
    euclidean_rdm,
    in_order,
    mahalanobis_rdm,
    mean_distances,
    token_distances,
)
from lightning_emerge.measures.tree import average_linkage
from lightning_emerge.probe import Probe
from lightning_emerge.records import Axis, Capture, Measurement, Record, StimulusBank, to_array
from lightning_emerge.schedules import Schedule

_FOLDS = 5
_METRICS = {
    "correlation": ("1 - Pearson r", (0, 2)),
    "cosine": ("1 - cosine", (0, 2)),
    "euclidean": ("squared difference per unit", (0, None)),
    "mahalanobis": ("squared difference per unit, over noise", (0, None)),
}
"""Unit and range of the RDMs by each metric."""
_BY_GEOMETRY = {"correlation": lambda g: g.correlation, "cosine": cosine_rdm, "euclidean": euclidean_rdm}


def _by_metric(name: str, axes: tuple[str, ...], about: str) -> dict[str, Record]:
    """A record by each metric."""
    return {
        metric: Record(name, axes, unit, reach, about=about, distance="square" if len(axes) > 1 else "")
        for metric, (unit, reach) in _METRICS.items()
    }


_RDM = _by_metric(
    "rdm",
    ("layer", "stimulus", "stimulus_b"),
    "How far a layer's responses to two stimuli are apart; NaN where it does not respond",
)
_TOKENS = _by_metric(
    "token_rdm", ("layer", "token", "token_b"), "How far a layer's mean responses to two tokens are apart"
)
_WITHIN = _by_metric("distance_within", ("layer",), "Mean dissimilarity of two stimuli of the same token")
_BETWEEN = _by_metric("distance_between", ("layer",), "Mean dissimilarity of two stimuli of different tokens")
_RATIO = Record(
    "distance_ratio", ("layer",), range=(0, None), about="Mean dissimilarity within tokens over that between"
)
_CROSSNOBIS = Record(
    "token_crossnobis",
    ("layer", "token", "token_b"),
    "noise variance per unit",
    about="Cross-validated squared Mahalanobis distance of two tokens: about 0 if the layer does not tell them apart",
    distance="square",
)
_FIT = {
    comparison: Record(
        "model_fit",
        ("layer", "model"),
        comparison.replace("_", " "),
        (-1, 1),
        "diverging",
        "How alike the layer's RDM and that of a model of what it may hold are; 1 if the same",
    )
    for comparison in COMPARISONS
}
_CKA = Record(
    "cka",
    ("layer", "layer_b"),
    range=(-1, 1),
    scale="diverging",
    about="Debiased CKA of two layers: 1 if they lay out the stimuli alike, about 0 if unrelated",
)


@final
class SimilarityProbe(Probe):
    """Measures how each layer lays out the stimuli: its RDMs, what they are like, and which layers are alike.

    Records `rdm` (layer, stimulus, stimulus_b) and, of mean responses, `token_rdm` (layer, token, token_b);
    `token_crossnobis` (layer, token, token_b), which noise does not lift above zero; by layer `distance_within`,
    `distance_between` and `distance_ratio`, which falls as tokens become clusters; `model_fit` (layer, model), how
    alike the layer's RDM and that of each model are; and `cka` (layer, layer_b).

    Args:
        schedule: as for any probe.
        layers: as for any probe.
        metric: of the RDMs, and of what is made from them: "correlation", "cosine", "euclidean" or "mahalanobis" (both
            squared, per unit).
        comparison: of a layer's RDM with models': a name in `lightning_emerge.measures.compare.COMPARISONS`. Those by
            rank jump where rounding swaps two distances: by about 0.00003 with 35 stimuli, between one process and two.
        on_error: as for any probe.

    Raises:
        ValueError: if there is no such metric or comparison.
    """

    needs: ClassVar = (Activations(), Pairs())
    records: ClassVar = (
        *(record for by_metric in (_RDM, _TOKENS, _WITHIN, _BETWEEN) for record in by_metric.values()),
        *(_RATIO, _CROSSNOBIS, *_FIT.values(), _CKA),
    )

    def __init__(
        self,
        schedule: Schedule | None = None,
        layers: Sequence[str] | None = None,
        metric: Literal["correlation", "cosine", "euclidean", "mahalanobis"] = "correlation",
        comparison: Literal["pearson", "cosine", "spearman", "kendall_tau_a", "whitened_cosine", "bures"] = "pearson",
        on_error: Literal["report", "raise"] = "report",
    ) -> None:
        super().__init__(schedule, layers, on_error)
        for name, value, known in (("metric", metric, _METRICS), ("comparison", comparison, COMPARISONS)):
            if value not in known:
                raise ValueError(f"SimilarityProbe: {name} is one of {', '.join(known)}; got {value!r}.")
        self.metric, self.comparison = metric, comparison

    def measure(self, capture: Capture) -> Iterable[Measurement]:
        bank = capture.bank
        assert bank is not None
        geometries = [capture.once(activation_geometry, layer) for layer in capture.activations]
        labels = bank.labels.to(geometries[0].means.device)
        found = [_distances(geometry, labels, len(bank.tokens), self.metric) for geometry in geometries]
        rdms, between_tokens = (torch.stack(of) for of in zip(*found, strict=True))
        within, between = token_distances(rdms, labels)
        folds = deal_folds(labels, _FOLDS)
        crossnobis = [_of_all(crossnobis_rdm(each, labels, folds), len(bank.tokens)) for each in geometries]
        models = {name: model.to(rdms) for name, model in model_rdms(bank).items()}
        fits = COMPARISONS[self.comparison](rdms, torch.stack(list(models.values())))
        alike = debiased_cka(torch.stack([geometry.gram for geometry in geometries]))
        layer, stimuli, metric = Axis("layer", capture.layers), _stimuli(bank), self.metric
        tokens, others = Axis("token", bank.tokens), Axis("token_b", bank.tokens)
        rdms, between_tokens = rdms.float(), between_tokens.float()
        beside = {
            "rdm": shown_of_rdms(rdms, [bank.tokens[k] for k in bank.labels.tolist()], _RDM[metric].range[1]),
            "token_rdm": {"tree": to_array(torch.stack([average_linkage(each.double()) for each in between_tokens]))},
        }
        for record, values, axes in (
            (_RDM[metric], rdms, (layer, stimuli, Axis("stimulus_b", bank.ids))),
            (_TOKENS[metric], between_tokens, (layer, tokens, others)),
            (_CROSSNOBIS, torch.stack(crossnobis), (layer, tokens, others)),
            (_WITHIN[metric], within, (layer,)),
            (_BETWEEN[metric], between, (layer,)),
            (_RATIO, within / between, (layer,)),
            (_FIT[self.comparison], fits, (layer, Axis("model", list(models)))),
            (_CKA, alike, (layer, Axis("layer_b", capture.layers))),
        ):
            yield record.of(values.float(), *axes, beside=beside.get(record.name))

    def draw(self, measurement: Measurement) -> Figure | None:
        if measurement.name == "rdm":
            return draw_rdms(measurement)
        if measurement.name == "token_rdm":
            layers, tokens = ([str(label) for label in axis.labels] for axis in measurement.axes[:2])
            trees = dict(zip(layers, measurement.beside["tree"], strict=True))
            return draw_trees(trees, tokens, measurement.unit, measurement.step, measurement.range[1])
        return draw_alignment(measurement) if measurement.name == "cka" else None


def shown_of_rdms(rdms: Tensor, tokens: Sequence[str], end: float | None) -> dict[str, npt.NDArray[Any]]:
    """Makes of RDMs what their picture shows.

    Args:
        rdms: (layer, stimulus, stimulus).
        tokens: that of each stimulus.
        end: of the range of the dissimilarity; one without an end is shown up to twice its layer's mean.

    Returns:
        What `draw_rdms` reads beside a measurement.
    """
    names = list(dict.fromkeys(tokens))
    order = sorted(range(len(tokens)), key=lambda k: names.index(tokens[k]))
    reach = 2 * mean_distances(rdms) if end is None else torch.full((len(rdms),), end)
    cells = in_order(rdms, torch.tensor(order, device=rdms.device), MOST_CELLS)
    return {"cells": to_array(cells), "tokens": np.array([tokens[k] for k in order]), "reach": to_array(reach)}


def _distances(geometry: Geometry, labels: Tensor, tokens: int, metric: str) -> tuple[Tensor, Tensor]:
    """The RDM of the stimuli, and that of the tokens' mean responses."""
    if metric == "mahalanobis":
        between = mahalanobis_rdm(geometry, labels, by_token=True)
        return mahalanobis_rdm(geometry, labels), _of_all(between, tokens)
    measure = _BY_GEOMETRY[metric]
    return measure(geometry), measure(geometry.average(token_weights(labels, tokens)))


def _of_all(rdm: Tensor, tokens: int) -> Tensor:
    """Adds NaN for tokens beyond the last that has stimuli."""
    lacking = tokens - len(rdm)
    return pad(rdm, (0, lacking, 0, lacking), value=torch.nan)


def _stimuli(bank: StimulusBank) -> Axis:
    return Axis("stimulus", bank.ids, notes={"token": [bank.tokens[k] for k in bank.labels.tolist()]})
