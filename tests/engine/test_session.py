"""The session of a fit: one bank for all that ask, the right one, and what a checkpoint keeps of it."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any
from weakref import ref

import pytest
import torch
from lightning.pytorch import Callback, Trainer

import lightning_emerge as le
from lightning_emerge.cli import main
from lightning_emerge.engine.bank import find_bank
from lightning_emerge.engine.conductor import PAST
from lightning_emerge.engine.session import UNWRITTEN

SMOKE = Path(__file__).parents[2] / "configs" / "smoke.yaml"


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[le.TokenDataModule]:
    """The data modules that made a bank, once for each time."""
    found: list[le.TokenDataModule] = []
    make = le.TokenDataModule.stimulus_bank

    def count(self: le.TokenDataModule) -> le.StimulusBank:
        found.append(self)
        return make(self)

    monkeypatch.setattr(le.TokenDataModule, "stimulus_bank", count)
    return found


@pytest.mark.slow
def test_one_bank_serves_the_check_the_fit_and_what_is_said_at_its_end(made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few = ["--trainer.max_steps", "1", "--trainer.limit_val_batches", "0", "--trainer.enable_progress_bar", "false"]
    main(["fit", "--config", str(SMOKE), "--trainer.callbacks", "lightning_emerge.EmbeddingProbe", *few])
    assert len(made) == 1
    assert "Embed " in capsys.readouterr().out, "the end of the fit did not ask for the bank"


def test_each_data_module_of_a_trainer_has_its_own_bank(made, make_data, make_model, make_trainer, tmp_path):
    looked: list[torch.Tensor] = []

    class Looking(le.Probe):
        needs = le.CategoryProbe.needs

        def measure(self, capture: Any) -> Any:
            looked.append(capture.bank.images)
            return ()

    trainer = make_trainer(
        [Looking(le.At([0]), on_error="raise")], max_steps=1, logger=False, default_root_dir=tmp_path
    )
    first, second = make_data(), make_data(seed=1)
    for data, steps in ((first, 1), (second, 2)):
        trainer.fit_loop.epoch_loop.max_steps = steps
        trainer.fit(make_model(), datamodule=data)
    assert made == [first, second]
    assert torch.equal(looked[0], first.stimulus_bank().images)
    assert torch.equal(looked[-1], second.stimulus_bank().images)
    assert not torch.equal(looked[0], looked[-1])


def test_a_later_fit_of_a_trainer_looks_at_what_its_data_module_gives_then(
    made, make_data, make_model, make_trainer, tmp_path
):
    trainer = make_trainer([le.CategoryProbe(le.At([0]))], max_steps=1, logger=False, default_root_dir=tmp_path)
    data, model = make_data(), make_model()
    for fits in (1, 2):
        trainer.fit_loop.epoch_loop.max_steps = fits
        trainer.fit(model, datamodule=data)
        assert len(made) == fits


def test_a_bank_keeps_no_trainer_alive(make_data, make_model, make_trainer, tmp_path):
    trainer = make_trainer([le.CategoryProbe()], max_steps=1, logger=False, default_root_dir=tmp_path)
    trainer.fit(make_model(), datamodule=make_data())
    gone = ref(trainer)
    del trainer
    gc.collect()
    assert gone() is None


class _Saves(Callback):
    """Saves at each step, before any probe has had its turn."""

    def __init__(self) -> None:
        self.kept: dict[int, dict[str, Any]] = {}

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        path = f"{trainer.default_root_dir}/saved.ckpt"
        trainer.save_checkpoint(path, weights_only=False)
        self.kept[trainer.global_step] = torch.load(path, weights_only=True)


def test_a_checkpoint_names_the_probes_whose_look_at_its_step_is_not_written(
    make_data, make_model, make_trainer, tmp_path
):
    saves = _Saves()
    probes = [le.CategoryProbe(le.EverySteps(2)), le.GradientProbe(le.At([2]))]
    trainer = make_trainer([saves, *probes], max_steps=4, default_root_dir=tmp_path)
    trainer.fit(make_model(), datamodule=make_data())
    # A step is written once all of it is there, and the batch after step 2 is not.
    unwritten = {step: found[UNWRITTEN] for step, found in saves.kept.items()}
    assert unwritten == {1: [], 2: ["CategoryProbe"], 3: [], 4: []}
    assert "GradientProbe" not in saves.kept[2][PAST]
    (layer, weight), *_ = saves.kept[3][PAST]["GradientProbe"][-1]["weights"].items()
    assert torch.equal(weight, saves.kept[2]["state_dict"][f"network.{layer}.conv.weight"])


@pytest.mark.parametrize("bank", [False, True])
def test_who_gives_the_bank(bank, make_data, make_trainer):
    data, stimuli = make_data(), le.Stimuli(torch.zeros(4, 3, 8, 8))
    trainer = make_trainer([stimuli] if bank else [])
    trainer.datamodule = data
    assert find_bank(trainer, [le.GradientProbe()]) is None
    found = find_bank(trainer, [le.CategoryProbe()])
    assert found is find_bank(trainer, [le.CategoryProbe()])
    assert found is not None
    assert len(found.images) == (4 if bank else 15)
