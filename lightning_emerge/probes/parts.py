"""PartProbe: which parts of tokens, and conjunctions of them, filters and layers tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal, final

import torch
from matplotlib.figure import Figure
from torch import Tensor

from lightning_emerge.capture.needs import Activations, Filters, Latents, Network, Pairs
from lightning_emerge.data.rendering.latents import scenes_of
from lightning_emerge.data.rendering.render import part_masks
from lightning_emerge.figures.parts import draw_told
from lightning_emerge.measures.attribution import enrichment, grad_cam, integrated_gradients
from lightning_emerge.measures.auc import auc
from lightning_emerge.measures.filters import stack_layers
from lightning_emerge.measures.geometry import activation_geometry, deal_folds
from lightning_emerge.measures.latents import part_columns
from lightning_emerge.measures.parts import (
    Features,
    best_filter_auc,
    best_filters,
    features_of,
    filter_scores,
    linear_auc,
    owners,
    transfer_auc,
)
from lightning_emerge.measures.rivals import rival_sets
from lightning_emerge.probe import Probe
from lightning_emerge.records import Axis, Capture, Measurement, OpenNetwork, Record, StimulusBank
from lightning_emerge.records.names import join_tokens
from lightning_emerge.schedules import LogSpaced, Schedule

_FOLDS, _PATH = 5, 8
_METHODS, _REGIONS = ("integrated_gradients", "grad_cam"), ("own", "other parts")
_FEATURES, _AUC = ("layer", "feature"), (0, 1)
_WHOLE = Record(
    "part_auc",
    _FEATURES,
    "AUC",
    _AUC,
    about="How well a linear read-out of the layer tells the feature, in stimuli that it was not fitted to",
)
_SINGLE = Record(
    "part_filter_auc",
    _FEATURES,
    "AUC",
    _AUC,
    about="How well the best single filter tells the feature, in stimuli that it was not chosen by",
)
_TRANSFER = Record(
    "part_transfer",
    _FEATURES,
    "AUC",
    _AUC,
    about="How well a read-out fitted to other tokens tells the feature in tokens that it never saw; about 0.5 if by "
    "token",
)
_BEST = Record(
    "part_best_filter",
    _FEATURES,
    "number of the filter",
    (0, None),
    about="Which filter tells the feature best, over all stimuli",
)
_EACH = Record(
    "filter_part_auc",
    ("layer", "filter", "feature"),
    "AUC",
    _AUC,
    about="How surely a filter's largest output is larger with the feature than without it; NaN beyond the last filter",
)
_RIVAL = Record(
    "filter_rival_auc",
    ("layer", "filter", "rival"),
    "AUC",
    _AUC,
    about="The same as filter_part_auc of other sets of tokens, as large as those of parts, that are no part's",
)
_SHARE = Record(
    "part_attribution",
    ("layer", "part", "attribution", "region"),
    range=(0, None),
    about="Share of the attribution of the part's best filter inside a region, over the region's share of the image",
)
_LOWS = {_WHOLE.name: 0.5, _SINGLE.name: 0.5, _TRANSFER.name: 0.0}
"""Where colours begin in the pictures of what is told."""


@final
class PartProbe(Probe):
    """Measures how well filters and layers tell each part of tokens, each pair and each larger conjunction.

    Records by layer and feature, as areas under the ROC curve, 0.5 by chance: `part_auc`, of a linear read-out of the
    whole layer; `part_filter_auc`, of the best single filter; `part_transfer`, of a read-out in tokens that it never
    saw. `filter_part_auc` (layer, filter, feature) is that of every filter, `part_best_filter` the number of the best;
    `filter_rival_auc` (layer, filter, rival) that for other sets of tokens, as large as those that have a part.
    `part_attribution` (layer, part, attribution, region) says how much of the attribution of a part's best filter lies
    inside the part, and inside the token's other parts, over their share of the image.

    Args:
        schedule: as for any probe; `LogSpaced(5)` if none is given.
        layers: as for any probe.
        attributed: stimuli, of those that have a part, to take the attribution in; 0 for no attribution. It is most of
            what a look costs.
        on_error: as for any probe.

    Raises:
        ValueError: if `attributed` is below 0.
    """

    needs: ClassVar = (Activations(), Filters(), Latents(), Network(), Pairs())
    records: ClassVar = (_WHOLE, _SINGLE, _TRANSFER, _BEST, _EACH, _RIVAL, _SHARE)

    def __init__(
        self,
        schedule: Schedule | None = None,
        layers: Sequence[str] | None = None,
        attributed: int = 8,
        on_error: Literal["report", "raise"] = "report",
    ) -> None:
        super().__init__(schedule or LogSpaced(5), layers, on_error)
        if attributed < 0:
            raise ValueError(f"PartProbe: attributed is at least 0; got {attributed}.")
        self.attributed = attributed

    def measure(self, capture: Capture) -> Iterable[Measurement]:
        bank = capture.bank
        assert bank is not None
        features, rows = bank.once(features_of), list(capture.activations.values())
        device = rows[0].device
        labels, held = bank.labels.to(device), features.held.to(device)
        parts, folds = held[:, [kind == "part" for kind in features.kinds]], deal_folds(labels, _FOLDS)
        scores = [filter_scores(row) for row in rows]
        areas = [auc(own, held) for own in scores]
        best = torch.stack([best_filters(own) for own in areas])
        geometries = [capture.once(activation_geometry, layer) for layer in capture.activations]
        layer, feature = Axis("layer", capture.layers), Axis("feature", features.names, notes=features.notes())
        for record, values in (
            (_WHOLE, [linear_auc(own, held, folds) for own in geometries]),
            (_SINGLE, [best_filter_auc(own, held, folds) for own in scores]),
            (_TRANSFER, [transfer_auc(own, held, labels, parts) for own in geometries]),
            (_BEST, list(best)),
        ):
            yield record.of(torch.stack(values).float(), layer, feature)
        stacked = stack_layers(areas).float()
        filters = Axis("filter", range(stacked.shape[1]))
        yield _EACH.of(stacked, layer, filters, feature)
        rival, inside = _rivals(features, bank, labels)
        if rival.labels:
            yield _RIVAL.of(stack_layers([auc(own, inside) for own in scores]).float(), layer, filters, rival)
        if self.attributed:
            alone = features.of_kind("part")
            shares = _attributions(capture, bank, alone, best[:, : len(alone.names)], self.attributed)
            part = Axis("part", alone.names, notes=alone.notes())
            yield _SHARE.of(shares, layer, part, Axis("attribution", _METHODS), Axis("region", _REGIONS))

    def draw(self, measurement: Measurement) -> Figure | None:
        low = _LOWS.get(measurement.name)
        return None if low is None else draw_told(measurement, low)


def _rivals(features: Features, bank: StimulusBank, labels: Tensor) -> tuple[Axis, Tensor]:
    """Sets of tokens that are no part's, named by their tokens, and which stimuli (stimulus, rival) are of each."""
    parts = [owners(column, labels) for column in features.of_kind("part").held.T]
    rivals = rival_sets(parts, len(bank.tokens))
    inside = torch.zeros(len(labels), len(rivals), dtype=torch.bool, device=labels.device)
    for column, own in enumerate(rivals):
        inside[:, column] = torch.isin(labels, torch.tensor(own).to(labels))
    names = [join_tokens(bank.tokens[number] for number in own) for own in rivals]
    return Axis("rival", names, notes={"size": [*map(len, rivals)]}), inside


def _attributions(capture: Capture, bank: StimulusBank, features: Features, best: Tensor, count: int) -> Tensor:
    """How much of each part's best filter lies where, (layer, part, attribution, region); NaN without masks."""
    network, table = capture.network, bank.latents
    assert network is not None
    assert table is not None
    shares = torch.full((*best.shape, len(_METHODS), len(_REGIONS)), torch.nan)
    if "background_seed" not in table.columns:  # a table that does not say what there is to see
        return shares
    chosen = [_evenly(column.nonzero()[:, 0], count) for column in features.held.T]
    masks = bank.once(_masks, tuple(torch.cat(chosen).unique().tolist()))
    baseline = bank.images.mean(dim=0)
    for number, stimuli in enumerate(chosen):
        regions = _regions([masks[k] for k in stimuli.tolist()], features.appearances[number])
        images = bank.images[stimuli]
        for at, layer in enumerate(capture.layers):
            filtered = int(best[at, number])
            found = _attribute(network, layer, filtered, images, baseline, capture.activations[layer].dim() == 4)
            for method, attribution in enumerate(found):
                for region, mask in enumerate(regions):
                    shares[at, number, method, region] = enrichment(attribution, mask)
    return shares


def _attribute(
    network: OpenNetwork, layer: str, number: int, images: Tensor, baseline: Tensor, placed: bool
) -> list[Tensor]:
    """Attributions of a filter's largest output by each method; by Grad-CAM where its places are those of a plane."""

    def outputs(given: Tensor) -> Tensor:
        return network.respond(layer, given).float()

    integrated = integrated_gradients(lambda given: filter_scores(outputs(given))[:, number], images, baseline, _PATH)
    return [integrated, grad_cam(outputs, number, images)] if placed else [integrated]


def _evenly(positions: Tensor, count: int) -> Tensor:
    count = min(count, len(positions))
    return positions[torch.arange(count) * len(positions) // max(count, 1)]


def _masks(bank: StimulusBank, positions: tuple[int, ...]) -> dict[int, dict[str, Tensor]]:
    """Where each part of some stimuli is seen, by how the part appears in words."""
    table = bank.latents
    assert table is not None
    found: dict[int, dict[str, Tensor]] = {}
    for _, own in table.reset_index(drop=True).iloc[list(positions)].groupby("token", sort=False):
        seen = torch.from_numpy(part_masks(scenes_of(own), bank.images.shape[-1]))
        words = own[part_columns(table)[: seen.shape[1]]].to_numpy(str)
        for position, names, masks in zip(own.index, words, seen, strict=True):
            found[int(position)] = dict(zip(map(str, names), masks, strict=True))
    return found


def _regions(masks: Sequence[Mapping[str, Tensor]], appearances: frozenset[str]) -> tuple[Tensor, Tensor]:
    """Where some parts are seen in each stimulus, and where its others are."""
    empty = torch.zeros_like(next(iter(masks[0].values())))
    own = [sum((mask for name, mask in each.items() if name in appearances), empty) for each in masks]
    others = [sum((mask for name, mask in each.items() if name not in appearances), empty) for each in masks]
    return torch.stack(own), torch.stack(others)
