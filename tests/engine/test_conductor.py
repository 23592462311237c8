"""The conductor among probes that misbehave: what one does costs nobody else, and is named."""

from __future__ import annotations

import json
import random
import re
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from lightning.pytorch import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from matplotlib.figure import Figure

import lightning_emerge as le
from lightning_emerge.engine import artist
from lightning_emerge.figures.canvas import new_figure
from lightning_emerge.store.folder import Folder
from lightning_emerge.store.format import rows_of

STEPS = 6


OWN = le.Record("own", about="The step of the look")


class Own(le.Probe):
    """Somebody's own probe, with what it does."""

    needs = (le.Weights(),)
    records = (OWN,)

    def __init__(self, do: Callable[[le.Capture], object] = lambda _: None, draw: Any = None, **keywords: Any) -> None:
        super().__init__(le.EverySteps(1), **keywords)
        self._do, self._draw = do, draw
        self.looks = 0

    def measure(self, capture: le.Capture) -> Iterable[le.Measurement]:
        self.looks += 1
        self._do(capture)
        yield OWN.of(np.array(float(capture.step)))

    def draw(self, measurement: le.Measurement) -> Figure | None:
        return self._draw(measurement) if self._draw else None


class Seeing(Own):
    needs = (le.Activations(), le.Outputs(), le.Network(), le.Images())


class Trainee(Own):
    needs = (le.Training(),)


@pytest.fixture
def fit(make_data, make_model, make_trainer, tmp_path) -> Callable[..., dict[str, Any]]:
    """Trains with some probes; gives weights, warnings and records."""

    def run(*probes: le.Probe, **changes: Any) -> dict[str, Any]:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        model = make_model()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            make_trainer(list(probes), max_steps=STEPS, **changes).fit(model, datamodule=make_data())
        said = [str(one.message) for one in caught if re.search("failed at|could not", str(one.message))]
        weights = {name: value.clone() for name, value in model.state_dict().items()}
        found = tmp_path / "run/records.zarr"
        return {"weights": weights, "said": said, "records": le.open_run(found).load() if found.exists() else None}

    return run


_TRAINED: dict[tuple[str, ...], dict[str, Any]] = {}


@pytest.fixture
def fit_once(fit) -> Callable[..., dict[str, Any]]:
    """Trains with probes that do no harm, of which those of a name are alike, once for all tests."""

    def run(*probes: le.Probe) -> dict[str, Any]:
        names = tuple(type(probe).__name__ for probe in probes)
        if names not in _TRAINED:
            _TRAINED[names] = fit(*probes)
        return _TRAINED[names]

    return run


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(torch.equal(value, other["weights"][name]) for name, value in one["weights"].items())


def others() -> list[le.Probe]:
    return [le.CategoryProbe(le.EverySteps(1)), le.SimilarityProbe(le.EverySteps(2))]


# One commit a step


def test_each_step_is_committed_once_with_all_that_is_measured_at_it(fit, monkeypatch):
    commits: list[dict[str, Any]] = []
    put = Folder.put

    def watch(self: Folder, name: str, content: bytes, **make: bool) -> None:
        put(self, name, content, **make)
        if name == "zarr.json":
            commits.append(json.loads(content))

    monkeypatch.setattr(Folder, "put", watch)
    records = fit(*others(), le.GradientProbe(le.EverySteps(1)), accumulate_grad_batches=2)["records"]
    counts = [root["consolidated_metadata"]["metadata"]["step"]["shape"][0] for root in commits]
    assert counts == list(range(STEPS + 2))
    last = {name: rows_of(ranges) for name, ranges in commits[-1]["attributes"]["taken"].items()}
    for count, root in zip(counts, commits, strict=True):
        taken = {name: rows_of(ranges) for name, ranges in root["attributes"]["taken"].items()}
        assert {name: {row for row in rows if row < count} for name, rows in last.items()} == {
            name: taken.get(name, set()) for name in last
        }
    assert last["gradient_norm"] == set(range(STEPS))
    assert last["bank_accuracy"] == set(range(STEPS + 1))
    assert np.isfinite(records.bank_accuracy.values).all()


class Snapshot(Callback):
    """Copies the run's folder as it is right after a checkpoint, as if the run had been killed there."""

    def __init__(self, step: int, source: Path, target: Path) -> None:
        self.step, self.source, self.target = step, source, target

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step and not self.target.exists():
            trainer.save_checkpoint(self.source / "killed.ckpt")
            shutil.copytree(self.source, self.target)


class TwoOptimizers(le.TokenClassifier):
    """Steps twice a batch, by hand."""

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.parameters(), lr=0.01) for _ in range(2)]

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for optimizer in self.optimizers():  # pyright: ignore
            optimizer.zero_grad()
            self.manual_backward(torch.nn.functional.cross_entropy(self(batch["image"]), batch["label"]))
            optimizer.step()


@pytest.mark.parametrize("kind", [le.TokenClassifier, TwoOptimizers])
def test_a_checkpoint_does_not_tear_a_step_and_a_run_resumed_there_looks_again(
    make_data, make_model, make_trainer, tmp_path, kind
):
    """Also at a step that is looked at only since one that was due lay within the batch before it."""

    def train(folder: str, *callbacks: Callback, **resume: Any) -> xr.Dataset:
        logger = TensorBoardLogger(tmp_path, name="", version=folder)
        model = make_model(dropout=0, batch_norm=False)
        model.__class__, model.automatic_optimization = kind, kind is le.TokenClassifier
        probes = [
            le.CategoryProbe(le.At([0, 3, 4] if kind is le.TokenClassifier else [0, 3])),
            le.GradientProbe(le.EverySteps(1)),
        ]
        trainer = make_trainer([*probes, *callbacks], max_steps=STEPS, logger=logger)
        trainer.fit(model, datamodule=make_data(), **resume)
        return le.open_run(tmp_path / folder).load()

    whole = train("whole", Snapshot(4, tmp_path / "whole", tmp_path / "killed"))
    left = le.open_run(tmp_path / "killed").load()
    assert 4 not in left.step.values
    assert left.identical(whole.sel(step=left.step))
    again = train("killed", ckpt_path=tmp_path / "killed/killed.ckpt")
    assert again.step.values.tolist() == whole.step.values.tolist()
    assert np.isfinite(again.bank_accuracy.sel(step=4)).all()
    xr.testing.assert_identical(again.bank_accuracy, whole.bank_accuracy)


# Values are copied when they are taken


REUSED = {name: le.Record(name, ("k",)) for name in ("first", "second", "live", "weights")}


class Reusing(le.Probe):
    """Writes into the same arrays and lists at each look, and hands out the memory of live weights."""

    needs = (le.Weights(),)
    records = tuple(REUSED.values())

    def __init__(self) -> None:
        super().__init__(le.EverySteps(1))
        self.buffer, self.labels = np.zeros(2), ["a", "b"]
        self.live: Any = None

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        super().on_fit_start(trainer, pl_module)
        self.live = pl_module.network.conv1_1.conv.weight.detach().flatten()[:2].numpy()

    def measure(self, capture: le.Capture) -> Iterator[le.Measurement]:
        self.buffer[:] = capture.step
        yield REUSED["first"].of(self.buffer, le.Axis("k", self.labels))
        self.buffer[:] = -capture.step
        yield REUSED["second"].of(self.buffer, le.Axis("k", self.labels))
        self.labels.reverse()
        yield REUSED["live"].of(self.live, le.Axis("k", ["a", "b"]))
        own = next(iter(capture.weights.values())).flatten()[:2].numpy().copy()
        yield REUSED["weights"].of(own, le.Axis("k", ["a", "b"]))
        self.labels.reverse()

    def draw(self, measurement: le.Measurement) -> Figure | None:
        time.sleep(0.02)
        return None


def test_a_buffer_that_is_used_again_and_live_weights_are_recorded_as_they_were(fit):
    records = fit(Reusing())["records"]
    steps = np.arange(STEPS + 1)
    np.testing.assert_array_equal(records["first"].values, np.stack([steps, steps], axis=1))
    np.testing.assert_array_equal(records["second"].values, -np.stack([steps, steps], axis=1))
    np.testing.assert_array_equal(records["live"].values, records["weights"].values)
    assert len(np.unique(records["live"].values[:, 0])) == STEPS + 1


# Changes


def _seed(_: object) -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)


def _write_weights(capture: le.Capture) -> None:
    with torch.no_grad():
        for weight in capture.network.parameters(capture.layers).values():  # pyright: ignore[reportOptionalMemberAccess]
            weight.add_(1)


SPOILS: dict[str, Callable[[le.Capture], object]] = {
    "the bank's images": lambda capture: capture.bank.images.zero_(),  # pyright: ignore[reportOptionalMemberAccess]
    "the bank's labels": lambda capture: capture.bank.labels.zero_(),  # pyright: ignore[reportOptionalMemberAccess]
    "what was captured": lambda capture: [one.zero_() for one in capture.activations.values()],
    "captured of the bank": lambda capture: capture.outputs.zero_(),  # pyright: ignore[reportOptionalMemberAccess]
    "weight": _write_weights,
}


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("name", SPOILS)
def test_a_probe_that_changes_what_it_is_lent_is_named_and_off_and_no_other_sees_it(fit, fit_once, name, first):
    clean = fit_once(*others())
    spoiler = Seeing(SPOILS[name])
    found = fit(*([spoiler, *others()] if first else [*others(), spoiler]))
    (said,) = found["said"]
    assert "Seeing failed at step 0 and is switched off; training goes on. ChangedError: a probe changes" in said
    assert name in said
    assert spoiler.looks == 1
    assert same(found, clean)
    assert found["records"].identical(clean["records"])


def test_a_probe_that_changes_gradients_of_a_training_batch_is_seen_too(fit, fit_once):
    clean = fit_once(le.GradientProbe(le.EverySteps(1)))
    spoiler = Trainee(lambda capture: [one.zero_() for one in capture.gradients.values()])
    found = fit(spoiler, le.GradientProbe(le.EverySteps(1)))
    (said,) = found["said"]
    assert "Trainee failed at step 0" in said
    assert same(found, clean)
    assert found["records"].identical(clean["records"])


def test_numbers_that_are_drawn_in_a_measure_are_not_missed_by_training(fit, fit_once):
    assert same(fit(Own(_seed)), fit_once())


def test_a_drawing_that_seeds_is_named_and_not_drawn_again(fit, fit_once):
    for seed in (_seed, lambda _: torch.rand(1), lambda _: random.random()):
        found = fit(Own(draw=seed), *others())
        (said,) = found["said"]
        assert "Own could not draw own, so nothing more of it is drawn" in said
        assert "random streams" in said
        assert same(found, fit_once())
        assert found["records"].own.values.tolist() == list(range(STEPS + 1))


class Turning(Own):
    """Keeps the network, and turns it while it draws."""

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        super().on_fit_start(trainer, pl_module)
        self._draw = lambda _: pl_module.eval() and None


def test_a_drawing_that_turns_the_network_is_named(fit, fit_once):
    found = fit(Turning())
    (said,) = found["said"]
    assert "the mode of" in said
    assert same(found, fit_once())


class Counting(le.TokenClassifier):
    """Counts its passes in a buffer, in evaluation mode too."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if not hasattr(self, "passes"):
            self.register_buffer("passes", torch.zeros(()))
        self.passes += 1
        return super().forward(images)


def test_a_network_that_writes_to_its_own_buffers_is_looked_at_and_left_as_it_was(
    make_data, make_model, make_trainer, tmp_path
):
    probes = [Seeing(lambda capture: capture.network(capture.bank.images)), *others()]  # pyright: ignore
    counts = []
    for chosen in ([], probes):
        model = make_model()
        model.__class__ = Counting
        model.register_buffer("passes", torch.zeros(()))
        make_trainer(chosen, max_steps=STEPS, logger=False, default_root_dir=tmp_path).fit(
            model, datamodule=make_data()
        )
        counts.append(float(model.passes))
    assert [probe.failed_at for probe in probes] == [None] * 3
    assert counts[0] == counts[1] == STEPS


def test_a_probe_that_writes_to_its_earlier_looks_costs_no_other(fit, fit_once):
    class Rememberer(Own):
        needs = (le.Past(),)

    def spoil(capture: le.Capture) -> None:
        for weights in (capture.first or capture).weights.values():
            weights.zero_()

    clean = fit_once(le.GradientProbe(le.EverySteps(1)), le.FilterProbe(le.EverySteps(1)))
    found = fit(Rememberer(spoil), le.GradientProbe(le.EverySteps(1)), le.FilterProbe(le.EverySteps(1)))
    assert "Rememberer failed at step 0" in found["said"][0]
    assert found["records"].identical(clean["records"])


class Saving(Callback):
    """Saves before any probe has had its turn, or when the run fails."""

    def __init__(self, path: Path, step: int, *, failing: bool = False) -> None:
        self.path, self.step, self.failing = path, step, failing

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.step:
            if self.failing:
                raise KeyError("planted")
            trainer.save_checkpoint(self.path, weights_only=False)

    def on_exception(self, trainer: Any, *_: Any) -> None:
        if self.failing:
            trainer.save_checkpoint(self.path, weights_only=False)


@pytest.mark.parametrize("failing", [False, True])
def test_a_checkpoint_of_any_moment_has_what_probes_remember(make_data, make_model, make_trainer, tmp_path, failing):
    def train(folder: str, *callbacks: Callback, **resume: Any) -> xr.Dataset:
        logger = TensorBoardLogger(tmp_path, name="", version=folder)
        probes = [le.GradientProbe(le.EverySteps(1)), le.FilterProbe(le.EverySteps(1))]
        trainer = make_trainer([*callbacks, *probes], max_steps=STEPS, logger=logger)
        model = make_model(dropout=0, batch_norm=False)
        trainer.fit(model, datamodule=make_data(), **resume)
        return le.open_run(tmp_path / folder).load()

    path = tmp_path / "saved.ckpt"
    whole = train("whole")
    if failing:
        with pytest.raises(KeyError, match="planted"):
            train("saved", Saving(path, 3, failing=True))
    else:
        assert train("saved", Saving(path, 3)).identical(whole)
    again = train("saved" if failing else "other", ckpt_path=path)
    assert again.step.values.tolist() == (whole.step.values.tolist() if failing else [3, 4, 5, 6])
    for name in ("start_distance", "filter_start_cosine"):
        if name in whole:
            xr.testing.assert_allclose(again[name].sel(step=5), whole[name].sel(step=5), rtol=0.5)
            assert np.isfinite(again[name].sel(step=slice(3, 5)).values).any()


def test_a_drawing_of_another_that_hangs_does_not_cost_a_probe_its_own(fit, monkeypatch):
    monkeypatch.setattr(artist, "PATIENCE", 0.3)
    over = threading.Event()

    def hang(measurement: le.Measurement) -> None:
        over.wait(60)

    class Second(Own):
        records = (le.Record("second"),)

        def measure(self, capture: le.Capture) -> Iterable[le.Measurement]:
            if capture.step == 4:
                over.set()
                time.sleep(0.5)
            yield self.records[0].of(np.zeros(()))

    drawn: list[int] = []
    second = Second(draw=lambda measurement: drawn.append(measurement.step))
    found = fit(Own(draw=hang), second)
    assert {one.split(" could")[0] for one in found["said"]} == {"Own"}
    assert set(drawn) == {4, 5, 6}


# Endings


def test_a_probe_that_ends_the_process_is_off_and_the_run_goes_on(fit):
    probe = Own(lambda _: sys.exit(0))
    found = fit(probe, *others())
    (said,) = found["said"]
    assert "Own failed at step 0 and is switched off; training goes on. SystemExit" in said
    assert probe.looks == 1
    drawn = fit(Own(draw=lambda _: sys.exit(0)), *others())
    (said,) = drawn["said"]
    assert "Own could not draw own" in said
    assert "SystemExit" in said
    assert len(drawn["records"].step) == STEPS + 1


@pytest.mark.parametrize("from_look", [0, 3])
def test_a_drawing_that_never_returns_is_named_and_the_run_goes_on(fit, fit_once, monkeypatch, from_look):
    monkeypatch.setattr(artist, "PATIENCE", 0.3)
    for_ever = threading.Event()

    def hang(measurement: le.Measurement) -> Figure:
        if measurement.step >= from_look:
            for_ever.wait(120)
        return new_figure(1, 1)

    try:
        found = fit(Own(draw=hang), *others())
    finally:
        for_ever.set()
    said = [one for one in found["said"] if "Own could not draw own" in one]
    assert len(set(said)) == 1
    assert "more than 0.3 s and was left alone" in said[0]
    assert len(found["records"].step) == STEPS + 1
    assert np.isfinite(found["records"].bank_accuracy.values).all()
    assert same(found, fit_once())


def test_a_schedule_that_ends_the_process_is_off(fit):
    probe = Own()
    probe.schedule = lambda step: sys.exit(1)  # pyright: ignore[reportAttributeAccessIssue]
    found = fit(probe, *others())
    assert "Own failed at step 0" in found["said"][0]
    assert len(found["records"].step) == STEPS + 1


# The disk


def test_records_that_are_removed_under_a_run_are_said_and_not_made_again(fit, fit_once, tmp_path):
    def remove(capture: le.Capture) -> None:
        if capture.step == 3:
            time.sleep(0.3)
            shutil.rmtree(tmp_path / "run/records.zarr")

    found = fit(Own(remove), *others())
    (said,) = {one for one in found["said"] if "ArraySink" in one}
    assert "could not write step" in said
    assert "were removed or replaced" in said
    assert found["records"] is None
    assert same(found, fit_once())


@pytest.mark.parametrize(
    "measurement",
    [
        le.Measurement("a/b", np.zeros(1), (le.Axis("k", [0]),), 0),
        le.Measurement("x" * 300, np.zeros(1), (le.Axis("k", [0]),), 0),
        le.Measurement("zarr.json", np.zeros(()), (), 0),
        le.Measurement("odd", np.zeros(1), (le.Axis("a/b", [0]),), 0),
        le.Measurement("odd", np.zeros(1), (le.Axis("k", [None]),), 0),  # pyright: ignore[reportArgumentType]
        le.Measurement("odd", np.zeros(1), (le.Axis("k", [(0, 1)]),), 0),  # pyright: ignore[reportArgumentType]
        le.Measurement("odd", np.zeros(1, np.longdouble), (le.Axis("k", [0]),), 0),
        le.Measurement("odd", np.zeros(1), (le.Axis("k", ["\udcff"]),), 0),
    ],
    ids=lambda found: f"{found.name[:9]} {found.values.dtype} {[str(axis.labels)[:12] for axis in found.axes]}",
)
@pytest.mark.parametrize("first", [True, False])
def test_a_name_or_label_that_cannot_be_stored_costs_its_probe_alone(fit, fit_once, measurement, first):
    class Odd(Own):
        records = (le.Record("odd", ("k",)),)

        def measure(self, capture: le.Capture) -> Iterable[le.Measurement]:
            self.looks += 1
            return [measurement]

    odd = Odd()
    clean = fit_once(*others())
    found = fit(*([odd, *others()] if first else [*others(), odd]))
    (said,) = found["said"]
    assert "Odd failed at step 0 and is switched off" in said
    assert odd.looks == 1
    assert found["records"].identical(clean["records"])


# Looks leave no trace in the network, nor in what is watched of training


class Passing(TwoOptimizers):
    """Sees everything else than training batches as if it were much brighter."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images if self.trains else 100 * images)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        self.trains = True
        super().training_step(batch, batch_idx)
        self.trains = False


class Fired(Own):
    needs = (le.Training(),)

    def measure(self, capture: le.Capture) -> Iterable[le.Measurement]:
        self.seen = [*getattr(self, "seen", []), dict(capture.fired)]
        return ()


@pytest.mark.parametrize(
    "other",
    [le.TokenGradientProbe, lambda schedule: Seeing(lambda capture: capture.network(capture.bank.images))],  # pyright: ignore
    ids=["gradients", "network"],
)
def test_what_fires_for_the_bank_alone_has_not_fired_in_training(make_data, make_model, make_trainer, tmp_path, other):
    """With two optimizers the watch goes on while probes look, and some of them differentiate."""
    model = make_model(dropout=0, batch_norm=False)
    model.__class__, model.automatic_optimization, model.trains = Passing, False, False
    by_hand: dict[str, list[torch.Tensor]] = {"conv1_1": [], "conv2_1": []}
    for layer, kept in by_hand.items():
        block = model.network.get_submodule(layer)
        with torch.no_grad():
            block.conv.bias -= 4  # nothing fires in a batch

        def keep(_part: Any, _given: Any, output: torch.Tensor, kept: list[torch.Tensor] = kept) -> None:
            if model.trains:
                kept.append((output > 0).any(dim=(0, 2, 3)))

        block.register_forward_hook(keep)
    watch = Fired()
    make_trainer([watch, other(le.EverySteps(1))], max_steps=STEPS, logger=False, default_root_dir=tmp_path).fit(
        model, datamodule=make_data()
    )
    assert not torch.stack(by_hand["conv1_1"]).all()
    assert len(watch.seen) == STEPS == len(by_hand["conv1_1"])
    for layer, kept in by_hand.items():
        assert [fired[layer].tolist() for fired in watch.seen] == [fired.tolist() for fired in kept], layer


class Rebinding(le.TokenClassifier):
    """Counts its passes in a buffer that is another tensor each time, and in one that is made when it is needed."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.passes = self.passes + 1
        if not hasattr(self, "late"):
            self.register_buffer("late", torch.zeros(()))
        self.late = self.late + 1
        centred = torch.nn.functional.batch_norm(images, self.mean, self.spread, training=True)
        return super().forward(centred)


def test_a_network_that_gives_itself_other_buffers_is_left_as_it_was(make_data, make_model, make_trainer, tmp_path):
    probes = [Seeing(lambda capture: capture.network(capture.bank.images)), le.GradientNoiseProbe(), others()[1]]  # pyright: ignore
    states = []
    for chosen in ([], probes):
        model = make_model()
        model.__class__ = Rebinding
        model.register_buffer("passes", torch.zeros(()))
        model.register_buffer("mean", torch.zeros(3))
        model.register_buffer("spread", torch.ones(3))
        make_trainer(chosen, max_steps=STEPS, logger=False, default_root_dir=tmp_path).fit(
            model, datamodule=make_data()
        )
        states.append(model.state_dict())
    assert [probe.failed_at for probe in probes] == [None] * 3
    assert list(states[0]) == list(states[1])
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert states[0]["passes"] == states[0]["late"] == STEPS


class Codes(torch.nn.Module):
    """Holds whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.codes = torch.nn.Parameter(torch.arange(12).view(3, 4), requires_grad=False)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows


@pytest.mark.filterwarnings("ignore:GradientProbe has no dead_share")
@pytest.mark.parametrize("kind", [le.TokenClassifier, TwoOptimizers])
def test_weights_that_are_whole_numbers_do_not_stop_training(make_data, make_model, make_trainer, tmp_path, kind):
    model = make_model(dropout=0, batch_norm=False)
    model.__class__, model.automatic_optimization = kind, kind is le.TokenClassifier
    model.network.coded = Codes()
    probe = le.GradientProbe(le.EverySteps(1))
    trainer = make_trainer([probe], max_steps=2, logger=TensorBoardLogger(tmp_path, name="", version="run"))
    trainer.fit(model, datamodule=make_data())
    assert probe.failed_at is None
    found = le.open_run(tmp_path / "run").load()
    assert np.isnan(found.gradient_norm.sel(layer="coded")).all()
    assert np.isfinite(found.gradient_norm.sel(layer="conv1_1")).all()


@pytest.mark.filterwarnings("ignore:.*leaves out coded", "ignore:.*failed at step 0")
def test_weights_that_are_whole_numbers_are_left_out_of_gradients(make_data, make_model, make_trainer, tmp_path):
    model = make_model(dropout=0, batch_norm=False)
    model.network.coded = Codes()
    kinds = (le.TokenGradientProbe, le.GradientNoiseProbe, le.CurvatureProbe)
    default = [kind(schedule=le.At([0])) for kind in kinds]
    named = [kind(schedule=le.At([0]), layers=["conv1_1", "coded"]) for kind in (kinds[0], kinds[2])]
    trainer = make_trainer([*default, *named], max_steps=1, logger=TensorBoardLogger(tmp_path, name="", version="run"))
    trainer.fit(model, datamodule=make_data())
    assert [probe.failed_at for probe in (*default, *named)] == [None] * 3 + [0] * 2
    found = le.open_run(tmp_path / "run").load()
    for name in ("token_gradient_norm", "gsnr", "hessian_layer_trace"):
        values = found[name].sel(step=0).dropna("layer", how="all")
        assert "conv1_1" in values.layer
        assert "coded" not in values.layer
