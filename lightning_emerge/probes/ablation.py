"""AblationProbe: what each token loses when a part's detectors are silenced."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import ClassVar, Literal, final

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from lightning_emerge.capture import spaced_convolutions
from lightning_emerge.capture.needs import Activations, Filters, Latents, Network, Outputs
from lightning_emerge.figures.ablation import draw_drops
from lightning_emerge.measures.ablation import (
    confidence_drop,
    deal_controls,
    find_detectors,
    mean_output,
    silence,
)
from lightning_emerge.measures.auc import auc
from lightning_emerge.measures.detectors import detector_count
from lightning_emerge.measures.filters import stack_layers
from lightning_emerge.measures.parts import features_of, filter_scores, owners
from lightning_emerge.measures.rivals import rival_sets
from lightning_emerge.probe import Probe
from lightning_emerge.records import Axis, Capture, Measurement, Record, check_outputs
from lightning_emerge.records.names import join_tokens
from lightning_emerge.records.structures import take
from lightning_emerge.schedules import LogSpaced, Schedule

_CHUNK, _DRAWS = 32, 5
_CHANGE = (-1, 1)
_DROP = Record(
    "ablation_drop",
    ("layer", "part", "token"),
    "probability",
    _CHANGE,
    "diverging",
    "How far the probability of the right token falls if a part's detectors are silenced; NaN without detectors",
)
_RIVAL = Record(
    "ablation_rival",
    ("layer", "rival", "token"),
    "probability",
    _CHANGE,
    "diverging",
    "How far it falls if the detectors of other tokens are silenced, as many as have some part; NaN without any",
)
_CONTROL = Record(
    "ablation_control",
    ("layer", "draw", "token"),
    "probability",
    _CHANGE,
    "diverging",
    "The same if as many filters are silenced that were drawn by lot",
)
_WHICH = Record(
    "ablation_filter",
    ("layer", "part", "detector"),
    "number of the filter",
    (0, None),
    about="Which filters are a part's detectors, the best first",
)


@final
class AblationProbe(Probe):
    """Silences the filters that detect a part, and measures what each token loses.

    The detectors of a part are the twentieth of a layer's filters with the largest AUC for it. In their place the
    next layer gets their mean output over the bank, so that what it gets stays what it is used to on average.

    Records `ablation_drop` (layer, part, token), how far the mean probability of the right token falls;
    `ablation_control` (layer, draw, token), the same for as many filters drawn by lot, in the same order at each look;
    `ablation_filter` (layer, part, detector), which filters were silenced; `ablation_rival` (layer, rival, token), the
    drop without the detectors of a rival: a set of as many tokens as have some part, which have no part to themselves.
    Detectors fire most for their own tokens and so hurt these most, whatever they detect; only rivals, whose detectors
    are chosen by the same rule, say whether parts are special (see `lightning_emerge.ablation_table`).

    Args:
        schedule: when to look; `LogSpaced(2)` if none is given. A look passes the bank once for each layer and part,
            once for each layer and rival (ten of each size of parts at most), and five times for each layer.
        layers: names or patterns. If none are given, every third convolution from the last one back, three in all.
        on_error: as for any probe.
    """

    needs: ClassVar = (Activations(), Filters(), Outputs(), Latents(), Network())
    records: ClassVar = (_DROP, _RIVAL, _CONTROL, _WHICH)

    def __init__(
        self,
        schedule: Schedule | None = None,
        layers: Sequence[str] | None = None,
        on_error: Literal["report", "raise"] = "report",
    ) -> None:
        super().__init__(schedule or LogSpaced(2), layers, on_error)

    def choose(self, module: nn.Module, layers: tuple[str, ...]) -> tuple[str, ...]:
        return spaced_convolutions(module, layers, every=3, count=3) if self.layers is None else layers

    def measure(self, capture: Capture) -> Iterable[Measurement]:
        bank, intact = capture.bank, capture.outputs
        assert bank is not None
        assert intact is not None
        check_outputs(intact, bank)
        parts = bank.once(features_of).of_kind("part")
        held, labels = parts.held.to(intact.device), bank.labels.to(intact.device)
        count = len(parts.names)
        sets = rival_sets([owners(column, bank.labels) for column in parts.held.T], len(bank.tokens))
        rivals = [torch.isin(labels, torch.tensor(one, device=labels.device)) for one in sets]
        wanted = torch.cat([held, *(one[:, None] for one in rivals)], dim=1)
        drops, controls, which = [], [], []
        for layer, rows in capture.activations.items():
            scores = filter_scores(rows)
            detectors = find_detectors(auc(scores, wanted), wanted)
            drawn = deal_controls(scores, _DRAWS)
            drawn_or_none = [drawn[k] if k < len(drawn) else None for k in range(_DRAWS)]
            lose = partial(_lose, capture, layer, mean_output(rows), labels)
            drops.append(torch.stack([lose(filters) for filters in detectors]))
            controls.append(torch.stack([lose(filters) for filters in drawn_or_none]))
            none = torch.full((detector_count(rows.shape[1]),), torch.nan)
            which.append(torch.stack([none if own is None else own.float().cpu() for own in detectors[:count]], dim=1))
        stacked = torch.stack(drops)
        layer, token = Axis("layer", capture.layers), Axis("token", bank.tokens)
        part, draw = Axis("part", parts.names, notes=parts.notes()), Axis("draw", range(_DRAWS))
        rival = Axis(
            "rival", [join_tokens(bank.tokens[k] for k in one) for one in sets], notes={"size": [*map(len, sets)]}
        )
        numbers = stack_layers(which).transpose(1, 2)
        for record, values, axes in (
            (_DROP, stacked[:, :count], (layer, part, token)),
            (_RIVAL, stacked[:, count:], (layer, rival, token)),
            (_CONTROL, torch.stack(controls), (layer, draw, token)),
            (_WHICH, numbers, (layer, part, Axis("detector", range(numbers.shape[2])))),
        ):
            if values.shape[1]:  # with few tokens, each set of them may be a part's: then there are no rivals
                yield record.of(values.float(), *axes)

    def draw(self, measurement: Measurement) -> Figure | None:
        return draw_drops(measurement) if measurement.name == _DROP.name else None


def _lose(capture: Capture, layer: str, values: Tensor, labels: Tensor, filters: Tensor | None) -> Tensor:
    """What each token loses if some filters of a layer are silenced; NaN if there are none to silence."""
    bank, network, intact = capture.bank, capture.network, capture.outputs
    assert bank is not None
    assert network is not None
    assert intact is not None
    tokens = len(bank.tokens)
    if filters is None:
        return torch.full((tokens,), torch.nan, device=intact.device)
    change = partial(silence, filters=filters, values=values)
    with torch.no_grad():
        chunks = [take(bank.inputs, rows) for rows in torch.arange(len(bank)).split(_CHUNK)]
        outputs = torch.cat([network.intervene(layer, change, chunk) for chunk in chunks])
    return confidence_drop(intact, outputs.float(), labels)
