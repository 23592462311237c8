"""Pictures of the stimuli that a fit leaves beside its records."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import lightning_emerge as le
from lightning_emerge.engine.thumbnails import keep_thumbnails
from lightning_emerge.records import StimulusBank


def _bank(images: torch.Tensor) -> StimulusBank:
    count = len(images)
    return StimulusBank(images, torch.zeros(count, dtype=torch.int64), tuple(f"s{k}" for k in range(count)), ("dax",))


def _read(folder):
    table = json.loads((folder / "stimuli.json").read_text())
    with Image.open(folder / "stimuli.png") as picture:
        return table, np.asarray(picture)


def _tile(table, sheet, number):
    row, column = divmod(number, table["columns"])
    height, width = table["height"], table["width"]
    return sheet[row * height : (row + 1) * height, column * width : (column + 1) * width]


def test_pictures_lie_in_the_order_of_the_bank(tmp_path):
    images = torch.arange(7.0)[:, None, None, None].expand(7, 3, 6, 4) * torch.tensor([1.0, -1.0, 5.0])[:, None, None]
    keep_thumbnails(str(tmp_path), _bank(images))
    table, sheet = _read(tmp_path)
    assert table == {"columns": 3, "width": 4, "height": 6, "stimuli": [f"s{k}" for k in range(7)]}
    assert sheet.shape == (18, 12, 3)
    for number in range(7):
        grey = round(number / 6 * 255)
        tile = _tile(table, sheet, number)
        assert (abs(tile.astype(int) - [grey, 255 - grey, grey]) <= 1).all()


@pytest.mark.parametrize(("channels", "size"), [(1, (8, 8)), (2, (8, 8)), (3, (200, 100)), (5, (300, 3))])
def test_any_images_have_pictures_of_64_pixels_at_most(channels, size, tmp_path):
    images = torch.rand(5, channels, *size, generator=torch.Generator().manual_seed(0))
    keep_thumbnails(str(tmp_path), _bank(images))
    table, sheet = _read(tmp_path)
    scale = min(1, 64 / max(size))
    assert (table["height"], table["width"]) == tuple(max(1, round(side * scale)) for side in size)
    assert sheet.shape[2] == 3
    if channels == 1:
        assert (sheet[..., 0] == sheet[..., 1]).all()


def test_a_fit_leaves_them_when_it_begins_and_tells_tensorboard(make_trainer, make_data, make_model, tmp_path):
    data = make_data()
    make_trainer([le.CategoryProbe(on_error="raise")]).fit(make_model(), data)
    table, sheet = _read(tmp_path / "run")
    bank = data.stimulus_bank()
    assert table["stimuli"] == list(bank.ids)
    low, high = bank.images.amin((0, 2, 3)), bank.images.amax((0, 2, 3))
    expected = (bank.images[4] - low[:, None, None]) / (high - low)[:, None, None] * 255
    np.testing.assert_allclose(_tile(table, sheet, 4), expected.permute(1, 2, 0).numpy(), atol=0.51)
    events = EventAccumulator(str(tmp_path / "run"))
    events.Reload()
    assert list(events.PluginTagToContent("emerge")) == ["emerge"]


def test_a_run_without_a_bank_has_none_and_one_without_probes_tells_nothing(
    make_trainer, make_data, make_model, tmp_path
):
    make_trainer([le.GradientProbe(on_error="raise")], max_steps=1).fit(make_model(), make_data())
    assert not (tmp_path / "run" / "stimuli.png").exists()


def test_a_disk_that_fails_does_not_cost_the_run(make_trainer, make_data, make_model, tmp_path):
    (tmp_path / "run" / "stimuli.png").mkdir(parents=True)
    trainer = make_trainer([le.CategoryProbe(on_error="raise")])
    with pytest.warns(UserWarning, match="Pictures of the stimuli were not kept"):
        trainer.fit(make_model(), make_data())
    assert trainer.global_step == 5
    assert not (tmp_path / "run" / "stimuli.json").exists()


def test_stimuli_that_are_no_pictures_are_curves(make_trainer, tmp_path):
    class Line(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(6, 2)

        def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
            return self.layer(batch).square().mean()

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return self.layer(rows)

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), 0.1)

    stimuli = le.Stimuli(torch.randn(20, 6), labels=[0, 1] * 10)
    trainer = make_trainer([stimuli, le.CategoryProbe(schedule=le.EverySteps(2), layers=["layer"], on_error="raise")])
    trainer.fit(Line(), torch.utils.data.DataLoader(list(torch.randn(20, 6)), batch_size=2))
    assert trainer.global_step == 5
    table, sheet = _read(tmp_path / "run")
    assert (len(table["stimuli"]), table["columns"]) == (20, 5)
    assert sheet.shape == (4 * 64, 5 * 64, 3)


@pytest.mark.parametrize("inputs", [torch.randn(3, 2, 3, 4, 5), torch.arange(12).view(3, 4)], ids=["volumes", "ids"])
def test_what_is_neither_an_image_nor_a_row_of_numbers_has_no_picture(inputs, tmp_path):
    keep_thumbnails(str(tmp_path), _bank(inputs))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("lines", [0, 1, 12])
def test_rows_of_numbers_and_series_are_curves_on_the_range_of_all(lines, tmp_path):
    ramp = torch.linspace(0, 1, 9)
    rows = torch.stack([ramp, 1 - ramp, torch.zeros(9)])
    keep_thumbnails(str(tmp_path), _bank(rows[:, None].expand(3, lines, 9) if lines else rows))
    table, sheet = _read(tmp_path)
    up, down, flat = (_tile(table, sheet, number)[..., 0] < 128 for number in range(3))
    assert up.shape == (64, 64)
    assert up[63, 0]
    assert up[0, 63]
    assert not up[0, 0]
    assert (down == up[::-1]).mean() > 0.99
    assert flat[63].all()
    assert not flat[:63].any()


def test_texts_are_written_and_kept_beside_the_pictures(tmp_path):
    texts = ("the cat sat on the mat $x^2$", "", "s\u00e9 " * 90)
    ids = torch.arange(12).view(3, 4)
    bank = StimulusBank({"ids": ids}, torch.zeros(3, dtype=torch.int64), ("a", "b", "c"), ("dax",), texts=texts)
    keep_thumbnails(str(tmp_path), bank)
    table, sheet = _read(tmp_path)
    assert table["texts"] == list(texts)
    assert (table["width"], table["height"]) == (64, 64)
    ink = [(_tile(table, sheet, number) < 128).mean() for number in range(3)]
    assert ink[0] > 0.02
    assert ink[1] == 0
    assert ink[2] > 0.02


def test_pictures_that_cannot_be_kept_do_not_cost_the_run(make_trainer, make_data, make_model, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError("planted")

    monkeypatch.setattr("lightning_emerge.engine.opening.keep_thumbnails", fail)
    trainer = make_trainer([le.SimilarityProbe()], max_steps=1)
    with pytest.warns(UserWarning, match="stimuli were not kept.*planted"):
        trainer.fit(make_model(), datamodule=make_data())
    assert trainer.global_step == 1
