"""CategoryProbe: how well tokens are classified, by the network and from each layer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from lightning_emerge.capture.needs import Activations, Features, Filters, Outputs, Pairs
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
from lightning_emerge.measures.selectivity import class_selectivity, preferred_tokens, selective_share
from lightning_emerge.probe import Probe
from lightning_emerge.records import Axis, Capture, Measurement, Record, pool
from lightning_emerge.schedules import Schedule

_FOLDS = 5
_SHARE, _ABOVE = (0, 1), (0, None)
_ACCURACY = Record(
    "bank_accuracy", ("token",), "share", _SHARE, about="Share of a token's stimuli that are classified correctly"
)
_MEAN = Record("bank_accuracy_mean", (), "share", _SHARE, about="Mean over tokens of the share classified correctly")
_CONFIDENCE = Record(
    "bank_confidence", ("token",), "probability", _SHARE, about="Mean probability given to the right token"
)
_NEAREST = Record(
    "nearest_mean_accuracy",
    ("layer",),
    "share",
    _SHARE,
    about="Mean over tokens of the share classified correctly by the nearest mean of other stimuli",
)
_RIDGE = Record(
    "ridge_accuracy",
    ("layer",),
    "share",
    _SHARE,
    about="Mean over tokens of the share classified correctly by a ridge regression fitted to other stimuli",
)
_SILHOUETTE = Record(
    "silhouette",
    ("layer",),
    range=(-1, 1),
    scale="diverging",
    about="Mean silhouette of stimuli as clusters of tokens, by one minus the correlation of responses",
)
_DIMENSIONS = Record(
    "participation_ratio", ("layer",), "dimensions", (1, None), about="In how many dimensions responses vary"
)
_NC1 = Record(
    "collapse_variability",
    ("layer",),
    range=_ABOVE,
    scale="log",
    about="Neural collapse 1: variance within tokens over that between their means; 0 if collapsed",
)
_NC2_NORMS = Record(
    "collapse_norms",
    ("layer",),
    range=_ABOVE,
    about="Neural collapse 2: variation of the lengths of the tokens' means; 0 if equally long",
)
_NC2_ANGLES = Record(
    "collapse_angles",
    ("layer",),
    range=_ABOVE,
    about="Neural collapse 2: how far the angles between tokens' means are from a simplex'; 0 if it is one",
)
_NC3 = Record(
    "collapse_duality",
    range=(0, 4),
    about="Neural collapse 3: squared distance of the last weight and what it gets on average by token, 0 to 4",
)
_NC4 = Record(
    "collapse_disagreement",
    ("layer",),
    "share",
    _SHARE,
    about="Neural collapse 4: share of stimuli at which the nearest mean in the layer is not the network's decision",
)
_INDEX = Record(
    "class_selectivity",
    ("layer", "filter"),
    range=(None, 1),
    about="Cross-validated class selectivity: 0 on average by chance, 1 if one token alone drives the filter; NaN for "
    "a filter that is silent or responds negatively, and beyond the last",
)
_SELECTIVE = Record(
    "filter_selective",
    ("layer", "filter"),
    "1 or 0",
    _SHARE,
    about="1 if the filter responds three times as much to its token as to the others and more so than by chance, 0 "
    "if not; NaN where it has no selectivity",
)
_SELECTIVE_SHARE = Record(
    "selective_share",
    ("layer", "token"),
    "share of filters",
    _SHARE,
    about="Share of the layer's filters that are selective and respond to this token most; over all tokens 0.02 by "
    "chance",
)


@final
class CategoryProbe(Probe):
    """Measures how well the network classifies the stimulus bank, and how far each layer has them apart.

    Records `bank_accuracy` and `bank_confidence` (token), and `bank_accuracy_mean`. By layer: what can be read out,
    `nearest_mean_accuracy` and `ridge_accuracy`; how the tokens lie, `silhouette`, `participation_ratio` and neural
    collapse, `collapse_variability` (NC1), `collapse_norms` and `collapse_angles` (NC2), `collapse_disagreement` (NC4);
    `class_selectivity` and `filter_selective` (layer, filter), and `selective_share` (layer, token). And
    `collapse_duality` (NC3), of the network's last linear map, whichever layers are looked at. Where a network gives no
    answers, only what is of layers is recorded.

    Args:
        schedule: as for any probe.
        layers: as for any probe.
        on_error: as for any probe.
    """

    needs: ClassVar = (Activations(), Filters(required=False), Outputs(required=False), Features(), Pairs())
    records: ClassVar = (
        *(_ACCURACY, _MEAN, _CONFIDENCE, _NEAREST, _RIDGE, _SILHOUETTE, _DIMENSIONS),
        *(_NC1, _NC2_NORMS, _NC2_ANGLES, _NC4, _INDEX, _SELECTIVE, _SELECTIVE_SHARE, _NC3),
    )

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
        counts = bank.labels.bincount(minlength=len(bank.tokens)).tolist()
        token, layer = Axis("token", bank.tokens, notes={"stimuli": counts}), Axis("layer", capture.layers)
        if logits is None:
            self.note("bank_accuracy", f"and nothing else that is of the network's answers. {capture.unread}")
        else:
            self._compare(logits.shape[1], len(bank.tokens))
            yield from _answers(logits, bank.labels.to(logits.device), token)
        if not capture.activations:
            return
        labels = bank.labels.to(next(iter(capture.activations.values())).device)
        yield from self._layers(capture, labels, logits, layer)
        yield from self._selectivity(capture, labels, layer, token)
        if logits is not None:
            yield _NC3.of(self._duality(capture, labels).float())

    def _layers(self, capture: Capture, labels: Tensor, logits: Tensor | None, layer: Axis) -> Iterable[Measurement]:
        folds = deal_folds(labels, _FOLDS)
        for record, measure in (
            (_NEAREST, lambda g: nearest_mean_accuracy(g, labels, folds)),
            (_RIDGE, lambda g: ridge_accuracy(g, labels, folds)),
            (_SILHOUETTE, lambda g: silhouette(g.correlation, labels)),
            (_DIMENSIONS, participation_ratio),
            (_NC1, lambda g: variability_ratio(g, labels)),
            (_NC2_NORMS, lambda g: equinorm(g, labels)),
            (_NC2_ANGLES, lambda g: equiangularity(g, labels)),
            *(() if logits is None else ((_NC4, lambda g: disagreement(g, labels, logits)),)),
        ):
            yield record.of(_by_layer(capture, measure).float(), layer)

    def _compare(self, outputs: int, tokens: int) -> None:
        if outputs > tokens:
            self.note(
                "bank_accuracy",
                f"of {outputs - tokens} of the network's {outputs} outputs, as the bank has {tokens} tokens. If they "
                "are no answers, say what the network learns by with Stimuli(loss=...); else name the tokens of all, "
                "in their order, with Stimuli(tokens=...).",
            )

    def _selectivity(self, capture: Capture, labels: Tensor, layer: Axis, token: Axis) -> Iterable[Measurement]:
        index, selective, shares = _selectivity(capture, labels, len(token.labels))
        filters = Axis("filter", range(index.shape[1]))
        yield _INDEX.of(index.float(), layer, filters)
        yield _SELECTIVE.of(selective.float(), layer, filters)
        yield _SELECTIVE_SHARE.of(shares.float(), layer, token)
        if capture.unfiltered:
            names, why = ", ".join(capture.unfiltered), " ".join(capture.unfiltered.values())
            self.note("class_selectivity", f"and no filter_selective or selective_share of {names}. {why}")
        elif index.isfinite().any() and not selective.isfinite().any():
            self.note("filter_selective", f"and no selective_share here: {_FEW}")

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


_FEW = (
    "with so few stimuli of each token chance makes filters that look as if one token alone drove them. Give the bank "
    "more."
)


def _answers(logits: Tensor, labels: Tensor, token: Axis) -> Iterable[Measurement]:
    known = slice(len(token.labels))  # a network may have outputs for tokens that the bank lacks
    accuracy = accuracy_by_token(logits, labels)[known]
    yield _ACCURACY.of(accuracy.float(), token)
    yield _MEAN.of(accuracy.nanmean().float())
    yield _CONFIDENCE.of(confidence_by_token(logits, labels)[known].float(), token)


def _by_layer(capture: Capture, measure: Callable[[Geometry], Tensor]) -> Tensor:
    return torch.stack([measure(capture.once(activation_geometry, layer)) for layer in capture.activations])


def _selectivity(capture: Capture, labels: Tensor, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    """Index (layer, filter), whether it is selective, and shares (layer, token); NaN where no filters are known."""
    known = {
        layer: pool(rows).float() for layer, rows in capture.activations.items() if layer not in capture.unfiltered
    }
    widths = [rows.shape[1] for rows in known.values()]
    nothing = torch.full((tokens,), torch.nan, device=labels.device)
    index, chosen, shares = (dict.fromkeys(capture.activations, part) for part in (nothing[:1], nothing[:1], nothing))
    if known:
        found, selective = class_selectivity(torch.cat([*known.values()], dim=1), labels)
        for layer, own, which in zip(known, torch.split(found, widths), torch.split(selective, widths), strict=True):
            index[layer], chosen[layer] = own, which
            shares[layer] = selective_share(which, preferred_tokens(known[layer], labels), tokens).float()
    return stack_layers(index.values()), stack_layers(chosen.values()), torch.stack([*shares.values()])
