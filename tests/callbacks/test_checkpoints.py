"""Checkpoints: what is saved and when, and that a run that goes on from any of them ends as if it had never stopped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.loggers import TensorBoardLogger

import lightning_emerge as le
from lightning_emerge.engine.checkpoint_files import read_checkpoint


class KeepLast(Callback):
    """Keeps a copy of each checkpoint to go on from."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def on_train_batch_end(self, trainer, *arguments):
        last = Path(trainer.log_dir) / "checkpoints/last.ckpt"
        copy = self.home / f"{read_checkpoint(last)['global_step']}.ckpt" if last.exists() else None
        if copy and not copy.exists():
            copy.write_bytes(last.read_bytes())


class Order(Callback):
    """Notes which exemplars are visited, and at which of the loggers' steps."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.epochs: list[int] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.ids += batch["id"]
        self.epochs.append(trainer.current_epoch)


@pytest.fixture
def fit(tmp_path, make_data, make_model, make_trainer):
    """Fits a network with dropout, batch norm and a scheduler in a folder; tells what it ended with."""

    def run(
        name: str, *, resume: Path | None = None, copies: Path | None = None, data: Any = (), **trainer: Any
    ) -> Any:
        model = make_model()
        model._scheduler = lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
        order = Order()
        callbacks = [order, le.SimilarityProbe(le.LogSpaced(10), ["fc1"]), le.GradientProbe(le.LogSpaced(10))]
        callbacks += [le.Checkpoints(last_every=1)] + ([KeepLast(copies)] if copies else [])
        settings = {
            "max_epochs": 2,
            "max_steps": -1,
            "limit_train_batches": 5,
            "limit_val_batches": 1,
            "enable_checkpointing": True,
            "logger": TensorBoardLogger(tmp_path, name="", version=name),
        }
        fitted = make_trainer(callbacks, **{**settings, **trainer})
        fitted.fit(model, datamodule=make_data(**dict(data)), ckpt_path=resume, weights_only=True)
        end = read_checkpoint(tmp_path / name / "checkpoints/last.ckpt")
        return end, le.open_run(tmp_path / name).load(), order

    return run


def same_end(a: dict[str, Any], b: dict[str, Any]) -> bool:
    moments = [checkpoint["optimizer_states"][0]["state"] for checkpoint in (a, b)]
    return (
        a["global_step"] == b["global_step"]
        and a["epoch"] == b["epoch"]
        and all(torch.equal(value, b["state_dict"][name]) for name, value in a["state_dict"].items())
        and all(torch.equal(v, moments[1][k][name]) for k, row in moments[0].items() for name, v in row.items())
        and a["lr_schedulers"] == b["lr_schedulers"]
        and a["lightning_emerge"] == b["lightning_emerge"]
    )


WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulating": {"accumulate_grad_batches": 2},
    "validating within epochs": {"val_check_interval": 2},
    "by steps": {"max_epochs": -1, "max_steps": 8},
    "with workers": {"data": {"num_workers": 2, "cache_mib": 0}},
}


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
@pytest.mark.filterwarnings("ignore:Checkpoint directory")
@pytest.mark.parametrize("way", WAYS)
def test_going_on_from_any_step_ends_as_if_it_had_never_stopped(way, fit, tmp_path):
    copies = tmp_path / "copies"
    copies.mkdir()
    end, records, order = fit("whole", copies=copies, **WAYS[way])
    steps = sorted(int(path.stem) for path in copies.glob("*.ckpt"))
    assert steps == list(range(end["global_step"]))
    tried = steps if way == "plain" else [1, steps[len(steps) // 2], steps[-1]]
    for step in tried:
        name = f"from_{step}"
        resumed, shown, rest = fit(name, resume=copies / f"{step}.ckpt", **WAYS[way])
        assert rest.ids == order.ids[-len(rest.ids) :], step
        assert rest.epochs == order.epochs[-len(rest.epochs) :], step
        assert same_end(end, resumed), step
        later = records.sel(step=slice(step, None))
        later = later.sel(step=np.intersect1d(later.step, shown.step))
        assert later.step[-1] == end["global_step"]
        assert [m for m in shown.data_vars if not shown[m].sel(step=later.step).equals(later[m])] == [], step
        assert all(later[measure].isnull().all() for measure in set(later.data_vars) - set(shown.data_vars)), step


def test_a_run_that_is_over_goes_on_as_a_longer_one_would(fit, tmp_path):
    longer, records, _ = fit("longer", max_epochs=3)
    fit("short", max_epochs=2)
    extended, shown, _ = fit("short", max_epochs=3, resume=tmp_path / "short/checkpoints/last.ckpt")
    assert same_end(longer, extended)
    assert set(shown.step.values) == set(records.step.values) | {10}  # the shorter run's last look
    assert shown.sel(step=records.step).rdm.equals(records.rdm)


def test_without_the_random_state_the_end_would_differ(fit, tmp_path, monkeypatch):
    copies = tmp_path / "copies"
    copies.mkdir()
    end, _, _ = fit("whole", copies=copies)
    monkeypatch.setattr("lightning_emerge.callbacks.checkpoints.restore_random_state", lambda state: None)
    resumed, _, _ = fit("resumed", resume=copies / "7.ckpt")
    assert not same_end(end, resumed)


# What is saved


def _names(run: Path) -> set[str]:
    return {path.name for path in (run / "checkpoints").iterdir()}


def test_weights_are_kept_on_schedule_and_the_last_checkpoint_is_whole(make_data, make_model, make_trainer, tmp_path):
    keep = le.Checkpoints(le.At([2]), last_every=3)
    make_trainer([keep], enable_checkpointing=True).fit(make_model(), datamodule=make_data())
    run = tmp_path / "run"
    assert _names(run) == {"step=000000.ckpt", "step=000002.ckpt", "step=000005.ckpt", "last.ckpt"}
    kept, last = (read_checkpoint(run / "checkpoints" / name) for name in ("step=000002.ckpt", "last.ckpt"))
    assert kept["global_step"] == 2
    assert "optimizer_states" not in kept
    assert last["global_step"] == 5
    assert last["optimizer_states"]


def test_the_size_is_said_in_advance_and_is_right(make_data, make_model, make_trainer, tmp_path, said):
    callbacks = [le.Checkpoints(le.EverySteps(1)), le.GradientProbe(), le.FilterProbe()]
    trainer = make_trainer(callbacks, enable_checkpointing=True, max_steps=20)
    trainer.fit(make_model(width=16), datamodule=make_data())
    (size,) = [message for message in said if message.startswith("Checkpoints:")]
    assert size.startswith("Checkpoints: 21 of weights, ")
    stated = float(size.split(" MB each")[0].rsplit(" ", 1)[1])
    sizes = [path.stat().st_size for path in (tmp_path / "run/checkpoints").glob("step=*.ckpt")]
    assert len(sizes) == 21
    assert np.mean(sizes) / 1e6 == pytest.approx(stated, rel=0.2, abs=0.05)
    whole = float(size.split("about ")[1].split(" MB")[0])
    assert (tmp_path / "run/checkpoints/last.ckpt").stat().st_size / 1e6 == pytest.approx(whole, rel=0.2, abs=0.15)


def test_nothing_is_saved_in_a_rehearsal(make_data, make_model, make_trainer, tmp_path):
    make_trainer([le.Checkpoints()], enable_checkpointing=True, fast_dev_run=True).fit(
        make_model(), datamodule=make_data()
    )
    assert not (tmp_path / "run").exists()


def test_what_a_killed_save_left_is_swept_and_nothing_else(make_data, make_model, make_trainer, tmp_path):
    folder = tmp_path / "run/checkpoints"
    folder.mkdir(parents=True)
    (tmp_path / "thesis").write_text("precious")
    torn, link = (folder / f".last.ckpt.{digit * 16}.part" for digit in "ab")
    torn.write_bytes(b"torn")
    link.symlink_to(tmp_path / "thesis")
    others = {".mine.part", ".last.ckpt.part", ".last.ckpt.new", f"..ckpt.{'c' * 15}.part"}
    for name in others - {".last.ckpt.part"}:
        (folder / name).write_text("precious")
    (folder / ".last.ckpt.part").symlink_to(tmp_path / "thesis")  # what it was called in version 0.1.0
    make_trainer([le.Checkpoints()], enable_checkpointing=True, max_steps=1).fit(make_model(), datamodule=make_data())
    assert _names(tmp_path / "run") == {"step=000000.ckpt", "step=000001.ckpt", "last.ckpt", link.name, *others}
    assert (tmp_path / "thesis").read_text() == "precious"


def test_what_it_refuses():
    with pytest.raises(ValueError, match="last_every is at least 1; got 0"):
        le.Checkpoints(last_every=0)


def test_a_full_disk_costs_checkpoints_and_records_and_not_the_run(make_data, make_model, make_trainer, small_disk):
    callbacks = [le.Checkpoints(le.EverySteps(1)), le.SimilarityProbe(le.EverySteps(1), ["conv*"])]
    trainer = make_trainer(
        callbacks, enable_checkpointing=True, max_steps=20, logger=False, default_root_dir=small_disk
    )
    with pytest.warns(UserWarning) as caught:  # noqa: PT030 - several, counted below
        trainer.fit(make_model(width=16, head=[400]), datamodule=make_data(bank_exemplars=20))
    said = [str(warning.message) for warning in caught]
    assert trainer.global_step == 20
    assert len([line for line in said if "Checkpoints need" in line]) == 1, said
    assert len([line for line in said if "Checkpoints are saved in" in line and "No space left" in line]) == 1
    assert len([line for line in said if "ArraySink could not write step" in line]) == 1
    steps = le.open_run(small_disk).load().step.values.tolist()
    assert steps == list(range(len(steps)))
    assert 0 < len(steps) < 20
    for path in (small_disk / "checkpoints").glob("*.ckpt"):
        read_checkpoint(path)
    assert not [name for name in os.listdir(small_disk / "checkpoints") if name.endswith(".part")]
