"""PartProbe: which parts of tokens, and conjunctions of them, filters and layers tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal, final

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lightning_emerge.data.rendering.latents import scenes_of
from lightning_emerge.data.rendering.render import part_masks
from lightning_emerge.figures.parts import draw_told
from lightning_emerge.measures.attribution import enrichment, grad_cam, integrated_gradients
from lightning_emerge.measures.auc import auc
from lightning_emerge.measures.filters import stack_layers
from lightning_emerge.measures.geometry import activation_geometry, deal_folds
from lightning_emerge.measures.parts import (
    JOINT,
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
from lightning_emerge.records import Axis, Capture, Measurement, Needs, Network, StimulusBank, to_array
from lightning_emerge.schedules import LogSpaced, Schedule

_FOLDS, _PATH = 5, 8
_METHODS, _REGIONS = ("integrated_gradients", "grad_cam"), ("own", "other parts")
_RANGES = {"part_auc": 0.5, "part_filter_auc": 0.5, "part_transfer": 0.0}
_WHOLE = "How well a linear read-out of the layer tells the feature, in stimuli that it was not fitted to"
_SINGLE = "How well the best single filter tells the feature, in stimuli that it was not chosen by"
_TRANSFER = (
    "How well a read-out fitted to other tokens tells the feature in tokens that it never saw; about 0.5 if by token"
)
_BEST = "Which filter tells the feature best, over all stimuli"
_EACH = "How surely a filter's largest output is larger with the feature than without it; NaN beyond the last filter"
_RIVAL = "The same as filter_part_auc of other sets of tokens, as large as those of parts, that are no part's"
_SHARE = "Share of the attribution of the part's best filter inside a region, over the region's share of the image"


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

    needs: ClassVar = Needs(activations=True, filters=True, latents=True, network=True, pairs=True)

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
        bank, source = capture.bank, type(self).__name__
        assert bank is not None
        features, rows = features_of(bank), list(capture.activations.values())
        device = rows[0].device
        labels, held = bank.labels.to(device), features.held.to(device)
        parts, folds = held[:, [kind == "part" for kind in features.kinds]], deal_folds(labels, _FOLDS)
        scores = [filter_scores(row) for row in rows]
        areas = [auc(own, held) for own in scores]
        best = torch.stack([best_filters(own) for own in areas])
        geometries = [activation_geometry(row) for row in rows]
        layer, feature = Axis("layer", capture.layers), Axis("feature", features.names, notes=features.notes())
        for name, values, axes, unit, about in (
            ("part_auc", [linear_auc(own, held, folds) for own in geometries], (layer, feature), "AUC", _WHOLE),
            (
                "part_filter_auc",
                [best_filter_auc(own, held, folds) for own in scores],
                (layer, feature),
                "AUC",
                _SINGLE,
            ),
            (
                "part_transfer",
                [transfer_auc(own, held, labels, parts) for own in geometries],
                (layer, feature),
                "AUC",
                _TRANSFER,
            ),
            ("part_best_filter", list(best), (layer, feature), "number of the filter", _BEST),
        ):
            stacked = torch.stack(values).float()
            yield Measurement(name, to_array(stacked), axes, capture.step, unit, source, about)
        stacked = stack_layers(areas).float()
        axes = (layer, Axis("filter", range(stacked.shape[1])), feature)
        yield Measurement("filter_part_auc", to_array(stacked), axes, capture.step, "AUC", source, _EACH)
        rival, inside = _rivals(features, bank, labels)
        if rival.labels:
            stacked = stack_layers([auc(own, inside) for own in scores]).float()
            axes = (layer, Axis("filter", range(stacked.shape[1])), rival)
            yield Measurement("filter_rival_auc", to_array(stacked), axes, capture.step, "AUC", source, _RIVAL)
        if self.attributed:
            alone = features.of_kind("part")
            shares = _attributions(capture, bank, alone, best[:, : len(alone.names)], self.attributed)
            part = Axis("part", alone.names, notes=alone.notes())
            axes = (layer, part, Axis("attribution", _METHODS), Axis("region", _REGIONS))
            yield Measurement("part_attribution", to_array(shares), axes, capture.step, "1", source, _SHARE)

    def draw(self, measurement: Measurement) -> Figure | None:
        low = _RANGES.get(measurement.name)
        return None if low is None else draw_told(measurement, low)


def _rivals(features: Features, bank: StimulusBank, labels: Tensor) -> tuple[Axis, Tensor]:
    """Sets of tokens that are no part's, with `JOINT` between them, and which stimuli (stimulus, rival) are of each."""
    parts = [owners(column, labels) for column in features.of_kind("part").held.T]
    rivals = rival_sets(parts, len(bank.tokens))
    inside = torch.zeros(len(labels), len(rivals), dtype=torch.bool, device=labels.device)
    for column, own in enumerate(rivals):
        inside[:, column] = torch.isin(labels, torch.tensor(own).to(labels))
    names = [JOINT.join(bank.tokens[number] for number in own) for own in rivals]
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
    masks = _masks(table, torch.cat(chosen).unique().tolist(), bank.images.shape[-1])
    baseline = bank.images.mean(dim=0)
    for number, stimuli in enumerate(chosen):
        regions = _regions([masks[k] for k in stimuli.tolist()], features.looks[number])
        images = bank.images[stimuli]
        for at, layer in enumerate(capture.layers):
            filtered = int(best[at, number])
            found = _attribute(network, layer, filtered, images, baseline, capture.activations[layer].dim() > 2)
            for method, attribution in enumerate(found):
                for region, mask in enumerate(regions):
                    shares[at, number, method, region] = enrichment(attribution, mask)
    return shares


def _attribute(
    network: Network, layer: str, number: int, images: Tensor, baseline: Tensor, placed: bool
) -> list[Tensor]:
    """Attributions of a filter's largest output by each method, as far as there are places for it."""

    def outputs(given: Tensor) -> Tensor:
        return network.respond(layer, given).float()

    integrated = integrated_gradients(lambda given: filter_scores(outputs(given))[:, number], images, baseline, _PATH)
    return [integrated, grad_cam(outputs, number, images)] if placed else [integrated]


def _evenly(positions: Tensor, count: int) -> Tensor:
    count = min(count, len(positions))
    return positions[torch.arange(count) * len(positions) // max(count, 1)]


def _masks(table: pd.DataFrame, positions: Sequence[int], size: int) -> dict[int, dict[str, Tensor]]:
    """Where each part of some stimuli is seen, by the words of the grammar for it."""
    found: dict[int, dict[str, Tensor]] = {}
    for _, own in table.iloc[list(positions)].groupby("token", sort=False):
        seen = torch.from_numpy(part_masks(scenes_of(own), size))
        for row, position in enumerate(own.index):
            looks = [str(own[f"part{part}_look"].iloc[row]) for part in range(seen.shape[1])]
            found[int(position)] = dict(zip(looks, seen[row], strict=True))
    return found


def _regions(masks: Sequence[Mapping[str, Tensor]], looks: frozenset[str]) -> tuple[Tensor, Tensor]:
    """Where some parts are seen in each stimulus, and where its others are."""
    empty = torch.zeros_like(next(iter(masks[0].values())))
    own = [sum((mask for look, mask in each.items() if look in looks), empty) for each in masks]
    others = [sum((mask for look, mask in each.items() if look not in looks), empty) for each in masks]
    return torch.stack(own), torch.stack(others)
