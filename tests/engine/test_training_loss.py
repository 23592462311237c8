"""The training loss that schedules follow: what they hear, and that a run that resumes has the same looks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins import MixedPrecision

import lightning_emerge as le
from lightning_emerge.engine.checkpoint_files import read_checkpoint
from lightning_emerge.engine.training_loss import LOSSES, TrainingLoss, loss_of, name_followers

CPU = torch.device("cpu")


class Hears(le.Schedule):
    """Looks at every third step, and keeps what it hears where the copies of each run can be seen."""

    def __init__(self, kept: list[tuple[int, float]]) -> None:
        self._keep = kept.append  # a bound method, which a copy shares

    def __call__(self, step: int) -> bool:
        return step % 3 == 0

    def hear(self, step: int, loss: float) -> None:
        self._keep((step, loss))

    def __deepcopy__(self, memo: Any) -> Hears:
        copy = Hears([])
        copy._keep = self._keep
        return copy


def never() -> None:
    raise AssertionError("a loss is missing")


# One loss, told to schedules


def test_a_schedule_hears_of_each_step_once_the_next_was_taken():
    kept = []
    loss = TrainingLoss(CPU, never)
    followed = loss.follow(Hears(kept))
    for step in (1, 2, 3):
        loss.add(torch.tensor(10.0 * step, requires_grad=True))
        loss.add(10.0 * step + 1)
        loss.advance(step)
        loss.advance(step)
        assert kept == [(k, 10 * k + 0.5) for k in range(1, step)]
    assert loss.state().tolist() == [10.5, 20.5, 30.5]
    assert [followed(step) for step in range(4)] == [True, False, False, True]


def test_steps_without_a_loss_are_not_a_number_and_one_may_come_late():
    kept = []
    loss = TrainingLoss(CPU, never)
    loss.follow(Hears(kept))
    loss.add(1.0)
    loss.advance(3)
    loss.amend(5.0)
    loss.advance(4)
    np.testing.assert_array_equal(loss.state().numpy(), np.array([np.nan, np.nan, 5, np.nan], np.float32))
    np.testing.assert_array_equal(kept, [(1, np.nan), (2, np.nan), (3, 5), (4, np.nan)])


def test_a_run_that_resumes_hears_all_anew_and_a_shared_schedule_does_not_change():
    shared = le.LossMoved(0.05, window=1)
    losses = [8 - 0.1 * step for step in range(60)]
    whole = TrainingLoss(CPU, never)
    looked = [whole.follow(shared), whole.follow(le.At([1]) | shared)]
    for step, value in enumerate(losses, 1):
        whole.add(value)
        whole.advance(step)
    found = [{step for step in range(60) if schedule(step)} for schedule in looked]
    assert len(found[0]) > 8
    assert found[1] == {1} | found[0]
    for killed in (0, 1, 30, 59):
        part = TrainingLoss(CPU, never)
        part.follow(shared)
        for step in range(1, killed + 1):
            part.add(losses[step - 1])
            part.advance(step)
        resumed = TrainingLoss(CPU, never, killed, part.state())
        rest = resumed.follow(shared)
        for step in range(killed + 1, 61):
            resumed.add(losses[step - 1])
            resumed.advance(step)
        assert {step for step in range(60) if rest(step)} == found[0], killed
        assert torch.equal(resumed.state(), whole.state())


def test_a_run_that_resumes_from_a_checkpoint_without_losses_has_none_of_earlier_steps():
    loss = TrainingLoss(CPU, never, step=2)
    assert loss.follow(le.At([5]))(5), "a schedule that does not follow is itself"
    assert not loss.followed
    kept = []
    loss.follow(Hears(kept))
    np.testing.assert_array_equal(kept, [(1, np.nan), (2, np.nan)])


def test_a_schedule_that_cannot_hear_says_so_when_it_is_asked():
    class Deaf(le.Schedule):
        def __call__(self, step: int) -> bool:
            return True

        def hear(self, step: int, loss: float) -> None:
            raise OSError("planted in hear")

    loss = TrainingLoss(CPU, never)
    deaf = loss.follow(Deaf())
    for step in (1, 2):
        loss.add(1.0)
        assert deaf(step)
        loss.advance(step)
    with pytest.raises(OSError, match="planted in hear"):
        deaf(2)


def test_who_follows_is_named():
    assert name_followers([le.At([1]), le.At([1]) | (le.EverySteps(2) | le.LossMoved())]) == "LossMoved"
    assert name_followers([le.At([1]), len]) == ""


# In a fit


class Noting(Callback):
    """Notes the loss of each batch by Lightning's other way, and the step that it went into."""

    def __init__(self) -> None:
        self.losses: dict[int, list[float]] = {}

    def on_train_batch_end(self, trainer: Trainer, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        step = (
            trainer.global_step if (batch_idx + 1) % trainer.accumulate_grad_batches == 0 else trainer.global_step + 1
        )
        self.losses.setdefault(step, []).append(float(outputs["loss"]) * trainer.accumulate_grad_batches)


SCALED = {"plugins": MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1024.0))}


@pytest.mark.parametrize(
    "trainer", [{}, {"accumulate_grad_batches": 2}, SCALED], ids=["plain", "accumulating", "scaled"]
)
def test_what_is_heard_is_the_mean_loss_of_each_step(trainer, make_data, make_model, make_trainer):
    kept, noting = [], Noting()
    probe = le.CategoryProbe(Hears(kept), on_error="raise")
    fitted = make_trainer([probe, noting], max_steps=4, **trainer)
    fitted.fit(make_model(), datamodule=make_data())
    expected = [np.mean(noting.losses[step]) for step in (1, 2, 3)]
    assert len(noting.losses[1]) == trainer.get("accumulate_grad_batches", 1)
    assert [step for step, _ in kept] == [1, 2, 3]
    np.testing.assert_allclose([loss for _, loss in kept], expected, rtol=1e-3 if "plugins" in trainer else 1e-6)


class TwoOptimizers(le.TokenClassifier):
    automatic_optimization = False

    def configure_optimizers(self) -> Any:
        return [super().configure_optimizers(), torch.optim.SGD(self.network.parameters(), 0.1)]


class ByHand(le.TokenClassifier):
    """Trains with the backward pass that it is given."""

    automatic_optimization = False
    backward_pass: Callable[[LightningModule, torch.Tensor], object] = LightningModule.manual_backward

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        type(self).backward_pass(self, torch.nn.functional.cross_entropy(self(batch["image"]), batch["label"]))
        optimizer.step()


class ByHandAlone(ByHand):
    @staticmethod
    def backward_pass(module: LightningModule, loss: torch.Tensor) -> None:
        loss.backward()


def test_several_optimizers_have_no_one_loss(make_data, make_model, make_trainer, tmp_path):
    trainer = make_trainer([le.CategoryProbe(le.At([3]) | le.LossMoved())])
    with pytest.raises(ValueError, match=r"LossMoved follows .* one optimizer; this run has 2.*LogSpaced"):
        trainer.fit(TwoOptimizers(make_model().network), datamodule=make_data())
    assert not (tmp_path / "run/records.zarr").exists()


def test_backward_passes_by_hand_are_heard_and_one_that_is_not_is_said(make_data, make_model, make_trainer, tmp_path):
    def hear(kind: type[le.TokenClassifier]) -> list[tuple[int, float]]:
        kept: list[tuple[int, float]] = []
        probe = le.CategoryProbe(Hears(kept), on_error="raise")
        trainer = make_trainer([probe], max_steps=3, logger=False, default_root_dir=tmp_path / kind.__name__)
        trainer.fit(kind(make_model().network, lambda p: torch.optim.Adam(p, lr=1e-3)), datamodule=make_data())
        return kept

    assert hear(ByHand) == hear(le.TokenClassifier)
    with pytest.warns(UserWarning, match=r"Hears follows the training loss; none came .*manual_backward"):
        np.testing.assert_array_equal(hear(ByHandAlone), [(1, np.nan), (2, np.nan)])


def test_a_fit_that_no_schedule_listens_to_collects_nothing(make_data, make_model, make_trainer):
    keep = le.Checkpoints()
    trainer = make_trainer([le.CategoryProbe(), keep], max_steps=1, enable_checkpointing=True)
    trainer.fit(make_model(), datamodule=make_data())
    assert loss_of(trainer) is None
    assert LOSSES not in read_checkpoint(keep.find_last())


# A run with it: killed, resumed, replayed


class Sinking(le.TokenClassifier):
    """Its loss sinks as planned, whatever it learns."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return super().training_step(batch, batch_idx) + 60 - 2.5 * self.global_step


class Saves(Callback):
    """Keeps a checkpoint of each step, before any probe has had its turn."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        trainer.save_checkpoint(self.home / f"{trainer.global_step}.ckpt", weights_only=False)


def fit(
    folder: Path, given: tuple[Any, Any, Any], before: Sequence[Callback] = (), *, turned: bool = False, **changes: Any
) -> dict[str, Any]:
    """Fits with probes and Checkpoints that follow the loss; gives `last.ckpt`, the records, and the steps kept."""
    make_data, make_model, make_trainer = given
    follows = le.LossMoved(0.08, window=2)
    callbacks: list[Callback] = [
        le.CategoryProbe(follows, on_error="raise"),
        le.FilterProbe(follows | le.At([2]), on_error="raise"),
        le.Checkpoints(le.At([1]) | le.LossMoved(0.08, window=2), last_every=100),
    ]
    logger = TensorBoardLogger(folder.parent, name="", version=folder.name)
    settings = {"max_steps": 20, "enable_checkpointing": True, "logger": logger}
    resume = changes.pop("ckpt_path", None)
    trainer = make_trainer([*before, *(callbacks[::-1] if turned else callbacks)], **{**settings, **changes})
    trainer.fit(Sinking(make_model().network), datamodule=make_data(), ckpt_path=resume, weights_only=True)
    kept = {int(path.stem[5:]) for path in (folder / "checkpoints").glob("step=*.ckpt")}
    return {
        "end": read_checkpoint(folder / "checkpoints/last.ckpt"),
        "records": le.open_run(folder).load(),
        "kept": kept,
    }


@pytest.fixture
def given(make_data: Any, make_model: Any, make_trainer: Any) -> tuple[Any, Any, Any]:
    return make_data, make_model, make_trainer


def looked(records: Any, name: str) -> set[int]:
    values = records[name]
    some = values.notnull().any([axis for axis in values.dims if axis != "step"])
    return {int(step) for step, is_there in zip(values.step.values, some.values, strict=True) if is_there}


@pytest.mark.filterwarnings("ignore:Checkpoint directory")
def test_a_run_that_follows_its_loss_is_the_same_killed_resumed_and_replayed(given, tmp_path):
    copies = tmp_path / "copies"
    copies.mkdir()
    whole = fit(tmp_path / "whole", given, [Saves(copies)])
    looks = looked(whole["records"], "bank_accuracy")
    assert 6 <= len(looks) <= 14
    assert {0, 20} < looks
    assert looked(whole["records"], "kernels") == looks | {2}
    assert whole["kept"] == looks | {1}

    for step in (1, 7, 13):
        name = f"from_{step}"
        turned = step == 7
        resumed = fit(tmp_path / name, given, turned=turned, ckpt_path=copies / f"{step}.ckpt")
        later = {one for one in looks if one > step}
        assert {one for one in looked(resumed["records"], "bank_accuracy") if one > step} == later, step
        assert {one for one in resumed["kept"] if one > step} == {one for one in whole["kept"] if one > step}, step
        assert torch.equal(resumed["end"][LOSSES], whole["end"][LOSSES])
        shared = whole["records"].sel(step=sorted(later))
        assert resumed["records"].bank_accuracy.sel(step=shared.step).equals(shared.bank_accuracy), step

    make_data, make_model, _ = given
    data = make_data()
    data.setup("fit")
    le.replay(
        make_model().network,
        tmp_path / "whole/checkpoints",
        [le.CategoryProbe(le.LossMoved())],
        data.stimulus_bank(),
        tmp_path / "replayed",
    )
    replayed = le.open_run(tmp_path / "replayed").load()
    assert set(replayed.step.values.tolist()) == whole["kept"]
    both = sorted(looks)
    assert replayed.bank_accuracy.sel(step=both).equals(whole["records"].bank_accuracy.sel(step=both))


def test_following_changes_nothing_of_training_and_how_often_is_estimated(given, tmp_path, said):
    followed = fit(tmp_path / "followed", given)["end"]
    assert any("Checkpoints: about 21 of weights" in line for line in said), said
    make_data, make_model, make_trainer = given
    alone = Sinking(make_model().network)
    make_trainer([], max_steps=20, logger=False, default_root_dir=tmp_path).fit(alone, datamodule=make_data())
    for name, value in alone.state_dict().items():
        assert torch.equal(value, followed["state_dict"][name]), name
