"""SimilarityProbe: the geometry of each layer's responses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, final

import torch
from matplotlib.figure import Figure

from lightning_emerge.figures.rdm import draw_rdms
from lightning_emerge.measures.rdm import correlation_rdm, token_distances
from lightning_emerge.probe import Probe
from lightning_emerge.records import Axis, Capture, Measurement, Needs, to_array


@final
class SimilarityProbe(Probe):
    """Measures the correlation RDM of each layer, and how far stimuli lie from their own token and from others.

    Records `rdm` (layer, stimulus, stimulus_b), and by layer `distance_within`, `distance_between` and
    `distance_ratio`, which falls as tokens become clusters.
    """

    needs: ClassVar = Needs(activations=True)

    def measure(self, capture: Capture) -> Iterable[Measurement]:
        bank = capture.bank
        assert bank is not None
        rdms = {layer: correlation_rdm(rows.flatten(1)) for layer, rows in capture.activations.items()}
        labels = bank.labels.to(next(iter(rdms.values())).device)
        within, between = map(torch.stack, zip(*(token_distances(rdm, labels) for rdm in rdms.values()), strict=True))
        layers = Axis("layer", capture.layers)
        stimuli = Axis("stimulus", bank.ids, notes={"token": [bank.tokens[k] for k in bank.labels.tolist()]})
        source, unit = type(self).__name__, "1 - Pearson r"
        yield Measurement(
            "rdm",
            to_array(torch.stack(list(rdms.values()))),
            (layers, stimuli, Axis("stimulus_b", bank.ids)),
            capture.step,
            unit,
            source,
            "One minus the correlation between a layer's responses to two stimuli; NaN where it does not respond",
        )
        for name, values, of, about in (
            ("distance_within", within, unit, "Mean dissimilarity of two stimuli of the same token"),
            ("distance_between", between, unit, "Mean dissimilarity of two stimuli of different tokens"),
            ("distance_ratio", within / between, "1", "Mean dissimilarity within tokens over that between tokens"),
        ):
            yield Measurement(name, to_array(values), (layers,), capture.step, of, source, about)

    def draw(self, measurement: Measurement) -> Figure | None:
        return draw_rdms(measurement) if measurement.name == "rdm" else None
