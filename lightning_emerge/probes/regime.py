"""RegimeProbe: whether the network learns by small changes of all weights, or builds features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from lightning_emerge.capture.needs import Images, Network, Start, Weights
from lightning_emerge.measures.cka import debiased_alignment
from lightning_emerge.measures.filters import filter_cosines, turned_share
from lightning_emerge.measures.geometry import activation_geometry
from lightning_emerge.measures.gradient import update_ratio
from lightning_emerge.measures.regime import effective_rank, mix_outputs, spread_stimuli, tangent_kernels, token_kernel
from lightning_emerge.probe import Probe
from lightning_emerge.records import Axis, Capture, Measurement, OpenNetwork, Record, StimulusBank
from lightning_emerge.records.structures import take
from lightning_emerge.schedules import LogSpaced, Schedule

_DEGREES, _RESPONDING = 30.0, 50
_WITH = "and that at the first look: 1 if nothing but its scale has changed, about 0 if they are unrelated"
_UNMOVED = (
    "no output depends on their weights at this look, or each does alike for all stimuli, as where the last layer's "
    "weights begin at zero."
)
_FEW = "it takes 4 stimuli of the bank."
_UNVARIED = "what they give is not a row of numbers that differs from stimulus to stimulus."
_KERNEL = Record(
    "kernel_alignment",
    ("layer",),
    range=(-1, 1),
    scale="diverging",
    about=f"Debiased centred alignment of the tangent kernel of the layer's weight {_WITH}",
)
_KERNEL_TOTAL = Record(
    "kernel_alignment_total",
    (),
    range=(-1, 1),
    scale="diverging",
    about=f"Debiased centred alignment of the tangent kernel of all the layers' weights {_WITH}",
)
_TOKEN = Record(
    "kernel_token_alignment",
    ("layer",),
    range=(-1, 1),
    scale="diverging",
    about="Debiased centred alignment of the tangent kernel of the layer's weight and the kernel of tokens alone",
)
_TOKEN_TOTAL = Record(
    "kernel_token_alignment_total",
    (),
    range=(-1, 1),
    scale="diverging",
    about="Debiased centred alignment of the tangent kernel of all the layers' weights and the kernel of tokens alone",
)
_CKA = Record(
    "start_cka",
    ("layer",),
    range=(-1, 1),
    scale="diverging",
    about="Debiased CKA of the layer's responses with those at the first look, batch norms set by the stimuli",
)
_TURNED = Record(
    "turned_share",
    ("layer",),
    "share of filters",
    (0, 1),
    about=f"Share of the layer's filters that have turned by more than {_DEGREES:g} degrees since the first look",
)
_TURNED_TOTAL = Record("turned_share_total", (), "share of filters", (0, 1), about="The same of all layers' filters")
_RANK = Record(
    "update_rank",
    ("layer",),
    "share of the largest rank",
    (0, 1),
    about="Effective rank of what the layer's weight has changed by since the first look; NaN if it has not",
)
_DISTANCE = Record(
    "relative_distance",
    ("layer",),
    range=(0, None),
    about="Norm of what the layer's weight has changed by since the first look over its norm then",
)
_DISTANCE_TOTAL = Record(
    "relative_distance_total", (), range=(0, None), about="The same of all layers' weights together"
)


@final
class RegimeProbe(Probe):
    """Measures whether the network is lazy, as its own linearisation about the start would be, or builds features.

    Everything is compared with its first look. The number to read is `kernel_alignment_total`: 1 in a network that is
    lazy, and the less the more it has become another. `kernel_token_alignment_total` says whether that is for the task:
    weights that learn nothing can turn, too. The tangent kernel is that of the network's outputs, before any
    softmax, for `stimuli` of the bank, as many of each token as can be; where there are more than `outputs`, of so many
    sums of all of them with random signs. Each takes a pass back, so that a look costs two to three passes of the bank.
    Batch norms have the mean and variance of 50 stimuli: by their running averages, 0 and 1 at step 0, the kernel of
    weights that stand still would change. It looks twice a decade unless told otherwise.

    Records `kernel_alignment`, `kernel_token_alignment`, `start_cka`, `turned_share`, `update_rank` and
    `relative_distance` (layer); and of all its layers together `kernel_alignment_total`,
    `kernel_token_alignment_total`, `turned_share_total` and `relative_distance_total`.

    Args:
        schedule: as for any probe.
        layers: as for any probe.
        stimuli: of the tangent kernel, at least 4.
        outputs: of the tangent kernel, at least 1.
        on_error: as for any probe.

    Raises:
        ValueError: if a number is out of its range.
    """

    needs: ClassVar = (Network(), Images(), Weights(), Start())
    records: ClassVar = (
        *(_KERNEL, _KERNEL_TOTAL, _TOKEN, _TOKEN_TOTAL),
        *(_CKA, _TURNED, _TURNED_TOTAL, _RANK, _DISTANCE, _DISTANCE_TOTAL),
    )

    def __init__(
        self,
        schedule: Schedule | None = None,
        layers: Sequence[str] | None = None,
        stimuli: int = 10,
        outputs: int = 5,
        on_error: Literal["report", "raise"] = "report",
    ) -> None:
        super().__init__(schedule or LogSpaced(2), layers, on_error)
        if stimuli < 4 or outputs < 1:
            raise ValueError(f"RegimeProbe: stimuli is at least 4 and outputs at least 1; got {stimuli} and {outputs}.")
        self.stimuli, self.outputs = stimuli, outputs

    def measure(self, capture: Capture) -> Iterable[Measurement]:
        bank, network, start, layers = capture.bank, capture.network, capture.start, capture.layers
        assert bank is not None
        rows = spread_stimuli(bank.labels, _RESPONDING)
        seen = take(bank.inputs, rows)
        like = next(iter(capture.weights.values()))
        grams = _grams(network.normalise(seen, layers), layers, len(rows), like)[:, None, None]
        kernels, tokens = self._kernels(network, bank, layers)
        then, axis = start.of("kernels", kernels), Axis("layer", layers)
        kept, alike = _align(kernels, then), _align(grams, start.of("grams", grams))
        for record, found, why in ((_KERNEL, kept, _UNMOVED), (_CKA, alike, _UNVARIED)):
            if start.now:
                self._tell(record, layers, found, _FEW if len(rows) < 4 else why)
            yield record.of(found, axis)
        yield _TOKEN.of(_align(kernels, tokens.expand_as(kernels)), axis)
        yield _KERNEL_TOTAL.of(debiased_alignment(kernels.sum(dim=0), then.sum(dim=0)))
        yield _TOKEN_TOTAL.of(debiased_alignment(kernels.sum(dim=0), tokens))
        yield from _changes(capture.weights, start.weights or capture.weights)

    def _kernels(self, network: OpenNetwork, bank: StimulusBank, layers: Sequence[str]) -> tuple[Tensor, Tensor]:
        """The layers' tangent kernels (layer, output, output, stimulus, stimulus), and that of tokens alone."""
        rows = spread_stimuli(bank.labels, self.stimuli)

        def answer(number: int) -> Tensor:
            outputs = network(take(bank.inputs, rows[number : number + 1])).flatten()
            signs = mix_outputs(len(outputs), self.outputs)
            return outputs if signs is None else signs.to(outputs) @ outputs

        kernels = tangent_kernels(answer, list(network.parameters(layers).values()), len(rows)).float()
        return kernels, token_kernel(bank.labels[rows].to(kernels.device), kernels[0])

    def _tell(self, record: Record, layers: Sequence[str], found: Tensor, why: str) -> None:
        absent = [layer for layer, value in zip(layers, found, strict=True) if value.isnan()]
        if absent:
            self.note(record.name, f"of {', '.join(absent)}: {why}")


def _align(now: Tensor, then: Tensor) -> Tensor:
    """How alike the kernels of each layer are."""
    return torch.stack([debiased_alignment(*pair) for pair in zip(now, then, strict=True)])


def _grams(responses: Mapping[str, Tensor], layers: Sequence[str], count: int, like: Tensor) -> Tensor:
    """How each layer lays out the stimuli (layer, stimulus, stimulus); NaN for one that gives no row for each."""
    grams = like.new_full((len(layers), count, count), torch.nan, dtype=torch.float32)
    for number, layer in enumerate(layers):
        rows = responses.get(layer)
        if rows is not None and rows.is_floating_point() and len(rows) == count:
            grams[number] = activation_geometry(rows.float()).gram
    return grams


def _changes(weights: Mapping[str, Tensor], start: Mapping[str, Tensor]) -> Iterable[Measurement]:
    axis = Axis("layer", list(weights))
    cosines = [filter_cosines(weight, start[layer]) for layer, weight in weights.items()]
    yield _TURNED.of(torch.stack([turned_share(own, _DEGREES) for own in cosines]), axis)
    yield _TURNED_TOTAL.of(turned_share(torch.cat(cosines), _DEGREES))
    updates = {layer: weight - start[layer] for layer, weight in weights.items()}
    yield _RANK.of(torch.stack([effective_rank(update) for update in updates.values()]), axis)
    yield _DISTANCE.of(torch.stack([update_ratio(update, start[layer]) for layer, update in updates.items()]), axis)
    every = (torch.cat([own[layer].flatten() for layer in weights]) for own in (updates, start))
    yield _DISTANCE_TOTAL.of(update_ratio(*every))
