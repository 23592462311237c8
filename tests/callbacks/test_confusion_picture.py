"""ConfusionPicture in a fit."""

from __future__ import annotations

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import lightning_emerge as le


def test_each_validation_is_drawn_and_the_sanity_check_is_not(make_data, make_model, make_trainer, tmp_path):
    trainer = make_trainer(
        [le.ConfusionPicture()], limit_val_batches=1, val_check_interval=2, num_sanity_val_steps=1, max_steps=4
    )
    trainer.fit(make_model(), datamodule=make_data())
    events = EventAccumulator(str(tmp_path / "run"), {"images": 0})
    events.Reload()
    assert [event.step for event in events.Images("val/confusion")] == [2, 4]


def test_one_that_cannot_be_drawn_does_not_cost_the_run(make_data, make_model, make_trainer, monkeypatch):
    def fail(_: object) -> None:
        raise ValueError("no such letter")

    monkeypatch.setattr("lightning_emerge.callbacks.confusion.draw_confusion", fail)
    trainer = make_trainer([le.ConfusionPicture()], limit_val_batches=1, val_check_interval=2, max_steps=4)
    with pytest.warns(UserWarning, match="picture val/confusion could not be drawn.*ValueError: no such letter"):
        trainer.fit(make_model(), datamodule=make_data())
    assert trainer.global_step == 4
    with pytest.warns(UserWarning, match="picture test/confusion could not be drawn"):
        trainer.test(trainer.lightning_module, datamodule=make_data(), verbose=False)


def test_tokens_of_any_name_are_drawn(make_photographs, make_model, make_trainer, tmp_path):
    trainer = make_trainer([le.ConfusionPicture()], limit_val_batches=1, val_check_interval=2, max_steps=2)
    trainer.fit(make_model(tokens=2), datamodule=make_photographs("price$x^$y", "_background"))
    events = EventAccumulator(str(tmp_path / "run"), {"images": 0})
    events.Reload()
    assert [event.step for event in events.Images("val/confusion")] == [2]
