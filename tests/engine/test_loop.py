"""A loop of one's own with probes: what it counts, refuses, keeps and leaves."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from lightning.fabric.loggers import CSVLogger as FabricCSVLogger
from lightning.pytorch.loggers import CSVLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_
from torch.utils.tensorboard.writer import SummaryWriter

import lightning_emerge as le
from lightning_emerge.board.runs import Runs

TOKENS = 2


def make_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, TOKENS))


def make_batches(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [(torch.randn(6, 4, generator=generator), torch.arange(6) % TOKENS) for _ in range(count)]


STIMULI = torch.linspace(-1, 1, 160).reshape(40, 4), [0, 1] * 20
SIZE = le.Record("size", ("layer",))


class Sizes(le.Probe):
    """The sum of squares of each weight."""

    needs = (le.Weights(),)
    records = (SIZE,)

    def measure(self, capture: le.Capture) -> Any:
        sizes = [float((weight**2).sum()) for weight in capture.weights.values()]
        yield SIZE.of(np.array(sizes), le.Axis("layer", capture.layers))


class Changes(Sizes):
    """By how much weights have changed since the first look."""

    needs = (le.Past(),)

    def measure(self, capture: le.Capture) -> Any:
        first = capture.first.weights if capture.first else capture.weights
        changes = [float(((weight - first[layer]) ** 2).sum()) for layer, weight in capture.weights.items()]
        yield SIZE.of(np.array(changes), le.Axis("layer", capture.layers))


def every(kind: Callable[..., le.Probe], steps: int = 1) -> le.Probe:
    return kind(le.EverySteps(steps), on_error="raise")


class Training:
    """A network with its optimizer, trained by hand."""

    def __init__(self) -> None:
        self.network = make_network()
        self.optimizer = torch.optim.SGD(self.network.parameters(), 0.1, momentum=0.9)

    def backward(self, batch: tuple[torch.Tensor, torch.Tensor]) -> None:
        self.optimizer.zero_grad()
        cross_entropy(self.network(batch[0]), batch[1]).backward()

    def watch(self, folder: Path, *probes: le.Probe, **changes: Any) -> Any:
        given = {"optimizers": self.optimizer, **changes}
        return le.watch(self.network, list(probes), STIMULI, folder, **given)

    def train(self, watch: Any, batches: Sequence[Any]) -> None:
        for batch in batches:
            self.backward(batch)
            self.optimizer.step()
            watch.step()

    def size(self) -> list[float]:
        return [float((self.network[k].weight.detach() ** 2).sum()) for k in (0, 2)]


def read(folder: Path) -> xr.Dataset:
    return le.open_run(folder).load()


def test_looks_are_at_the_weights_of_their_steps(tmp_path):
    made, sizes = Training(), []
    with made.watch(tmp_path, every(Sizes, 2)) as watch:
        for batch in make_batches(5):
            sizes.append(made.size())
            made.train(watch, [batch])
    sizes.append(made.size())
    found = read(tmp_path)
    assert found.step.values.tolist() == [0, 2, 4, 5], "the last step is looked at"
    np.testing.assert_allclose(found["size"].values, np.array(sizes)[[0, 2, 4, 5]], rtol=1e-6)


def test_without_optimizers_each_call_is_a_step_and_a_loop_may_count_itself(tmp_path):
    made = Training()
    with made.watch(tmp_path / "calls", every(Sizes), optimizers=()) as watch:
        made.train(watch, make_batches(3))
    assert read(tmp_path / "calls").step.values.tolist() == [0, 1, 2, 3]
    with made.watch(tmp_path / "counted", every(Sizes), optimizers=()) as watch:
        watch.step(10)
        watch.step(30)
        with pytest.raises(ValueError, match="upwards; got 20 after 30"):
            watch.step(20)
    assert read(tmp_path / "counted").step.values.tolist() == [0, 10, 30]


def test_a_schedule_may_follow_the_loss_that_each_step_is_told(tmp_path):
    planned = [9.0 - 0.25 * number for number in range(24)]

    def train(watch: Any, made: Training, losses: list[float]) -> None:
        for number, (value, batch) in enumerate(zip(losses, make_batches(len(losses)), strict=True)):
            made.backward(batch)
            watch.step(loss=torch.tensor(value + 4, requires_grad=True))  # the first of two batches of a step
            made.optimizer.step()
            watch.step(loss=value - 4 if number % 2 else torch.tensor(value - 4))

    def make(name: str) -> tuple[Training, Any]:
        made = Training()
        follows = le.LossMoved(0.08, window=1)
        return made, made.watch(tmp_path / name, Sizes(follows, on_error="raise"), Sizes(le.At([2]) | follows))

    made, watch = make("whole")
    with watch:
        train(watch, made, planned)
    looks = le.LossMoved(0.08, window=1)
    expected = [0]
    for step, value in enumerate(planned, 1):
        expected += [step] if looks(step) else []
        looks.hear(step, value)
    assert len(expected) > 5
    assert read(tmp_path / "whole").step.values.tolist() == sorted({*expected, 2, 24})

    made, watch = make("part")
    with suppress(KeyboardInterrupt), watch:
        train(watch, made, planned[:14])
        kept = watch.state_dict()
        raise KeyboardInterrupt
    made, watch = make("part")
    watch.load_state_dict(kept)
    with watch:
        train(watch, made, planned[14:])
    assert read(tmp_path / "part").step.values.tolist() == sorted({*expected, 2, 24})


def test_a_loop_that_does_not_tell_its_loss_is_told_to(tmp_path):
    made = Training()
    watch = made.watch(tmp_path, Sizes(le.At([1]) | le.LossMoved()))
    with pytest.raises(ValueError, match=r"LossMoved follows the training loss; .*watch.step\(loss=loss\)"), watch:
        made.train(watch, make_batches(1))


def test_accumulated_batches_are_one_step_whose_gradient_is_their_sum(tmp_path):
    made, norms = Training(), []
    with made.watch(tmp_path, every(le.GradientProbe)) as watch:
        for number, (inputs, labels) in enumerate(make_batches(4)):
            (cross_entropy(made.network(inputs), labels) / 2).backward()
            if number % 2:
                norms.append([float(made.network[k].weight.grad.norm()) for k in (0, 2)])
                made.optimizer.step()
                made.optimizer.zero_grad()
            watch.step()
    found = read(tmp_path)
    assert found.step.values.tolist() == [0, 1]
    np.testing.assert_allclose(found.gradient_norm.values, norms, rtol=1e-5)


@pytest.mark.parametrize("before", [True, False])
def test_gradients_are_seen_clipped_or_before(before, tmp_path):
    made = Training()
    with made.watch(tmp_path, every(le.GradientProbe)) as watch:
        made.backward(make_batches(1)[0])
        if before:
            watch.before_step()
        whole = float(clip_grad_norm_(made.network.parameters(), 0.01))
        made.optimizer.step()
        watch.step()
    seen = float((read(tmp_path).gradient_norm.sel(step=0) ** 2).sum() ** 0.5)
    assert seen == pytest.approx(whole if before else 0.01, rel=0.2)  # of weights alone, without biases


@pytest.mark.parametrize("before", [True, False])
def test_a_step_that_a_scaler_leaves_out_is_none(before, tmp_path):
    made, scaler = Training(), torch.amp.GradScaler("cpu", init_scale=8.0)
    with made.watch(tmp_path, every(le.GradientProbe), every(Sizes)) as watch:
        norms = []
        for number, (inputs, labels) in enumerate(make_batches(4)):
            made.optimizer.zero_grad()
            scaler.scale(cross_entropy(made.network(inputs), labels)).backward()
            if number == 1:
                made.network[0].weight.grad.fill_(torch.inf)
            if before:
                scaler.unscale_(made.optimizer)
                watch.before_step()
            scaler.step(made.optimizer)
            scaler.update()
            watch.step()
            norms.append([float(made.network[k].weight.grad.norm()) for k in (0, 2)])
    found = read(tmp_path)
    assert found.step.values.tolist() == [0, 1, 2, 3]
    seen = found.gradient_norm.sel(step=[0, 1, 2])
    np.testing.assert_allclose(seen, [norms[0], norms[2], norms[3]], rtol=1e-5)  # unscaled


def test_gradients_that_a_closure_computes_later_are_said_once_and_not_recorded(tmp_path):
    made, batch = Training(), make_batches(1)[0]

    def closure() -> torch.Tensor:
        made.optimizer.zero_grad()
        loss = cross_entropy(made.network(batch[0]), batch[1])
        loss.backward()
        return loss

    with made.watch(tmp_path, every(le.GradientProbe), every(Sizes)) as watch:
        with pytest.warns(UserWarning, match="SGD gets a closure"):
            made.optimizer.step(closure)
        watch.step()
        made.optimizer.step(closure)
        watch.step()
    found = read(tmp_path)
    assert "gradient_norm" not in found
    assert found.step.values.tolist() == [0, 1, 2]


def test_an_optimizer_that_unscales_by_itself_shows_gradients_once_they_are_unscaled(tmp_path):
    made, scaler = Training(), torch.amp.GradScaler("cpu", init_scale=8.0)
    made.optimizer = torch.optim.SGD(made.network.parameters(), 0.1, fused=True)
    with made.watch(tmp_path, every(le.GradientProbe), every(Sizes)) as watch:
        for number, (inputs, labels) in enumerate(make_batches(4)):
            made.optimizer.zero_grad()
            scaler.scale(cross_entropy(made.network(inputs), labels)).backward()
            if number == 1:  # it is left to the optimizer not to step
                made.network[0].weight.grad.fill_(torch.inf)
            if number == 3:
                scaler.unscale_(made.optimizer)
                norms = [float(made.network[k].weight.grad.norm()) for k in (0, 2)]
            words = pytest.warns(UserWarning, match="SGD unscales them by itself") if not number else nullcontext()
            with words:
                scaler.step(made.optimizer)
            scaler.update()
            watch.step()
    found = read(tmp_path)
    assert found.step.values.tolist() == [0, 1, 2, 3]
    assert found.gradient_norm.sel(step=[0, 1]).isnull().all()
    np.testing.assert_allclose(found.gradient_norm.sel(step=2), norms, rtol=1e-5)


class Frozen(nn.Module):
    """Keeps what it wraps where torch.compile and DDP keep it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._orig_mod = network

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the wrapper was called by a look")


def test_of_a_wrapped_network_what_is_in_it_is_watched(tmp_path):
    made = Training()
    with le.watch(Frozen(made.network), [every(Sizes)], None, tmp_path, made.optimizer) as watch:
        made.train(watch, make_batches(1))
    assert read(tmp_path).layer.values.tolist() == ["0", "2"]


class Counting(nn.Module):
    """Counts the stimuli that pass."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.passed = nn.Linear(4, TOKENS), [0]

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.passed[0] += len(inputs)
        return self.head(inputs)


def test_all_probes_share_one_pass_a_look(tmp_path):
    network = Counting()
    probes = [every(kind) for kind in (le.SimilarityProbe, le.TokenGradientProbe, Sizes)]
    with le.watch(network, probes, STIMULI, tmp_path) as watch:
        network.passed[0] = 0
        watch.step()
        assert network.passed == [len(STIMULI[0])]


def test_a_step_that_is_never_called_is_said(tmp_path):
    made = Training()
    watch = made.watch(tmp_path, every(Sizes))
    watch.begin()
    made.backward(make_batches(1)[0])
    made.optimizer.step()
    with pytest.warns(UserWarning, match="it never was"):
        watch.end()
    watch.close()
    assert read(tmp_path).step.values.tolist() == [0, 1], "the last step is looked at all the same"


def test_two_networks_are_watched_side_by_side(tmp_path):
    one, other = Training(), Training()
    with one.watch(tmp_path / "one", every(Sizes)) as first, other.watch(tmp_path / "other", every(Sizes)) as second:
        for batch in make_batches(2):
            one.train(first, [batch])
            other.train(second, [batch, batch])
    assert read(tmp_path / "one").step.values.tolist() == [0, 1, 2]
    assert read(tmp_path / "other").step.values.tolist() == [0, 1, 2, 3, 4]


def test_of_two_optimizers_each_step_counts_and_what_another_trains_is_nan(tmp_path):
    network = make_network()
    optimizers = [torch.optim.SGD(network[k].parameters(), 0.1) for k in (0, 2)]
    with le.watch(network, [every(le.GradientProbe)], STIMULI, tmp_path, optimizers) as watch:
        for inputs, labels in make_batches(2):
            for optimizer in optimizers:
                network.zero_grad()
                cross_entropy(network(inputs), labels).backward()
                optimizer.step()
            watch.step()
    norms = read(tmp_path).gradient_norm
    assert np.isfinite(norms.values).tolist() == [[True, False], [False, True]] * 2


# Resuming


def interrupt(made: Training, watch: Any, batches: Sequence[Any], at: int, error: BaseException) -> dict[str, Any]:
    """Trains past a checkpoint, and stops as an error does; gives the checkpoint."""
    file = Path(watch.folder) / "last.pt"
    with suppress(type(error)), watch:
        made.train(watch, batches[:at])
        parts = {"network": made.network, "optimizer": made.optimizer, "watch": watch}
        torch.save({name: part.state_dict() for name, part in parts.items()}, file)
        made.train(watch, batches[at : at + 2])
        raise error
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("the data ended")])
def test_a_run_that_was_stopped_and_resumes_has_the_records_of_one_that_was_not(error, tmp_path):
    def probes() -> list[le.Probe]:
        return [every(Changes), every(le.SimilarityProbe, 2), every(le.GradientProbe)]

    batches, whole = make_batches(7), Training()
    with whole.watch(tmp_path / "whole", *probes()) as watch:
        whole.train(watch, batches)
    first = Training()
    kept = interrupt(first, first.watch(tmp_path / "part", *probes()), batches, 3, error)
    assert read(tmp_path / "part").step.values.tolist()[-1] == 5, "what was found before is written"
    second = Training()
    second.network.load_state_dict(kept["network"])
    second.optimizer.load_state_dict(kept["optimizer"])
    again = second.watch(tmp_path / "part", *probes())
    again.load_state_dict(kept["watch"])
    with again:
        second.train(again, batches[3:])
    xr.testing.assert_identical(read(tmp_path / "part"), read(tmp_path / "whole"))


def test_a_step_alone_is_enough_to_resume(tmp_path):
    made = Training()
    with made.watch(tmp_path, every(Sizes)) as watch:
        made.train(watch, make_batches(2))
    state = watch.state_dict()
    assert state["step"] == 2, "it is known when the block has ended"
    again = made.watch(tmp_path, every(Sizes))
    again.load_state_dict({"step": 2})
    with again:
        made.train(again, make_batches(1))
    assert read(tmp_path).step.values.tolist() == [0, 1, 2, 3]


def test_a_state_is_taken_between_steps_and_loaded_before_the_first(tmp_path):
    made = Training()
    with made.watch(tmp_path, every(Sizes)) as watch:
        made.backward(make_batches(1)[0])
        made.optimizer.step()
        with pytest.raises(RuntimeError, match="between two steps"):
            watch.state_dict()
        watch.step()
        with pytest.raises(RuntimeError, match="before the with block"):
            watch.load_state_dict({"step": 1})
    with pytest.raises(ValueError, match="with a step; got the keys"):
        made.watch(tmp_path / "other", every(Sizes)).load_state_dict({"epoch": 1})


# What is refused before training


@pytest.mark.parametrize(
    ("probes", "changes", "words"),
    [
        ([], {}, "one or more probes.*got none"),
        ([le.ContactSheet()], {}, "got a ContactSheet"),
        ([le.GradientProbe()], {"optimizers": ()}, "GradientProbe looks at the update.*optimizers=optimizer"),
        ([Sizes()], {"optimizers": torch.optim.SGD([torch.zeros(2, requires_grad=True)], 0.1)}, "SGD holds none"),
        ([Sizes()], {"optimizers": 0.1}, "got a float"),
        ([Sizes()], {"loggers": "runs"}, "loggers are"),
        ([le.CategoryProbe()], {"stimuli": None}, "CategoryProbe looks at stimuli; none"),
        ([le.PartProbe()], {}, "needs the latents"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(probes, changes, words, tmp_path):
    made = Training()
    given = {"stimuli": STIMULI, "optimizers": made.optimizer, **changes}
    with pytest.raises(ValueError, match=words):
        le.watch(made.network, probes, folder=tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_epochs_need_to_know_their_steps(tmp_path):
    made, probe = Training(), Sizes(le.Epochs(1), on_error="raise")
    with pytest.raises(ValueError, match="steps_per_epoch"), made.watch(tmp_path / "none", probe):
        pass
    with made.watch(tmp_path / "some", probe, steps_per_epoch=2) as watch:
        made.train(watch, make_batches(5))
    assert read(tmp_path / "some").step.values.tolist() == [0, 2, 4, 5]


def test_layers_that_are_none_are_refused_before_anything_is_written(tmp_path):
    with (
        pytest.raises(ValueError, match="convolution_9"),
        Training().watch(tmp_path / "run", Sizes(layers=["convolution_9"])),
    ):
        pass
    assert not (tmp_path / "run").exists()


def test_what_could_not_begin_keeps_nobody_out(tmp_path):
    made = Training()
    with pytest.raises(ValueError, match="steps_per_epoch") as kept, made.watch(tmp_path, Sizes(le.Epochs(1))):
        pass
    with made.watch(tmp_path, every(Sizes)) as watch:  # in a notebook the error lives on, and what it refers to
        made.train(watch, make_batches(1))
    assert kept.traceback
    assert read(tmp_path).step.values.tolist() == [0, 1]


def test_a_folder_with_records_of_another_run_is_refused_and_left_as_it_is(tmp_path):
    made = Training()
    with made.watch(tmp_path, every(Sizes)) as watch:
        made.train(watch, make_batches(2))
    before = read(tmp_path)
    with pytest.raises(ValueError, match="without records"), made.watch(tmp_path, every(Sizes)):
        pass
    xr.testing.assert_identical(read(tmp_path), before)
    assert not made.optimizer._optimizer_step_pre_hooks


def test_a_step_outside_of_the_block_is_refused(tmp_path):
    watch = Training().watch(tmp_path, every(Sizes))
    with pytest.raises(RuntimeError, match="in a with block"):
        watch.step()
    with watch:
        pass
    with pytest.raises(RuntimeError, match="begun already"):
        watch.begin()


class Failing(Sizes):
    def measure(self, capture: le.Capture) -> Any:
        raise RuntimeError("planted")


def test_a_probe_that_fails_costs_nobody_else(tmp_path):
    made = Training()
    with (
        pytest.warns(UserWarning, match="Failing failed at step 0"),
        made.watch(tmp_path, Failing(), every(Sizes)) as watch,
    ):
        made.train(watch, make_batches(2))
    assert read(tmp_path).step.values.tolist() == [0, 1, 2]


# What is left


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of a network that has learned its images."""
    folder, labels = tmp_path_factory.mktemp("left"), torch.arange(64) % TOKENS
    torch.manual_seed(0)
    images = torch.randn(64, 1, 4, 4) + labels[:, None, None, None]
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, TOKENS))
    optimizer = torch.optim.Adam(network.parameters(), 0.03)
    with (
        SummaryWriter(str(folder)) as writer,
        le.watch(network, [every(le.CategoryProbe, 4)], (images, labels), folder, optimizer, loggers=writer) as watch,
    ):
        for _ in range(60):
            optimizer.zero_grad()
            cross_entropy(network(images), labels).backward()
            optimizer.step()
            watch.step()
        watch.metrics["val/accuracy"] = 0.5
    return folder


def test_the_folder_has_what_a_fit_leaves(left):
    kept = json.loads((left / "fit.json").read_text())
    assert (kept["began"], kept["step"], kept["processes"]) == (0, 60, 1)
    assert kept["metrics"] == {"val/accuracy": 0.5}
    assert kept["rows"]["CategoryProbe"]["looks"] == 16
    events = json.loads((left / "emergence.json").read_text())["events"]
    assert [event["name"] for event in events if event["group"] == "token"] == ["0", "1"]
    for name in ("stimuli.png", "stimuli.json", "emergence.png", "timeline.png"):
        assert (left / name).stat().st_size
    assert le.Run(left, forgiving=True).ended


def test_the_report_and_the_tab_read_it(left, tmp_path):
    report = le.make_report([left])
    assert "val/accuracy" in le.write_report(report, tmp_path / "report").read_text()
    runs = Runs({"": str(left.parent)})
    assert left.name in runs.scan()
    assert runs.has_sprite(left.name)
    assert len(runs.events(left.name)) >= 2


def test_a_writer_of_event_files_gets_curves_and_pictures(left):
    found = EventAccumulator(str(left), {"images": 0, "scalars": 0})
    found.Reload()
    assert [event.step for event in found.Scalars("bank_accuracy/0")] == list(range(0, 61, 4))
    assert {"emergence", "timeline", "bank_accuracy"} & set(found.Tags()["images"]) >= {"emergence", "timeline"}


def test_other_loggers_get_curves(tmp_path):
    made = Training()
    loggers = [CSVLogger(tmp_path, "lightning", "0"), FabricCSVLogger(tmp_path, "fabric", "0")]
    with made.watch(tmp_path / "run", every(le.GradientProbe), loggers=loggers) as watch:
        made.train(watch, make_batches(2))
    norms = read(tmp_path / "run").gradient_norm.sel(layer="0").values
    for name in ("lightning", "fabric"):
        rows = pd.read_csv(tmp_path / name / "0" / "metrics.csv").dropna(subset="gradient_norm/0")
        assert rows.step.tolist() == [0, 1]
        np.testing.assert_allclose(rows["gradient_norm/0"], norms, rtol=1e-6)
