"""CategoryProbe: how well tokens are told, by the network and in each layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from lightning_emerge.measures.category import accuracy_by_token, confidence_by_token
from lightning_emerge.measures.collapse import (
    disagreement,
    equiangularity,
    equinorm,
    self_duality,
    variability_ratio,
)
from lightning_emerge.measures.filters import stack_layers
from lightning_emerge.measures.geometry import Geometry, activation_geometry, deal_folds
from lightning_emerge.measures.readout import nearest_mean_accuracy, participation_ratio, ridge_accuracy, silhouette
from lightning_emerge.measures.selectivity import class_selectivity, selective_share
from lightning_emerge.probe import Probe
from lightning_emerge.records import Axis, Capture, Measurement, Needs, check_outputs, pool, to_array
from lightning_emerge.schedules import Schedule

_FOLDS = 5


@final
class CategoryProbe(Probe):
    """Measures how well the network tells the tokens of the stimulus bank, and how far each layer has them apart.

    Records `bank_accuracy` and `bank_confidence` (token), and `bank_accuracy_mean`. By layer: what can be read out,
    `nearest_mean_accuracy` and `ridge_accuracy`; how the tokens lie, `silhouette`, `participation_ratio` and neural
    collapse, `collapse_variability` (NC1), `collapse_norms` and `collapse_angles` (NC2), `collapse_disagreement` (NC4);
    `class_selectivity` (layer, filter) and `selective_share` (layer, token). And `collapse_duality` (NC3), of the
    network's last linear map, whichever layers are looked at.

    Args:
        schedule: as for any probe.
        layers: as for any probe.
        on_error: as for any probe.
    """

    needs: ClassVar = Needs(outputs=True, activations=True, features=True, pairs=True)

    def __init__(
        self,
        schedule: Schedule | None = None,
        layers: Sequence[str] | None = None,
        on_error: Literal["report", "raise"] = "report",
    ) -> None:
        super().__init__(schedule, layers, on_error)

    def measure(self, capture: Capture) -> Iterable[Measurement]:
        bank, logits = capture.bank, capture.outputs
        assert bank is not None
        assert logits is not None
        labels = bank.labels.to(logits.device)
        check_outputs(logits, labels)
        token, layer, source = Axis("token", bank.tokens), Axis("layer", capture.layers), type(self).__name__
        accuracy, confidence = accuracy_by_token(logits, labels), confidence_by_token(logits, labels)
        found = [
            ("bank_accuracy", accuracy, (token,), "share", "Share of a token's stimuli that are told right"),
            ("bank_accuracy_mean", accuracy.nanmean(), (), "share", "Mean over tokens of the share told right"),
            ("bank_confidence", confidence, (token,), "probability", "Mean probability given to the right token"),
        ]
        if capture.activations:
            folds = deal_folds(labels, _FOLDS)
            for name, of, unit, about in (
                (
                    "nearest_mean_accuracy",
                    lambda g: nearest_mean_accuracy(g, labels, folds),
                    "share",
                    _MEANS,
                ),
                ("ridge_accuracy", lambda g: ridge_accuracy(g, labels, folds), "share", _LINEAR),
                ("silhouette", lambda g: silhouette(g.correlation, labels), "-1 to 1", _SILHOUETTE),
                ("participation_ratio", participation_ratio, "dimensions", "In how many dimensions responses vary"),
                ("collapse_variability", lambda g: variability_ratio(g, labels), "1", _NC1),
                ("collapse_norms", lambda g: equinorm(g, labels), "1", _NC2_NORMS),
                ("collapse_angles", lambda g: equiangularity(g, labels), "1", _NC2_ANGLES),
                ("collapse_disagreement", lambda g: disagreement(g, labels, logits), "share", _NC4),
            ):
                found.append((name, _by_layer(capture, of), (layer,), unit, about))
            index, shares = _selectivity(capture, labels, len(bank.tokens))
            filters = Axis("filter", range(index.shape[1]))
            found.append(("class_selectivity", index, (layer, filters), "1", _INDEX))
            found.append(("selective_share", shares, (layer, token), "share of filters", _SELECTIVE))
            if capture.unfiltered:
                names, why = ", ".join(capture.unfiltered), " ".join(capture.unfiltered.values())
                self.note("class_selectivity", f"and no selective_share of {names}. {why}")
            found.append(("collapse_duality", self._duality(capture, labels), (), "1", _NC3))
        for name, values, axes, unit, about in found:
            yield Measurement(name, to_array(values.float()), axes, capture.step, unit, source, about)

    def _duality(self, capture: Capture, labels: Tensor) -> Tensor:
        features, readout = capture.features, capture.readout
        if features is None or readout is None or readout.shape[0] <= int(labels.max()):
            self.note(
                "collapse_duality",
                "here: it is of a linear map whose outputs the network returns, at least one for each token, and that "
                "gets one vector a stimulus; there is none.",
            )
            return torch.tensor(torch.nan)
        return self_duality(features, readout.to(features), labels)


_MEANS = "Share of stimuli told right by the nearest mean response to a token, taken over other stimuli"
_LINEAR = "Share of stimuli told right by a ridge regression fitted to other stimuli"
_SILHOUETTE = "Mean silhouette of stimuli as clusters of tokens, by one minus the correlation of responses"
_NC1 = "Neural collapse 1: variance within tokens over that between their means; 0 if collapsed"
_NC2_NORMS = "Neural collapse 2: variation of the lengths of the tokens' means; 0 if equally long"
_NC2_ANGLES = "Neural collapse 2: how far the angles between tokens' means are from a simplex'; 0 if it is one"
_NC3 = "Neural collapse 3: squared distance of the last weight and what it gets on average by token, 0 to 4"
_NC4 = "Neural collapse 4: share of stimuli at which the nearest mean in the layer is not the network's decision"
_INDEX = "Class selectivity, 0 to 1; NaN for a filter that is silent or responds negatively, and beyond the last"
_SELECTIVE = "Share of the layer's filters that respond three times as much to this token as to the others"


def _by_layer(capture: Capture, measure: Callable[[Geometry], Tensor]) -> Tensor:
    return torch.stack([measure(activation_geometry(rows)) for rows in capture.activations.values()])


def _selectivity(capture: Capture, labels: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
    """Index (layer, filter) and shares (layer, token); NaN for layers of which it is not known what a filter is."""
    index, shares = list[Tensor](), list[Tensor]()
    for layer, rows in capture.activations.items():
        if layer in capture.unfiltered:
            index.append(rows.new_full((1,), torch.nan))
            shares.append(rows.new_full((tokens,), torch.nan))
            continue
        own, preferred = class_selectivity(pool(rows), labels)
        index.append(own)
        shares.append(selective_share(own, preferred, tokens))
    return stack_layers(index), torch.stack(shares)
