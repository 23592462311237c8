"""SimilarityProbe: the geometry of each layer's responses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal, final

import torch
from matplotlib.figure import Figure

from lightning_emerge.figures.matrix import draw_alignment
from lightning_emerge.figures.rdm import draw_rdms
from lightning_emerge.figures.tree import draw_trees
from lightning_emerge.measures.cka import debiased_cka
from lightning_emerge.measures.compare import COMPARISONS
from lightning_emerge.measures.geometry import activation_geometry, token_weights
from lightning_emerge.measures.model_rdms import model_rdms
from lightning_emerge.measures.rdm import token_distances
from lightning_emerge.measures.tree import average_linkage
from lightning_emerge.probe import Probe
from lightning_emerge.records import Axis, Capture, Measurement, Needs, StimulusBank, to_array
from lightning_emerge.schedules import Schedule


@final
class SimilarityProbe(Probe):
    """Measures how each layer lays out the stimuli: its RDMs, what they are like, and which layers are alike.

    Records `rdm` (layer, stimulus, stimulus_b) and `token_rdm` (layer, token, token_b) by correlation; by layer
    `distance_within`, `distance_between` and `distance_ratio`, which falls as tokens become clusters; `model_fit`
    (layer, model), how alike the layer's RDM and that of each model are; and `cka` (layer, layer_b).

    Args:
        schedule: as for any probe.
        layers: as for any probe.
        comparison: of a layer's RDM with models': a name in `lightning_emerge.measures.compare.COMPARISONS`. Those by
            rank jump where rounding swaps two distances: by about 0.00003 with 35 stimuli, between one process and two.
        on_error: as for any probe.

    Raises:
        ValueError: if there is no such comparison.
    """

    needs: ClassVar = Needs(activations=True)

    def __init__(
        self,
        schedule: Schedule | None = None,
        layers: Sequence[str] | None = None,
        comparison: str = "pearson",
        on_error: Literal["report", "raise"] = "report",
    ) -> None:
        super().__init__(schedule, layers, on_error)
        if comparison not in COMPARISONS:
            raise ValueError(f"SimilarityProbe: comparison is one of {', '.join(COMPARISONS)}; got {comparison!r}.")
        self.comparison = comparison

    def measure(self, capture: Capture) -> Iterable[Measurement]:
        bank = capture.bank
        assert bank is not None
        geometries = [activation_geometry(rows) for rows in capture.activations.values()]
        rdms = torch.stack([geometry.correlation for geometry in geometries])
        labels = bank.labels.to(rdms.device)
        weights = token_weights(labels, len(bank.tokens))
        between_tokens = torch.stack([geometry.average(weights).correlation for geometry in geometries])
        within, between = map(torch.stack, zip(*(token_distances(rdm, labels) for rdm in rdms), strict=True))
        models = {name: model.to(rdms) for name, model in model_rdms(bank).items()}
        fits = COMPARISONS[self.comparison](rdms, torch.stack(list(models.values())))
        alike = debiased_cka(torch.stack([geometry.gram for geometry in geometries]))
        layer, stimuli, unit = Axis("layer", capture.layers), _stimuli(bank), "1 - Pearson r"
        tokens, others = Axis("token", bank.tokens), Axis("token_b", bank.tokens)
        far = "One minus the correlation between a layer's responses to two stimuli; NaN where it does not respond"
        mean = "One minus the correlation between a layer's mean responses to two tokens"
        fit = "How alike the layer's RDM and that of a model of what it may hold are; 1 if the same"
        cka = "Debiased CKA of two layers: 1 if they lay out the stimuli alike, about 0 if unrelated"
        name = self.comparison.replace("_", " ")
        for record, values, axes, of, about in (
            ("rdm", rdms, (layer, stimuli, Axis("stimulus_b", bank.ids)), unit, far),
            ("token_rdm", between_tokens, (layer, tokens, others), unit, mean),
            ("distance_within", within, (layer,), unit, "Mean dissimilarity of two stimuli of the same token"),
            ("distance_between", between, (layer,), unit, "Mean dissimilarity of two stimuli of different tokens"),
            ("distance_ratio", within / between, (layer,), "1", "Mean dissimilarity within tokens over that between"),
            ("model_fit", fits, (layer, Axis("model", list(models))), f"{name}, -1 to 1", fit),
            ("cka", alike, (layer, Axis("layer_b", capture.layers)), "1", cka),
        ):
            yield Measurement(record, to_array(values.float()), axes, capture.step, of, type(self).__name__, about)

    def draw(self, measurement: Measurement) -> Figure | None:
        if measurement.name == "rdm":
            return draw_rdms(measurement)
        if measurement.name == "token_rdm":
            layers, tokens = ([str(label) for label in axis.labels] for axis in measurement.axes[:2])
            rdms = torch.from_numpy(measurement.values).double()
            trees = {layer: to_array(average_linkage(rdm)) for layer, rdm in zip(layers, rdms, strict=True)}
            return draw_trees(trees, tokens, measurement.unit, measurement.step)
        return draw_alignment(measurement) if measurement.name == "cka" else None


def _stimuli(bank: StimulusBank) -> Axis:
    return Axis("stimulus", bank.ids, notes={"token": [bank.tokens[k] for k in bank.labels.tolist()]})
