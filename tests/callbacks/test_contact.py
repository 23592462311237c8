"""ContactSheet in a fit."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch import LightningDataModule
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import lightning_emerge as le


def test_the_sheet_is_drawn_once_at_the_start(make_data, make_model, make_trainer, tmp_path):
    make_trainer([le.ContactSheet()]).fit(make_model(), datamodule=make_data())
    events = EventAccumulator(str(tmp_path / "run"), {"images": 0})
    events.Reload()
    assert [event.step for event in events.Images("exemplars")] == [0]
    with Image.open(tmp_path / "run" / "exemplars.png") as picture:
        assert picture.size[0] == 1100


def test_training_is_not_disturbed_by_it(make_data, make_model, make_trainer):
    weights = []
    for callbacks in ([], [le.ContactSheet()]):
        model = make_model()
        make_trainer(callbacks).fit(model, datamodule=make_data())
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*weights)


def test_photographs_in_folders_of_any_name_have_a_sheet(make_photographs, make_model, make_trainer, tmp_path):
    data = make_photographs("price$x^$y", "_background")
    make_trainer([le.ContactSheet()]).fit(make_model(tokens=2), datamodule=data)
    assert (tmp_path / "run" / "exemplars.png").exists()


@pytest.mark.parametrize("stage", ["contact_sheet", "keep_picture"])
def test_one_that_cannot_be_drawn_or_written_does_not_cost_the_run(
    stage, make_data, make_model, make_trainer, tmp_path, monkeypatch
):
    def fail(*_: object) -> None:
        raise OSError("no inodes")

    monkeypatch.setattr(f"lightning_emerge.callbacks.contact.{stage}", fail)
    trainer = make_trainer([le.ContactSheet()])
    with pytest.warns(UserWarning, match="picture exemplars could not be drawn.*OSError: no inodes"):
        trainer.fit(make_model(), datamodule=make_data())
    assert trainer.global_step == 5
    assert not (tmp_path / "run" / "exemplars.png").exists()


@pytest.mark.parametrize("loggers", [False, True])
def test_data_of_others_and_runs_without_loggers_get_none(loggers, make_data, make_model, make_trainer, tmp_path):
    class Others(LightningDataModule):
        def __init__(self) -> None:
            super().__init__()
            self.inner = make_data()
            self.inner.setup("fit")

        def train_dataloader(self):
            return self.inner.train_dataloader()

        def val_dataloader(self):
            return self.inner.val_dataloader()

    changes = {} if loggers else {"logger": False, "default_root_dir": tmp_path}
    data = Others() if loggers else make_data()
    make_trainer([le.ContactSheet()], **changes).fit(make_model(), datamodule=data)
    assert not list(tmp_path.rglob("exemplars.png"))
