"""The engine: when probes look, what they get, what happens when they fail."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader, TensorDataset

import lightning_emerge as le
from lightning_emerge.engine.writer import Writer


class Recorder(le.Probe):
    """Keeps the captures that it is given."""

    needs = (le.Activations(), le.Outputs(), le.Weights())

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.captures: list[le.Capture] = []

    def measure(self, capture: le.Capture) -> Iterable[le.Measurement]:
        self.captures.append(capture)
        return []


class Trainee(Recorder):
    needs = (le.Training(),)


class Failing(le.Probe):
    needs = (le.Weights(),)

    def measure(self, capture: le.Capture) -> Iterable[le.Measurement]:
        raise RuntimeError("planted")


def _steps(probe: Recorder) -> list[int]:
    return [capture.step for capture in probe.captures]


def test_it_looks_before_the_first_update_when_due_and_at_the_last_step(make_data, make_model, make_trainer):
    bank, training = Recorder(le.At([0, 2])), Trainee(le.At([0, 2]))
    make_trainer([bank, training]).fit(make_model(), datamodule=make_data())
    assert _steps(bank) == [0, 2, 5]
    assert _steps(training) == [0, 2]


def test_the_last_step_is_looked_at_once(make_data, make_model, make_trainer):
    probe = Recorder(le.EverySteps(1))
    make_trainer([probe], max_steps=3).fit(make_model(), datamodule=make_data())
    assert _steps(probe) == [0, 1, 2, 3]


def test_step_zero_sees_the_initial_weights(make_data, make_model, make_trainer):
    model, probe = make_model(), Recorder(le.At([0]), layers=["conv1_1"])
    before = model.network.conv1_1.conv.weight.detach().clone()
    make_trainer([probe]).fit(model, datamodule=make_data())
    assert torch.equal(probe.captures[0].weights["conv1_1"], before)
    assert not torch.equal(model.network.conv1_1.conv.weight, before)


def test_a_capture_holds_what_was_asked_for_and_no_more(make_data, make_model, make_trainer):
    model, probe, other = make_model(), Recorder(le.At([0]), ["conv1_1", "fc*"]), le.SimilarityProbe(le.At([0]))
    make_trainer([probe, other], max_steps=1).fit(model, datamodule=make_data())
    capture = probe.captures[0]
    assert capture.layers == ("conv1_1", "fc1", "fc2")
    assert list(capture.activations) == list(capture.weights) == ["conv1_1", "fc1", "fc2"]
    assert capture.activations["conv1_1"].shape == (15, 4, 16, 16)
    assert capture.outputs.shape == (15, 5)
    assert set(capture.found) == {"activations", "outputs", "weights"}
    assert torch.equal(capture.activations["fc2"], capture.outputs)


def test_gradients_and_updates_are_those_of_plain_sgd(make_data, make_trainer):
    model = le.TokenClassifier(
        le.VGG(plan=[1], width=2, head=[], image_size=16), lambda parameters: torch.optim.SGD(parameters, lr=0.1)
    )
    data, probe = make_data(), Trainee(le.At([0]))
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    weight = model.network.conv1_1.conv.weight
    loss = torch.nn.functional.cross_entropy(model(batch["image"]), batch["label"])
    expected = torch.autograd.grad(loss, weight)[0]
    start = weight.detach().clone()
    make_trainer([probe], max_steps=1).fit(model, datamodule=data)
    capture = probe.captures[0]
    torch.testing.assert_close(capture.gradients["conv1_1"], expected)
    torch.testing.assert_close(capture.updates["conv1_1"], -0.1 * expected)
    assert torch.equal(capture.weights["conv1_1"], start)


@pytest.mark.parametrize("changes", [{"gradient_clip_val": 1e-6}, {"accumulate_grad_batches": 2, "max_steps": 2}])
def test_gradients_are_those_before_clipping_and_after_accumulation(changes, make_data, make_model, make_trainer):
    probe, model, data = Trainee(le.At([0])), make_model(dropout=0, batch_norm=False), make_data()
    data.setup("fit")
    batches = [batch for _, batch in zip(range(2), data.train_dataloader(), strict=False)]
    if "accumulate_grad_batches" not in changes:
        batches = batches[:1]
    losses = [torch.nn.functional.cross_entropy(model(b["image"]), b["label"]) for b in batches]
    expected = torch.autograd.grad(sum(losses) / len(losses), model.network.conv1_1.conv.weight)[0]
    make_trainer([probe], **changes).fit(model, datamodule=data)
    torch.testing.assert_close(probe.captures[0].gradients["conv1_1"], expected)


def test_steps_are_optimizer_steps_under_accumulation(make_data, make_model, make_trainer):
    probe, trainee = Recorder(le.EverySteps(1)), Trainee(le.EverySteps(1))
    make_trainer([probe, trainee], accumulate_grad_batches=3, max_steps=2).fit(make_model(), datamodule=make_data())
    assert _steps(probe) == [0, 1, 2]
    assert _steps(trainee) == [0, 1]


def test_captures_are_float32_under_mixed_precision(make_data, make_model, make_trainer):
    probe = Recorder(le.At([0]))
    make_trainer([probe], precision="bf16-mixed", max_steps=1).fit(make_model(), datamodule=make_data())
    assert {rows.dtype for rows in probe.captures[0].activations.values()} == {torch.float32}


def test_a_probe_that_fails_is_reported_and_switched_off_and_training_goes_on(make_data, make_model, make_trainer):
    healthy = Recorder(le.EverySteps(1))
    trainer = make_trainer([Failing(le.EverySteps(1)), healthy])
    with pytest.warns(UserWarning, match="Failing failed at step 0 and is switched off.*planted") as caught:
        trainer.fit(make_model(), datamodule=make_data())
    assert trainer.global_step == 5
    assert len(healthy.captures) == 6
    assert len([w for w in caught if "Failing" in str(w.message)]) == 1


def test_a_probe_that_fails_stops_training_if_it_is_told_to(make_data, make_model, make_trainer):
    with pytest.raises(RuntimeError, match="planted"):
        make_trainer([Failing(on_error="raise")]).fit(make_model(), datamodule=make_data())


def test_a_network_that_fails_on_the_bank_switches_off_those_that_need_it(
    make_data, make_model, make_trainer, tmp_path
):
    class Fussy(le.TokenClassifier):
        def forward(self, images):
            if not self.training:
                raise RuntimeError("not in evaluation mode")
            return super().forward(images)

    model = make_model()
    model.__class__ = Fussy
    trainer = make_trainer([le.SimilarityProbe(), le.FilterProbe(le.EverySteps(1))])
    with pytest.warns(UserWarning, match="SimilarityProbe failed at step 0"):
        trainer.fit(model, datamodule=make_data())
    assert trainer.global_step == 5
    records = le.open_run(tmp_path / "run")
    assert "rdm" not in records
    assert np.isfinite(records.kernels.values).all()
    assert len(records.step) == 6
    assert all(module.training for module in model.modules() if not list(module.children()))


def test_records_that_cannot_be_written_do_not_cost_the_run(make_data, make_model, make_trainer, monkeypatch):
    def refuse(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lightning_emerge.store.write.ArraySink.write", refuse)
    trainer = make_trainer([le.FilterProbe()])
    with pytest.warns(UserWarning, match="ArraySink could not write step 0.*No space left"):
        trainer.fit(make_model(), datamodule=make_data())
    assert trainer.global_step == 5


def test_a_layer_that_does_not_exist_is_refused_before_training(make_data, make_model, make_trainer, tmp_path):
    trainer = make_trainer([le.SimilarityProbe(layers=["conv7*"])])
    with pytest.raises(ValueError, match=r"'conv7\*' matches none. Did you mean 'conv2_1'"):
        trainer.fit(make_model(), datamodule=make_data())
    assert trainer.global_step == 0


def test_a_layer_without_weights_is_refused_by_a_probe_of_weights(make_model):
    with pytest.raises(ValueError, match="'pool1' holds 0"):
        le.GradientProbe(layers=["pool1"]).check(make_model())


def test_an_unknown_on_error_is_refused():
    with pytest.raises(ValueError, match="'report' or 'raise'; got 'ignore'"):
        le.FilterProbe(on_error="ignore")  # pyright: ignore[reportArgumentType]


class Plain(LightningModule):
    """A LightningModule that knows nothing of this package."""

    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 2))

    def forward(self, x):
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def _plain_loader() -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    return DataLoader(TensorDataset(torch.randn(40, 4, generator=generator), torch.arange(40) % 2), batch_size=8)


def test_probes_work_on_any_lightning_module(make_trainer, tmp_path):
    trainer = make_trainer([le.GradientProbe(le.EverySteps(1), on_error="raise")])
    trainer.fit(Plain(), _plain_loader())
    records = le.open_run(tmp_path / "run")
    assert records.layer.values.tolist() == ["0", "2"]
    assert records.step.values.tolist() == [0, 1, 2, 3, 4]
    assert np.isfinite(records.gradient_norm.values).all()


def test_a_probe_of_activations_says_that_it_has_no_bank(make_trainer):
    with pytest.raises(ValueError, match=r"Add lightning_emerge\.Stimuli"):
        make_trainer([le.SimilarityProbe()]).fit(Plain(), _plain_loader())


def test_two_probes_of_one_kind_can_look_at_different_layers(make_data, make_model, make_trainer, tmp_path):
    probes = [le.SimilarityProbe(le.At([0]), [layers], on_error="raise") for layers in ("conv*", "fc1")]
    make_trainer(probes, max_steps=1).fit(make_model(), datamodule=make_data())
    records = le.open_run(tmp_path / "run")
    assert records[records.rdm.dims[1]].values.tolist() == ["conv1_1", "conv2_1"]
    assert records[records.rdm_2.dims[1]].values.tolist() == ["fc1"]


class Named(le.Probe):
    """Measures one number under a name that it is given."""

    needs = (le.Weights(),)

    def __init__(self, name: str, size: int = 1, axis: str = "thing") -> None:
        super().__init__(le.EverySteps(1))
        self.records, self.size = (le.Record(name, (axis,)),), size  # pyright: ignore[reportAttributeAccessIssue]

    def measure(self, capture: le.Capture) -> Iterable[le.Measurement]:
        size = self.size if capture.step < 2 else 1
        yield self.records[0].of(np.ones(size), le.Axis(self.records[0].axes[0], range(size)))


class Namesake(Named):
    pass


class Undeclared(Named):
    def measure(self, capture: le.Capture) -> Iterable[le.Measurement]:
        yield le.Measurement("other", np.ones(()), ())


@pytest.mark.parametrize(
    ("second", "step", "words"),
    [
        (Namesake("same"), 0, "'same' comes from Named and from Namesake"),
        (Undeclared("others"), 0, "declares others, and measured 'other'.*Did you mean 'others'"),
        (Namesake("thing", axis="k"), 0, "not named like an axis"),
        (Namesake("changing", size=2), 2, "the same axes at every step"),
    ],
)
def test_a_probe_whose_measurements_cannot_be_stored_is_off_and_the_others_are_kept(
    second, step, words, make_data, make_model, make_trainer, tmp_path
):
    trainer = make_trainer([Named("same"), second])
    with pytest.warns(UserWarning, match=f"{type(second).__name__} failed at step {step} and is switched off.*{words}"):
        trainer.fit(make_model(), datamodule=make_data())
    assert le.open_run(tmp_path / "run").same.values.ravel().tolist() == [1.0] * 6


# What a probe can ask for


class Collector(le.Probe):
    """Keeps the captures it is given; its needs are its own."""

    needs = ()

    def __init__(self, needs: tuple[le.Need, ...], schedule: le.Schedule, layers: list[str] | None = None) -> None:
        super().__init__(schedule, layers, on_error="raise")
        self.needs = needs  # pyright: ignore[reportAttributeAccessIssue]
        self.captures: list[le.Capture] = []

    def measure(self, capture: le.Capture) -> Iterable[le.Measurement]:
        self.captures.append(capture)
        return []


FIELDS = (
    *(
        "activations",
        "pooled",
        "inputs",
        "convolutions",
        "weights",
        "bank_gradients",
        "token_gradients",
        "gradient_squares",
    ),
    *("gradients", "updates", "fired"),
)


@pytest.mark.parametrize(
    ("needs", "filled"),
    [
        ((le.Pooled(),), {"pooled", "bank"}),
        ((le.BankGradients(),), {"bank_gradients", "bank"}),
        ((le.BankGradients(), le.Weights()), {"bank_gradients", "bank", "weights"}),
        ((le.Images(),), {"bank"}),
        ((le.Latents(),), {"bank"}),
        ((le.TokenGradients(),), {"token_gradients", "bank"}),
        ((le.GradientSquares(),), {"gradient_squares", "bank"}),
        ((le.Network(),), {"network"}),
        ((le.Past(),), {"weights"}),
        ((le.Weights(), le.Training()), {"weights", "gradients", "updates", "fired"}),
        ((le.Activations(), le.Pooled(), le.Outputs()), {"activations", "pooled", "outputs", "bank"}),
    ],
)
def test_each_need_fills_its_part_of_the_capture_and_no_other(needs, filled, make_data, make_model, make_trainer):
    probe = Collector(needs, le.At([0]), ["conv1_1", "fc1"])
    others = [le.SimilarityProbe(le.At([0])), Collector((le.BankGradients(),), le.At([0]), ["fc2"])]
    make_trainer([*others, probe], max_steps=1).fit(make_model(), datamodule=make_data())
    capture = probe.captures[0]
    got = {name for name in FIELDS if capture.found.get(name)}
    got |= {name for name in ("outputs", "bank", "network") if getattr(capture, name, None) is not None}
    assert got == filled
    assert all(set(getattr(capture, name)) == {"conv1_1", "fc1"} for name in got & set(FIELDS))


def test_inputs_are_those_of_the_probes_own_convolutions(make_data, make_model, make_trainer):
    probe = Collector((le.Inputs(),), le.At([0]), ["conv2_1"])
    others = [le.CouplingProbe(le.At([0])), le.SimilarityProbe(le.At([0]))]
    model, data = make_model(), make_data()
    make_trainer([*others, probe], max_steps=1).fit(model, datamodule=data)
    capture = probe.captures[0]
    got = {name for name in FIELDS if capture.found.get(name)}
    assert got == {"inputs", "convolutions"}
    assert set(capture.inputs) == set(capture.convolutions) == {"conv2_1"}
    assert capture.inputs["conv2_1"].shape == (15, 4, 8, 8)
    assert capture.bank is not None


def test_inputs_of_what_is_no_convolution_are_refused(make_data, make_model, make_trainer):
    trainer = make_trainer([Collector((le.Inputs(),), le.At([0]), ["fc1"])], max_steps=1)
    with pytest.raises(ValueError, match="'fc1' is Linear and ReLU"):
        trainer.fit(make_model(), datamodule=make_data())


class Remembering(Trainee):
    """Looks at training batches, and at its earlier looks."""

    needs = (le.Training(), le.Past())


def test_earlier_looks_are_the_first_and_the_one_before(make_data, make_model, make_trainer):
    probe = Remembering(le.At([1, 2, 4]))
    make_trainer([probe]).fit(make_model(), datamodule=make_data())
    one, two, four = probe.captures
    assert (one.first, one.previous) == (None, None)
    assert [(look.first.step, look.previous.step) for look in (two, four)] == [(1, 1), (1, 2)]
    assert all(torch.equal(four.first.weights[layer], weight) for layer, weight in one.weights.items())
    assert all(torch.equal(four.previous.gradients[layer], gradient) for layer, gradient in two.gradients.items())


def test_a_run_that_goes_on_remembers_its_earlier_looks(make_data, make_model, make_trainer, tmp_path):
    first = Remembering(le.EverySteps(2))
    checkpoints = le.Checkpoints(last_every=3)
    make_trainer([first, checkpoints], enable_checkpointing=True, max_steps=3).fit(make_model(), datamodule=make_data())
    second = Remembering(le.EverySteps(2))
    last = tmp_path / "run/checkpoints/last.ckpt"
    make_trainer([second]).fit(make_model(), datamodule=make_data(), ckpt_path=last, weights_only=True)
    (look,) = second.captures
    assert (look.step, look.first.step, look.previous.step) == (4, 0, 2)
    assert all(torch.equal(look.first.weights[layer], weight) for layer, weight in first.captures[0].weights.items())


@pytest.mark.parametrize("changes", [{}, {"accumulate_grad_batches": 2}])
def test_what_fired_is_seen_in_all_batches_of_a_step_and_no_hook_stays(changes, make_data, make_model, make_trainer):
    model, probe = make_model(dropout=0, batch_norm=False), Trainee(le.At([0]))
    data = make_data()
    data.setup("fit")
    batches = [
        batch
        for _, batch in zip(range(changes.get("accumulate_grad_batches", 1)), data.train_dataloader(), strict=False)
    ]
    with torch.no_grad():
        units = torch.cat([model.network.pool1(model.network.conv1_1(batch["image"])) for batch in batches])
        expected = (model.network.conv2_1(units) > 0).any(dim=(0, 2, 3))
    make_trainer([probe], max_steps=1, **changes).fit(model, datamodule=data)
    assert torch.equal(probe.captures[0].fired["conv2_1"], expected)
    assert "fc2" not in probe.captures[0].fired
    assert sum(len(part._forward_hooks) for part in model.modules()) == 0


def test_gradients_on_the_bank_do_not_meet_those_of_training(make_data, make_model, make_trainer):
    probes = [Collector((le.BankGradients(),), le.EverySteps(1)), Trainee(le.EverySteps(1))]
    watched, alone = Trainee(le.EverySteps(1)), probes[1]
    make_trainer(probes).fit(make_model(), datamodule=make_data())
    make_trainer([watched], fast_dev_run=5).fit(make_model(), datamodule=make_data())
    for a, b in zip(alone.captures, watched.captures, strict=True):
        assert all(torch.equal(a.gradients[layer], b.gradients[layer]) for layer in a.layers)


def test_a_probe_looks_at_training_batches_or_at_the_bank():
    for other in (le.Pooled(), le.Latents(), le.Network()):
        with pytest.raises(ValueError, match="Write two probes"):
            type("Both", (le.Probe,), {"needs": (other, le.Training())})


@pytest.mark.parametrize("needs", [le.Pooled(), (le.Pooled,), {"pooled": True}])
def test_needs_are_a_tuple_of_needs(needs, make_data, make_model, make_trainer):
    with pytest.raises(ValueError, match=r"Odd\.needs is a tuple of needs"):
        type("Odd", (le.Probe,), {"needs": needs})
    with pytest.raises(ValueError, match=r"Collector\.needs is a tuple of needs"):
        make_trainer([Collector(needs, le.At([0]))]).fit(make_model(), datamodule=make_data())


@pytest.mark.parametrize("records", [le.Record("depth"), ("depth",), le.Record])
def test_records_are_a_tuple_of_records(records):
    with pytest.raises(ValueError, match=r"Odd\.records is a tuple of records, as in .*; got"):
        type("Odd", (le.Probe,), {"needs": (), "records": records})


def test_a_probe_that_says_no_needs_is_told_how(make_model):
    odd = type("Odd", (le.Probe,), {"measure": lambda self, capture: ()})()
    with pytest.raises(ValueError, match=r"Odd\.needs is a tuple of needs, as in .*; got None"):
        odd.check(make_model())


def test_latents_are_those_of_the_stimuli(make_data, make_model, make_trainer):
    probe = Collector((le.Latents(),), le.At([0]))
    make_trainer([probe], max_steps=1).fit(make_model(), datamodule=make_data())
    bank = probe.captures[0].bank
    assert bank.latents["id"].tolist() == list(bank.ids)
    assert bank.latents["label"].tolist() == bank.labels.tolist()


def test_a_bank_without_latents_is_refused_by_a_probe_of_latents(make_data, make_model, make_trainer):
    stimuli = le.Stimuli(torch.zeros(4, 3, 16, 16))
    trainer = make_trainer([stimuli, Collector((le.Latents(),), le.At([0]))])
    with pytest.raises(ValueError, match="needs the latents of each stimulus"):
        trainer.fit(make_model(), datamodule=make_data())
    assert trainer.global_step == 0


def test_stimuli_come_before_the_data_modules_bank_and_are_one(make_data, make_model, make_trainer):
    probe, stimuli = Collector((le.Outputs(),), le.At([0])), le.Stimuli(torch.zeros(4, 3, 16, 16))
    make_trainer([probe, stimuli], max_steps=1).fit(make_model(), datamodule=make_data())
    assert probe.captures[0].outputs.shape == (4, 5)
    with pytest.raises(ValueError, match="one stimulus bank; got 2 Stimuli"):
        make_trainer([probe, stimuli, le.Stimuli(torch.zeros(4, 3, 16, 16))]).fit(make_model(), datamodule=make_data())


# When it looks


def test_epochs_are_counted_in_optimizer_steps(make_data, make_model, make_trainer):
    probe = Recorder(le.Epochs(1))
    trainer = make_trainer([probe], max_steps=-1, max_epochs=3, limit_train_batches=7, accumulate_grad_batches=2)
    trainer.fit(make_model(), datamodule=make_data())
    assert _steps(probe) == [0, 4, 8, 12]


def test_any_function_of_the_step_is_a_schedule(make_data, make_model, make_trainer):
    probe = Recorder(lambda step: step == 3)  # pyright: ignore[reportArgumentType]
    make_trainer([probe]).fit(make_model(), datamodule=make_data())
    assert _steps(probe) == [3, 5]


def test_a_schedule_that_fails_is_reported_like_a_probe_that_fails(make_data, make_model, make_trainer):
    probe, other = Recorder(lambda step: 1 // (3 - step) >= 0 and step == 0), Recorder(le.EverySteps(1))  # pyright: ignore[reportArgumentType]
    with pytest.warns(UserWarning, match="Recorder failed at step 3 and is switched off.*ZeroDivisionError"):
        make_trainer([probe, other]).fit(make_model(), datamodule=make_data())
    assert _steps(probe) == [0]
    assert _steps(other) == [0, 1, 2, 3, 4, 5]


class TwoOptimizers(le.TokenClassifier):
    """Steps twice a batch, by hand: first the convolutions, then the rest."""

    automatic_optimization = False

    def configure_optimizers(self):
        groups = {True: [], False: []}
        for name, parameter in self.network.named_parameters():
            groups[name.startswith("conv")].append(parameter)
        return [torch.optim.SGD(groups[True], lr=0.1), torch.optim.SGD(groups[False], lr=0.1)]

    def training_step(self, batch, batch_idx):
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(torch.nn.functional.cross_entropy(self(batch["image"]), batch["label"]))
            optimizer.step()


def test_two_optimizers_make_two_steps_a_batch(make_data, make_model, make_trainer):
    model, probe, trainee = make_model(dropout=0, batch_norm=False), Recorder(le.At([3])), Trainee(le.At([0, 1]))
    model.__class__ = TwoOptimizers
    TwoOptimizers.automatic_optimization = False
    model.automatic_optimization = False
    make_trainer([probe, trainee], max_steps=6).fit(model, datamodule=make_data())
    assert _steps(probe) == [4, 6]  # step 3 is inside the second batch, and seen at its end
    assert _steps(trainee) == [0, 1]
    for capture, steps, waits in zip(trainee.captures, ("conv1_1", "fc1"), ("fc1", "conv1_1"), strict=True):
        torch.testing.assert_close(capture.updates[steps], -0.1 * capture.gradients[steps])
        assert capture.updates[steps].abs().sum() > 0
        assert capture.updates[waits].isnan().all()  # it did not step, and its gradient is an earlier loss'
        assert capture.gradients[waits].isnan().all()
        assert capture.weights[waits].isfinite().all()
        assert set(capture.fired) == {"conv1_1", "conv2_1", "fc1"}


# Around it


@pytest.mark.parametrize(
    "changes", [{"fast_dev_run": True}, {"limit_train_batches": 2, "max_epochs": 1, "max_steps": -1}]
)
def test_short_runs(changes, make_data, make_model, make_trainer, tmp_path):
    probe = Recorder(le.EverySteps(1))
    make_trainer([probe], **changes).fit(make_model(), datamodule=make_data())
    assert _steps(probe) == ([0, 1] if "fast_dev_run" in changes else [0, 1, 2])
    assert (tmp_path / "run" / "records.zarr").exists() == ("fast_dev_run" not in changes)


def test_records_are_in_the_first_loggers_folder_and_curves_in_every_tensorboard(
    make_data, make_model, make_trainer, tmp_path
):
    loggers = [CSVLogger(tmp_path, "csv", 0), TensorBoardLogger(tmp_path, "a", 0), TensorBoardLogger(tmp_path, "b", 0)]
    make_trainer([le.CategoryProbe(le.At([0]))], logger=loggers).fit(make_model(), datamodule=make_data())
    assert le.open_run(tmp_path / "csv/version_0").step.values.tolist() == [0, 5]
    for name in "ab":
        events = EventAccumulator(str(tmp_path / name / "version_0"))
        events.Reload()
        assert [event.step for event in events.Scalars("bank_accuracy_mean")] == [0, 5]


def test_what_a_probe_costs_is_in_tensorboard_and_in_a_table(make_data, make_model, make_trainer, tmp_path, said):
    make_trainer([le.CategoryProbe(le.EverySteps(1))]).fit(make_model(), datamodule=make_data())
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    seconds = [event.value for event in events.Scalars("probe_seconds/CategoryProbe")]
    assert len(seconds) == 6
    assert seconds == sorted(seconds)
    assert all(0 <= event.value <= 1 for event in events.Scalars("probe_share/CategoryProbe"))
    (table,) = [message for message in said if "What the probes cost" in message]
    assert {line.split()[0] for line in table.splitlines()[2:]} >= {"CategoryProbe", "capture", "writing", "all"}
    assert "probe_seconds" not in le.open_run(tmp_path / "run")


@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_a_compiled_module_gives_the_records_of_a_plain_one(make_data, make_model, make_trainer, tmp_path):
    def records(name: str, wrap: Any) -> Any:
        torch._dynamo.reset()
        probes = [le.SimilarityProbe(le.EverySteps(4), on_error="raise"), le.GradientProbe(on_error="raise")]
        logger = TensorBoardLogger(tmp_path, name, 0)
        make_trainer(probes, logger=logger).fit(wrap(make_model(dropout=0)), datamodule=make_data())
        return le.open_run(tmp_path / name / "version_0").load()

    def inside(model: le.TokenClassifier) -> le.TokenClassifier:
        model.network = torch.compile(model.network, backend="eager")
        return model

    plain = records("plain", lambda model: model)
    for name, wrap in (("whole", lambda model: torch.compile(model, backend="eager")), ("inside", inside)):
        hidden = pytest.warns(UserWarning, match="no dead_share of conv1_1, conv2_1, fc1 .* not compiled")
        with hidden if name == "inside" else nullcontext():
            compiled = records(name, wrap)
        assert compiled.layer.values.tolist() == plain.layer.values.tolist()
        np.testing.assert_allclose(compiled.rdm, plain.rdm, atol=1e-5)
        np.testing.assert_allclose(compiled.gradient_norm, plain.gradient_norm, rtol=1e-4)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_lower_precision_is_recorded_in_full(precision, make_data, make_model, make_trainer, tmp_path, all_probes):
    make_trainer(all_probes(le.EverySteps(4)), precision=precision).fit(make_model(), datamodule=make_data())
    records = le.open_run(tmp_path / "run").load()
    assert np.isfinite(records.rdm.values).all()
    assert records.rdm.dtype == np.float32


def test_a_network_that_turns_to_nan_is_said_once_and_recorded_on(make_data, make_model, make_trainer, tmp_path):
    model = make_model(batch_norm=False)
    model._optimizer = lambda parameters: torch.optim.SGD(parameters, lr=1e30)
    kinds = (le.CategoryProbe, le.GradientProbe, le.FilterProbe, le.SimilarityProbe)
    probes = [kind(le.EverySteps(1)) for kind in kinds]
    with pytest.warns(UserWarning, match="NaN or infinite") as caught:
        make_trainer(probes).fit(model, datamodule=make_data())
    said = [str(warning.message) for warning in caught if "NaN or infinite" in str(warning.message)]
    assert len(said) == 1
    assert [probe.failed_at for probe in probes] == [None] * 4
    records = le.open_run(tmp_path / "run").load()
    assert records.step.values.tolist() == [0, 1, 2, 3, 4, 5]
    assert np.isnan(records.rdm.sel(step=5).values).any()


def test_what_was_found_before_an_interruption_is_written(make_data, make_model, make_trainer, tmp_path):
    class Stop(Callback):
        def on_train_batch_end(self, trainer, *arguments):
            if trainer.global_step == 3:
                raise RuntimeError("pulled the plug")

    with pytest.raises(RuntimeError, match="pulled the plug"):
        make_trainer([le.SimilarityProbe(le.EverySteps(1)), Stop()]).fit(make_model(), datamodule=make_data())
    assert le.open_run(tmp_path / "run").step.values.tolist() == [0, 1, 2, 3]
    assert not [thread for thread in threading.enumerate() if thread.name == "lightning_emerge writer"]


def test_a_record_says_with_what_its_probe_was_made(make_data, make_model, make_trainer, tmp_path):
    probe = le.SimilarityProbe(le.At([2]) | le.LogSpaced(3), layers=["conv*"])
    make_trainer([probe]).fit(make_model(), datamodule=make_data())
    settings = json.loads(le.open_run(tmp_path / "run").rdm.attrs["probe"])
    assert settings["class_path"] == "lightning_emerge.probes.similarity.SimilarityProbe"
    schedules = settings["init_args"]["schedule"]["init_args"]["schedules"]
    assert [schedule["init_args"] for schedule in schedules] == [{"steps": [2]}, {"per_decade": 3, "first": 1}]
    assert settings["init_args"]["layers"] == ["conv*"]


def test_two_runs_in_one_folder_are_refused_before_training(make_data, make_model, make_trainer, tmp_path):
    class Second(Callback):
        said = ""

        def on_train_batch_end(self, *arguments):
            if not self.said:
                trainer = make_trainer([le.FilterProbe()])
                with pytest.raises(ValueError, match=r"records\.zarr") as refused:
                    trainer.fit(make_model(), datamodule=make_data())
                self.said = str(refused.value)
                assert trainer.global_step == 0

    second = Second()
    make_trainer([le.FilterProbe(le.EverySteps(1)), second]).fit(make_model(), datamodule=make_data())
    assert "another version" in second.said
    assert le.open_run(tmp_path / "run").step.values.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("bar", "shown"),
    [(False, False), (True, True), (TQDMProgressBar(refresh_rate=0), False), (TQDMProgressBar(), True)],
)
def test_what_is_left_to_write_is_shown_where_progress_is(bar, shown, make_data, make_model, make_trainer, monkeypatch):
    asked: list[bool] = []
    monkeypatch.setattr(Writer, "drain", lambda self, *, show=False: asked.append(show))
    callbacks, enabled = ([bar], True) if isinstance(bar, Callback) else ([], bar)
    trainer = make_trainer([Recorder(), *callbacks], max_steps=1, enable_progress_bar=enabled)
    trainer.fit(make_model(), datamodule=make_data())
    assert any(asked) is shown
