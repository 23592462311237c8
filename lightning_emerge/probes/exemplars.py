"""TopExemplarProbe: which stimuli drive each filter most, and what of them it sees."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import ClassVar, Literal, final

import numpy as np
import torch
from matplotlib.figure import Figure

from lightning_emerge.capture.needs import Activations, Filters, Images, Network
from lightning_emerge.figures.exemplars import draw_top_exemplars
from lightning_emerge.measures.exemplars import crop, mean_responses, pixel_range, top_stimuli
from lightning_emerge.measures.filters import stack_layers
from lightning_emerge.probe import Probe
from lightning_emerge.records import (
    Axis,
    Capture,
    Measurement,
    ReceptiveField,
    Record,
    StimulusBank,
    to_array,
)
from lightning_emerge.records.structures import describe
from lightning_emerge.schedules import LogSpaced, Schedule

_SIDE = 24
_TOP = ("layer", "filter", "exemplar")
_RESPONSE = Record(
    "filter_response", ("layer", "filter", "token"), "activation", about="Mean activation of each filter by token"
)
_LARGEST = Record("top_activation", _TOP, "activation", about="Largest activations, by stimulus")
_STIMULUS = Record("top_stimulus", _TOP, "position in the bank", (0, None), about="Which stimuli those are of")
_TOKEN = Record("top_token", _TOP, "label", (0, None), about="Which tokens those stimuli are of")
_SPAN = Record("top_span", (*_TOP, "edge"), "pixels", about="What the filter sees there")
_CROP = Record(
    "top_crop",
    (*_TOP, "channel", "y", "x"),
    "share of the bank's range",
    (0, 1),
    about="What drives each filter most: squares of stimuli, scaled to one size; NaN outside of the image",
)


@final
class TopExemplarProbe(Probe):
    """Finds the stimuli of the bank that drive each filter most, cropped to what the filter sees at its maximum.

    Records (layer, filter, ...), with NaN beyond a layer's last filter: `filter_response` (token), the mean activation
    by token; `top_activation`, `top_stimulus` and `top_token` (exemplar), which stimuli, by position in the bank, of
    which token, by label; `top_span` (exemplar, edge), the receptive field at the maximum in pixels; and, of the first
    filters only, `top_crop` (exemplar, channel, y, x), that square as a picture of 24 x 24 pixels, on the range of the
    bank's values. Stimuli that are no images have neither of these two. A filter that is zero for every stimulus is
    dead: it has no top exemplars but NaN.

    Args:
        schedule: as for any probe; `LogSpaced(5)` if none is given.
        layers: as for any probe.
        filters: of how many of a layer's filters, the first ones, to keep crops, at least 1.
        exemplars: how many stimuli of each filter, at least 1.
        on_error: as for any probe.

    Raises:
        ValueError: if a number is below 1.
    """

    needs: ClassVar = (Activations(), Filters(), Images(), Network())
    records: ClassVar = (_RESPONSE, _LARGEST, _STIMULUS, _TOKEN, _SPAN, _CROP)

    def __init__(
        self,
        schedule: Schedule | None = None,
        layers: Sequence[str] | None = None,
        filters: int = 8,
        exemplars: int = 4,
        on_error: Literal["report", "raise"] = "report",
    ) -> None:
        super().__init__(schedule or LogSpaced(5), layers, on_error)
        for name, value in (("filters", filters), ("exemplars", exemplars)):
            if value < 1:
                raise ValueError(f"TopExemplarProbe: {name} is at least 1; got {value}.")
        self.filters, self.exemplars = filters, exemplars

    def measure(self, capture: Capture) -> Iterable[Measurement]:
        bank, network = capture.bank, capture.network
        assert bank is not None
        assert network is not None
        count = min(self.exemplars, len(bank))
        fields = dict[str, ReceptiveField | None].fromkeys(capture.layers)
        if bank.pictured:
            fields = network.receptive_fields(capture.layers, bank.images[0])
        tops = [_Tops(rows, count, bank, fields[layer]) for layer, rows in capture.activations.items()]
        labels = bank.labels.to(next(iter(capture.activations.values())).device)
        responses = [mean_responses(rows, labels, len(bank.tokens)) for rows in capture.activations.values()]
        layers, filters = Axis("layer", capture.layers), Axis("filter", range(max(map(len, responses))))
        ranks, tokens = Axis("exemplar", range(1, count + 1)), Axis("token", bank.tokens)
        for record, rows, axes in (
            (_RESPONSE, responses, (tokens,)),
            (_LARGEST, [top.largest for top in tops], (ranks,)),
            (_STIMULUS, [top.stimuli for top in tops], (ranks,)),
            (_TOKEN, [top.tokens for top in tops], (ranks,)),
        ):
            yield record.of(stack_layers(rows), layers, filters, *axes)
        if not bank.pictured:
            self.note(
                "top_crop", f"and no top_span: they are of images; the bank's stimuli are {describe(bank.inputs)}."
            )
            return
        edges = Axis("edge", ("top", "bottom", "left", "right"))
        yield _SPAN.of(stack_layers(top.spans for top in tops), layers, filters, ranks, edges)
        yield self._crops(tops, bank, layers, ranks)

    def _crops(self, tops: Sequence[_Tops], bank: StimulusBank, layers: Axis, ranks: Axis) -> Measurement:
        low, reach = (edge[:, None, None] for edge in pixel_range(bank.images))
        images = (bank.images - low) / reach
        crops = stack_layers(top.crops(self.filters, images) for top in tops)
        sides = tuple(
            Axis(name, range(size)) for name, size in zip(("channel", "y", "x"), crops.shape[3:], strict=True)
        )
        return _CROP.of(
            crops.half().numpy(),
            layers,
            Axis("filter", range(crops.shape[1])),
            ranks,
            *sides,
            beside={
                "token": to_array(stack_layers(top.tokens[: self.filters] for top in tops)),
                "tokens": np.array(bank.tokens),
                "filters": np.array([len(top.largest) for top in tops]),
            },
        )

    def draw(self, measurement: Measurement) -> Figure | None:
        return draw_top_exemplars(measurement) if measurement.name == _CROP.name else None


class _Tops:
    """The top stimuli of one layer's filters; NaN for those of dead filters."""

    def __init__(self, rows: torch.Tensor, count: int, bank: StimulusBank, field: ReceptiveField | None) -> None:
        self.largest, stimuli, places = top_stimuli(rows, count)
        dead = self.largest[:, 0] == 0
        labels = bank.labels.to(stimuli.device)[stimuli]
        height, width = bank.images.shape[2:] if bank.pictured else (0, 0)
        spans = torch.tensor([0, height, 0, width], device=rows.device).expand(*stimuli.shape, 4)
        if field is not None and rows.dim() == 4:
            spans = torch.stack(field.span(places), dim=3).flatten(2)
        self.stimuli, self.tokens, self.spans = (
            value.to(rows.dtype).masked_fill(dead.view(-1, *[1] * (value.dim() - 1)), torch.nan)
            for value in (stimuli, labels, spans)
        )

    def crops(self, filters: int, images: torch.Tensor) -> torch.Tensor:
        """Squares (filter, rank, channel, y, x) of the top stimuli of the first filters."""
        own = self.stimuli[:filters].to(images.device)
        squares = images.new_full((*own.shape, images.shape[1], _SIDE, _SIDE), torch.nan)
        there = own.isfinite()
        spans = self.spans[:filters].to(images.device)[there].long()
        squares[there] = crop(images, own[there].long(), spans, _SIDE)
        return squares
