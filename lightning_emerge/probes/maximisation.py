"""MaximisationProbe: images that excite filters as much as an image can."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import ClassVar, Literal, final

import torch
from matplotlib.figure import Figure
from torch import Tensor

from lightning_emerge.capture.needs import Filters, Images, Network
from lightning_emerge.figures.maximisation import draw_maximised
from lightning_emerge.measures.filters import stack_layers
from lightning_emerge.measures.maximisation import Palette, find_palette, maximise
from lightning_emerge.probe import Probe
from lightning_emerge.records import Axis, Capture, Measurement, Record, StimulusBank, check_pictured, pool
from lightning_emerge.schedules import LogSpaced, Schedule

_CHUNK = 32


def _unit(outputs: Tensor) -> Tensor:
    while outputs.dim() > 2:
        outputs = outputs.select(2, outputs.shape[2] // 2)
    return outputs


_TARGETS: Mapping[str, Callable[[Tensor], Tensor]] = {"channel": pool, "unit": _unit}

_FILTERS = ("layer", "filter")
_IMAGE = Record(
    "maximising_image",
    (*_FILTERS, "channel", "y", "x"),
    "share of the bank's range",
    (0, 1),
    about="Image that excites a filter the most; NaN for a dead filter and beyond a layer's last",
)
_REACHED = Record(
    "maximising_activation",
    _FILTERS,
    "activation",
    about="What a filter's maximising image reaches, by the probe's target: a mean over places, or one place",
)
_BEST = Record(
    "best_exemplar_activation",
    _FILTERS,
    "activation",
    about="The most that a stimulus of the bank reaches, by the probe's target",
)
_BEGUN = Record(
    "begun_as_exemplar",
    _FILTERS,
    range=(0, 1),
    about="Whether a maximising image began as a stimulus, since noise failed",
)


@final
class MaximisationProbe(Probe):
    """Seeks images that excite filters as much as an image can (Olah, Mordvintsev & Schubert, 2017).

    Records `maximising_image` (layer, filter, channel, y, x), from 0 to 1 in the range of the bank's pixels, and by
    layer and filter `maximising_activation`, what the image reaches, and `best_exemplar_activation`, the most that any
    stimulus of the bank reaches. A filter is dead if neither a stimulus nor an image excites it: its image is NaN and
    its activation 0. Images begin as the same noise at every look, so that a filter's can be followed through training;
    where noise does not excite a filter its image begins as that stimulus, and `begun_as_exemplar` is 1.

    Args:
        schedule: when to look; `LogSpaced(2)` if none is given. A look costs `iterations` passes there and back of all
            filters, in each layer.
        layers: names or patterns. The channels of the last layer are the tokens' logits.
        filters: how many of each layer, the first of them; at least 1.
        target: "channel", a filter's mean over all places, or "unit", its output at the middle place. They are the
            same where a layer has no places.
        iterations: steps of gradient ascent; at least 1.
        seed: of the noise that images begin as, and of the transforms.
        on_error: "report" or "raise".

    Raises:
        ValueError: if an argument is out of its range.
    """

    needs: ClassVar = (Filters(), Network(), Images())
    records: ClassVar = (_IMAGE, _REACHED, _BEST, _BEGUN)

    def __init__(
        self,
        schedule: Schedule | None = None,
        layers: Sequence[str] | None = None,
        filters: int = 8,
        target: Literal["channel", "unit"] = "channel",
        iterations: int = 64,
        seed: int = 0,
        on_error: Literal["report", "raise"] = "report",
    ) -> None:
        super().__init__(schedule or LogSpaced(2), layers, on_error)
        if filters < 1 or iterations < 1:
            raise ValueError(
                f"MaximisationProbe: filters and iterations are at least 1; got {filters} and {iterations}."
            )
        if target not in _TARGETS:
            raise ValueError(f"MaximisationProbe: target is 'channel' or 'unit'; got {target!r}.")
        self.filters, self.target, self.iterations, self.seed = filters, target, iterations, seed

    def measure(self, capture: Capture) -> Iterable[Measurement]:
        bank = capture.bank
        assert bank is not None
        check_pictured(bank, type(self).__name__)
        palette = find_palette(bank.images)
        found = [self._maximise(capture, layer, bank, palette) for layer in capture.layers]
        counts = [len(best) for _, _, best, _ in found]
        images, *numbers = (stack_layers(rows) for rows in zip(*found, strict=True))
        layers = Axis("layer", capture.layers, notes={"filters": counts})
        axes = (layers, Axis("filter", range(max(counts))))
        pixels = tuple(Axis(name, range(n)) for name, n in zip(("channel", "y", "x"), images.shape[2:], strict=True))
        yield _IMAGE.of(images, *axes, *pixels)
        for record, values in zip((_REACHED, _BEST, _BEGUN), numbers, strict=True):
            yield record.of(values, *axes)

    def draw(self, measurement: Measurement) -> Figure | None:
        drawn = measurement.name == _IMAGE.name and measurement.values.shape[2] in (1, 3)
        return draw_maximised(measurement) if drawn else None

    def _maximise(
        self, capture: Capture, layer: str, bank: StimulusBank, palette: Palette
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images of a layer's first filters, what they reach, what exemplars reach, and what the images began as."""
        network = capture.network
        assert network is not None
        target = _TARGETS[self.target]

        def respond(images: Tensor) -> Tensor:
            return target(network.respond(layer, images))[:, : self.filters]

        with torch.no_grad():
            best, chosen = torch.cat([respond(chunk).float() for chunk in bank.images.split(_CHUNK)]).max(dim=0)
        exemplars, best = bank.images[chosen.to(bank.images.device)], best.cpu()
        found = maximise(respond, exemplars, palette, iterations=self.iterations, seed=self.seed)
        dead = found.begun.isnan() & (found.activations <= 0) & (best <= 0)
        shares = (found.images - palette.low[:, None, None]) / palette.reach[:, None, None]
        images = shares.masked_fill(dead[:, None, None, None], torch.nan)
        return images, found.activations.masked_fill(dead, 0), best, found.begun
