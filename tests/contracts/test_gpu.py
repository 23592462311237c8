"""On a GPU: what is measured is what the CPU measures, in any precision and on any stream, and training goes on alike.

Each test runs on the CPU too, so that none is run for the first time on the day when there is a GPU.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.plugins import MixedPrecision

import lightning_emerge as le
from lightning_emerge.engine.conductor import Conductor
from lightning_emerge.engine.reporting import Sinks
from lightning_emerge.engine.training_loss import TrainingLoss

GPU = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"))
DEVICES = ["cpu", pytest.param("cuda", marks=GPU)]
LIMIT = 1e-4  # of a measure's largest value

JUMPING = {"gradient_magnitude", "top_stimulus", "top_token", "top_span", "top_crop", "part_best_filter"}
"""Counts and numbers of filters and stimuli: rounding swaps two that are equal but for it."""


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.steps: set[int] = set()
        self.found: dict[str, np.ndarray] = {}

    def check(self, measurement: le.Measurement) -> None: ...

    def write(self, step: int, measurements: list[le.Measurement]) -> None:
        self.found |= {one.name: one.values for one in measurements}

    def close(self) -> None: ...


def _look(model: torch.nn.Module, data: le.TokenDataModule, probes: list[le.Probe]) -> dict[str, np.ndarray]:
    kept = Kept()
    conductor = Conductor(model, probes, data.stimulus_bank(), Sinks([kept]), step=0)
    conductor.look(0, last=True)
    conductor.settle()
    conductor.close()
    return kept.found


def _largest_error(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> dict[str, float]:
    """The largest difference of each measure, of its largest value."""
    errors: dict[str, float] = {}
    for name in expected.keys() - JUMPING:
        assert (np.isnan(found[name]) == np.isnan(expected[name])).all(), name
        size = max(np.nanmax(np.abs(expected[name]), initial=0), 1e-6)
        errors[name] = float(np.nanmax(np.abs(found[name] - expected[name]), initial=0) / size)
    return errors


@pytest.mark.parametrize("device", DEVICES)
def test_all_measures_are_those_of_the_cpu(device, make_data, make_model, all_probes):
    data = make_data(bank_exemplars=7)
    data.setup("fit")
    expected = _look(make_model(), data, all_probes(le.EverySteps(1)))
    # On the CPU another layout in memory stands for another device: it convolves in another order.
    elsewhere = make_model().to(
        device, memory_format=torch.channels_last if device == "cpu" else torch.contiguous_format
    )
    errors = _largest_error(_look(elsewhere, data, all_probes(le.EverySteps(1))), expected)
    assert {name: error for name, error in errors.items() if error > LIMIT} == {}


@pytest.mark.parametrize("device", DEVICES)
def test_losses_that_schedules_follow_come_from_the_device_whole(device):
    loss = TrainingLoss(torch.device(device), lambda: None)
    loss.follow(le.LossMoved())
    values = torch.linspace(3, 1, 40, device=device)
    for step in range(1, 21):
        loss.add(values[2 * step - 2])
        loss.add(values[2 * step - 1])
        values[2 * step - 2 : 2 * step] = -1  # what training does next
        loss.advance(step)
    torch.testing.assert_close(loss.state(), torch.linspace(3, 1, 40).reshape(20, 2).mean(dim=1))


def test_half_precision_is_not_within_the_limit(make_data, make_model, all_probes):
    data = make_data(bank_exemplars=7)
    data.setup("fit")
    probes = lambda: [le.CategoryProbe(on_error="raise"), le.SimilarityProbe(on_error="raise")]  # noqa: E731
    errors = _largest_error(_look(make_model().bfloat16(), data, probes()), _look(make_model(), data, probes()))
    assert errors["rdm"] > LIMIT


def _precision(name: str, device: str, scale: float) -> dict[str, Any]:
    if name != "16-mixed":
        return {"precision": name}
    # Lightning's own fp16 is for GPUs alone; its plugin is not.
    return {"plugins": [MixedPrecision(name, device, torch.amp.GradScaler(device, init_scale=scale))]}


@pytest.mark.parametrize("precision", ["bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("device", DEVICES)
def test_gradients_of_lower_precision_are_unscaled(device, precision, make_data, make_model, make_trainer, tmp_path):
    norms = []
    for settings in ({}, _precision(precision, device, 2.0**10)):
        accelerator = "gpu" if device == "cuda" else "cpu"
        probe = le.GradientProbe(le.EverySteps(1), on_error="raise")
        folder = tmp_path / str(len(norms))
        trainer = make_trainer([probe], accelerator=accelerator, logger=False, default_root_dir=folder, **settings)
        trainer.fit(make_model(dropout=0.0), datamodule=make_data())
        norms.append(le.open_run(folder).gradient_norm.load().isel(step=0).values)
    np.testing.assert_allclose(norms[1], norms[0], rtol=0.05)


@pytest.mark.parametrize("device", DEVICES)
def test_a_step_that_the_scaler_leaves_out_is_recorded_as_that(device, make_data, make_model, make_trainer, tmp_path):
    settings = _precision("16-mixed", device, 2.0**40)
    accelerator = "gpu" if device == "cuda" else "cpu"
    probes = [kind(le.EverySteps(1), on_error="raise") for kind in (le.GradientProbe, le.FilterProbe, le.CategoryProbe)]
    trainer = make_trainer(probes, accelerator=accelerator, max_steps=40, **settings)
    trainer.fit(make_model(), datamodule=make_data())  # a warning of NaN would be an error
    records = le.open_run(tmp_path / "run").load()
    ratio, norm = records.update_ratio.values[:-1], records.gradient_norm.values[:-1]
    left_out = ~np.isfinite(norm).all(axis=1)
    assert left_out[0]
    assert not left_out[-1]
    assert (ratio[left_out] == 0).all()
    assert (ratio[~left_out] > 0).all()
    assert np.isfinite(records.bank_confidence.values).all()


@pytest.fixture
def _deterministic():
    before = torch.are_deterministic_algorithms_enabled()
    yield
    torch.use_deterministic_algorithms(before)


def _train(device: str, precision: str, probes: list[le.Probe], model: Any, data: Any, make_trainer: Any) -> Any:
    accelerator = "gpu" if device == "cuda" else "cpu"
    seed_everything(0, verbose=False)
    settings = {**_precision(precision, device, 2.0**10), "deterministic": "warn", "logger": False}
    make_trainer(probes, accelerator=accelerator, **settings).fit(model, datamodule=data)
    streams = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if device == "cuda" else [])]
    return [value.cpu() for value in model.state_dict().values()] + [state.cpu() for state in streams]


@pytest.mark.filterwarnings("ignore:.*deterministic.*")
@pytest.mark.usefixtures("_deterministic")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
@pytest.mark.parametrize("device", DEVICES)
def test_probes_change_nothing(
    device, precision, make_data, make_model, make_trainer, all_probes, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    looks = all_probes(le.At([0, 3]))
    alone = _train(device, precision, [], make_model(), make_data(), make_trainer)
    looked = _train(device, precision, looks, make_model(), make_data(), make_trainer)
    assert all(torch.equal(one, other) for one, other in zip(alone, looked, strict=True))


@pytest.mark.parametrize("device", DEVICES)
def test_a_look_on_a_side_stream_sees_what_training_left(device, make_data, make_model):
    """Training's kernels are still under way on the default stream when the look begins on another."""
    data, model = make_data(), make_model().to(device)
    data.setup("fit")
    probes = [le.CategoryProbe(on_error="raise"), le.FilterProbe(on_error="raise")]

    def step() -> None:
        busy = torch.randn(512, 512, device=device)
        for _ in range(200 if device == "cuda" else 2):
            busy = busy @ busy / busy.norm()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1e-2 + 0 * busy[0, 0])

    def look(stream: Any) -> dict[str, np.ndarray]:
        with stream:
            return _look(model, data, probes)

    step()
    found = look(torch.cuda.stream(torch.cuda.Stream()) if device == "cuda" else nullcontext())
    expected = look(nullcontext())
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
