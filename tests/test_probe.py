"""The engine: when probes look, what they get, what happens when they fail."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from torch.utils.data import DataLoader, TensorDataset

import lightning_emerge as le


class Recorder(le.Probe):
    """Keeps the captures that it is given."""

    needs = le.Needs(activations=True, outputs=True, weights=True)

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.captures: list[le.Capture] = []

    def measure(self, capture: le.Capture) -> Iterable[le.Measurement]:
        self.captures.append(capture)
        return []


class Trainee(Recorder):
    needs = le.Needs(training=True)


class Failing(le.Probe):
    needs = le.Needs(weights=True)

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
    assert not capture.gradients
    assert not capture.updates
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

    monkeypatch.setattr("lightning_emerge.sinks.arrays.ArraySink.write", refuse)
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
    with pytest.raises(ValueError, match="looks at a stimulus bank; there is no data module. Add lightning_emerge.Stimuli"):
        make_trainer([le.SimilarityProbe()]).fit(Plain(), _plain_loader())


def test_two_probes_of_one_kind_can_look_at_different_layers(make_data, make_model, make_trainer, tmp_path):
    probes = [le.SimilarityProbe(le.At([0]), [layers], on_error="raise") for layers in ("conv*", "fc1")]
    make_trainer(probes, max_steps=1).fit(make_model(), datamodule=make_data())
    records = le.open_run(tmp_path / "run")
    assert records[records.rdm.dims[1]].values.tolist() == ["conv1_1", "conv2_1"]
    assert records[records.rdm_2.dims[1]].values.tolist() == ["fc1"]


class Named(le.Probe):
    """Measures one number under a name that it is given."""

    needs = le.Needs(weights=True)

    def __init__(self, name: str, size: int = 1) -> None:
        super().__init__(le.EverySteps(1))
        self.measured, self.size = name, size

    def measure(self, capture: le.Capture) -> Iterable[le.Measurement]:
        size = self.size if capture.step < 2 else 1
        yield le.Measurement(self.measured, np.ones(size), (le.Axis("thing", range(size)),), capture.step)


class Namesake(Named):
    pass


@pytest.mark.parametrize(
    ("second", "step", "words"),
    [
        (Namesake("same"), 0, "'same' comes from Named and from Namesake"),
        (Namesake("layer/other"), 0, "a word without '/'"),
        (Namesake("thing"), 0, "not named like an axis"),
        (Namesake("changing", size=2), 2, "the same axes at every step"),
    ],
)
def test_a_probe_whose_measurements_cannot_be_stored_is_off_and_the_others_are_kept(
    second, step, words, make_data, make_model, make_trainer, tmp_path
):
    trainer = make_trainer([Named("same"), second])
    with pytest.warns(UserWarning, match=f"Namesake failed at step {step} and is switched off.*{words}"):
        trainer.fit(make_model(), datamodule=make_data())
    assert le.open_run(tmp_path / "run").same.values.ravel().tolist() == [1.0] * 6
