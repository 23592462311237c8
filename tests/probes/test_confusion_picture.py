"""ConfusionPicture in a fit."""

from __future__ import annotations

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
