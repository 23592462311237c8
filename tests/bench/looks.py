"""What a look costs: measured, recorded and drawn, over one forward pass of the bank of 250."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from tempfile import TemporaryDirectory
from unittest.mock import patch

from lightning.pytorch.loggers import TensorBoardLogger
from parts import DEFAULT, FULL, forward, make_data, make_model, read_probes
from rates import passing, writing
from table import Floor, Row, compared
from torch import nn
from torch.nn.functional import cross_entropy
from zarr.codecs import ZstdCodec

import lightning_emerge as le
from lightning_emerge.engine import reporting
from lightning_emerge.engine.conductor import Conductor
from lightning_emerge.engine.reporting import Sinks
from lightning_emerge.sinks.tensorboard import tensorboard_sinks
from lightning_emerge.store import checks, committed, encode, write
from lightning_emerge.store.regular import parse_json
from lightning_emerge.store.write import ArraySink

_WHY = {
    "CategoryProbe": "Every layer's activations are read for geometry, read-outs and selectivity.",
    "GradientProbe": "It needs no pass: weights are copied and compared.",
    "FilterProbe": "It needs no pass: weights are compared, and the first layer's are drawn.",
    "TopExemplarProbe": "Every activation is read for its largest place and for its mean; crops are cut out and drawn.",
    "SimilarityProbe": "A product of all pairs of stimuli a layer, comparisons with model RDMs, and their pictures.",
    "EmbeddingProbe": "A product of all pairs of stimuli a layer, principal components, and the picture of the plane.",
    "TokenGradientProbe": "The bank passes there and back, token by token.",
    "GradientNoiseProbe": "The bank passes there and back, and each stimulus' own gradient is squared.",
    "CouplingProbe": "Each pair of layers is measured again with its weights in many random orders.",
    "PartProbe": "Every filter is ranked for every part, pair and conjunction, and read-outs are fitted.",
    "AblationProbe": "Three layers, each part or rival of them: a pass of the bank each.",
    "RegimeProbe": "50 stimuli pass once, and each output of 10 goes back by itself; weights are compared.",
    "CurvatureProbe": "It passes the bank there and back twice an iteration and a vector.",
    "MaximisationProbe": "It passes images there and back 64 times a layer.",
}


class Watch:
    """A run that looks and does not train: at each call every probe looks, and all is recorded and drawn.

    Args:
        probes: what looks, at every step.
        module: the network; the default one if none is given.
        bank: what they look at; the default one if none is given.
    """

    def __init__(
        self, probes: Sequence[le.Probe], module: nn.Module | None = None, bank: le.StimulusBank | None = None
    ) -> None:
        module, bank = module or make_model(), bank or make_data().stimulus_bank()
        cross_entropy(module(bank.images[::8]), bank.labels[::8]).backward()
        self._stack, self._step = ExitStack(), 0
        folder = self._stack.enter_context(TemporaryDirectory())
        boards = tensorboard_sinks([TensorBoardLogger(folder)])
        sinks = Sinks([ArraySink(f"{folder}/records.zarr", None)], boards)
        self._conductor = Conductor(module, probes, bank, sinks, step=0)
        self._stack.callback(self._conductor.close)

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stack.close()

    def __call__(self) -> None:
        self._conductor.before_update(self._step)
        self._conductor.after_update()
        self._step += 1
        self._conductor.look(self._step)
        self._conductor.settle(self._step)  # what was found at the step before is written with what its batch added


def bench_look(rounds: int) -> Iterator[Row]:
    """All default probes in one look, sharing one pass."""
    yield _look(
        "a look of all default probes", read_probes(DEFAULT, schedule=le.EverySteps(1)), rounds, bar=4, why=_SHARED
    )


def bench_guards(rounds: int) -> Iterator[Row]:
    """What it takes to tell damage, loss and trespass: checksums, copies, and what is compared around each measure."""
    probes = [read_probes(DEFAULT, schedule=le.EverySteps(1)) for _ in range(2)]
    with _unguarded():
        bare = Watch(probes[1])

    def look_unguarded() -> None:
        with _unguarded():
            bare()

    row = Row(
        "looks",
        "a look of all default probes, guarded",
        "the same, unguarded",
        bar=1.05,
        why="Looks take about a tenth of a default fit, so 1.05 of a look is half a hundredth of the fit.",
    )
    with Watch(probes[0]) as guarded, bare:
        yield compared(row, guarded, look_unguarded, rounds)


@contextmanager
def _unguarded() -> Iterator[None]:
    """Without what guards records, weights and stimuli."""
    with ExitStack() as stack:
        for place, name, other in (
            (reporting, "unchanged", lambda *_, **__: nullcontext()),
            (checks, "check_measurement", lambda _: None),
            (encode, "ZSTD", ZstdCodec(level=1)),
            (write, "seal", encode.encode),
            (committed, "parse_group", parse_json),
            (ArraySink, "_check_there", lambda _: None),
        ):
            stack.enter_context(patch.object(place, name, other))
        yield


def bench_looks(rounds: int) -> Iterator[Row]:
    """A look of each probe alone."""
    for probe in read_probes(DEFAULT, FULL, schedule=le.EverySteps(1)):
        name = type(probe).__name__
        yield _look(f"a look of {name} alone", [probe], rounds, why=_WHY.get(name, ""))


_SHARED = "One pass serves all of them; the rest is what each of them measures, the records, and the pictures."


def _look(figure: str, probes: Sequence[le.Probe], rounds: int, *, why: str, bar: float | None = None) -> Row:
    network, images = make_model().network, make_data().stimulus_bank().images
    with Watch(probes) as watch:
        row = Row("looks", figure, "one forward pass of the bank", bar=bar, floor=_floor(probes), why=why)
        return compared(row, watch, lambda: forward(network, images), rounds)


def _floor(probes: Sequence[le.Probe]) -> Floor:
    """A pass of the bank, there and back if gradients are asked for; the weights read, where none is needed."""
    network, images = make_model().network, make_data().stimulus_bank().images
    if not any(need.passes or need.runs for probe in probes for need in probe.needs):
        return writing(4 * sum(parameter.numel() for parameter in network.parameters()))
    back = any(need.differentiates for probe in probes for need in probe.needs)
    return passing(network, images, 3 if back else 1)
