"""EmbeddingProbe: stimuli as points, by layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, final

import torch
from matplotlib.figure import Figure

from lightning_emerge.capture.needs import Activations, Pairs
from lightning_emerge.figures.embedding import Panel, draw_planes
from lightning_emerge.measures.embedding import principal_scores
from lightning_emerge.measures.geometry import activation_geometry
from lightning_emerge.measures.rdm import euclidean_rdm
from lightning_emerge.probe import Probe
from lightning_emerge.records import Axis, Capture, Measurement, Record, to_array

_COMPONENTS = 10
_DISTANCES = Record(
    "distances",
    ("layer", "stimulus", "stimulus_b"),
    "RMS over units",
    (0, None),
    about="Euclidean distance of a layer's responses to two stimuli over the root of the number of units",
    distance="length",
)
_SHARE = Record(
    "variance_share",
    ("layer", "component"),
    "share",
    (0, 1),
    about="Share of the variance of a layer's responses that each principal component has",
)


@final
class EmbeddingProbe(Probe):
    """Measures the distances of the stimuli in each layer, from which they are laid out as points in a plane.

    Records `distances` (layer, stimulus, stimulus_b), and `variance_share` (layer, component) of the first principal
    components, and draws the first two at each look. The aligned UMAP needs many looks and is made of the records
    afterwards, by `lightning embed` or `lightning_emerge.embed_run`: so it depends on no state of the probe, and no
    step of training waits for it.

    Args:
        schedule: as for any probe.
        layers: as for any probe. Each costs as much on disk as an RDM.
        on_error: as for any probe.
    """

    needs: ClassVar = (Activations(), Pairs())
    records: ClassVar = (_DISTANCES, _SHARE)

    def measure(self, capture: Capture) -> Iterable[Measurement]:
        bank = capture.bank
        assert bank is not None
        squared = torch.stack(
            [euclidean_rdm(capture.once(activation_geometry, layer)) for layer in capture.activations]
        )
        count = min(_COMPONENTS, len(bank) - 1)
        scores, shares = map(torch.stack, zip(*(principal_scores(layer, count) for layer in squared), strict=True))
        layers, component = Axis("layer", capture.layers), Axis("component", range(1, count + 1))
        stimuli = Axis("stimulus", bank.ids, notes={"token": [bank.tokens[k] for k in bank.labels.tolist()]})
        yield _DISTANCES.of(
            squared.sqrt().float(),
            layers,
            stimuli,
            Axis("stimulus_b", bank.ids),
            beside={"points": to_array(scores[..., :2]), "shares": to_array(shares[:, :2].sum(dim=1))},
        )
        yield _SHARE.of(shares.float(), layers, component)

    def draw(self, measurement: Measurement) -> Figure | None:
        if measurement.name != _DISTANCES.name:
            return None
        tokens = [str(token) for token in measurement.axes[1].notes["token"]]
        points, shares = measurement.beside["points"], measurement.beside["shares"].tolist()
        titles = [
            f"{layer}: {share:.0%} of the variance"
            for layer, share in zip(measurement.axes[0].labels, shares, strict=True)
        ]
        panels = [Panel(title, plane) for title, plane in zip(titles, points, strict=True)]
        return draw_planes(panels, tokens, f"First two principal components, step {measurement.step}")
