"""Stimuli: a tensor, a folder or a data module as the bank of any network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

import lightning_emerge as le


def test_a_tensor_is_taken_as_it_is():
    images = torch.randn(4, 3, 8, 8)
    bank = le.Stimuli(images, [1, 0, 1, 0], ["cat", "ship"]).bank()
    assert torch.equal(bank.images, images)
    assert bank.labels.tolist() == [1, 0, 1, 0]
    assert bank.tokens == ("cat", "ship")
    assert bank.ids[:2] == ("stimulus/000000", "stimulus/000001")
    assert bank.latents is None


def test_stimuli_without_labels_are_of_one_token():
    bank = le.Stimuli(torch.randn(3, 5)).bank()
    assert (bank.labels.tolist(), bank.tokens) == ([0, 0, 0], ("0",))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"source": torch.zeros(3, 3, 8, 8, dtype=torch.uint8)}, "a tensor is floating"),
        ({"source": torch.zeros(0, 3)}, "a tensor is floating"),
        ({"source": torch.zeros(3, 3), "labels": [0, 1]}, "got 2 labels from 0 to 1 for 3 stimuli"),
        ({"source": torch.zeros(2, 3), "labels": [0, 2], "tokens": ["a", "b"]}, "a label from 0 to 1"),
        ({"source": torch.zeros(2, 3), "labels": [0, -1]}, "from -1 to 0"),
        ({"source": "here", "labels": [0]}, "labels are given with a tensor"),
        ({"source": torch.zeros(2, 3), "transform": torch.nn.Identity()}, "transform is given with a folder"),
        ({"source": "here", "each": 1}, "each is at least 2; got 1"),
        ({"source": "here", "size": 4}, "size is at least 8; got 4"),
    ],
)
def test_what_it_refuses(arguments, words):
    with pytest.raises(ValueError, match=words):
        le.Stimuli(**arguments)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for token, shade in (("ant", 0), ("bee", 255)):
        (tmp_path / token).mkdir()
        for number in range(3):
            Image.fromarray(np.full((12, 10, 3), shade, np.uint8)).save(tmp_path / token / f"{number}.png")
    return tmp_path


def test_a_folder_of_pictures(pictures):
    bank = le.Stimuli(str(pictures), each=2, size=8).bank()
    assert bank.images.shape == (4, 3, 8, 8)
    assert bank.ids == ("ant/0.png", "ant/1.png", "bee/0.png", "bee/1.png")
    assert bank.tokens == ("ant", "bee")
    assert bank.images[:, 0, 0, 0].tolist() == [-2, -2, 2, 2]


def test_a_folder_with_the_networks_own_transform_and_order(pictures):
    bank = le.Stimuli(str(pictures), tokens=["bee", "ant"], size=8, transform=lambda image: image / 255).bank()
    assert bank.tokens == ("bee", "ant")
    assert bank.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert bank.images[:, 0, 0, 0].tolist() == [1, 1, 1, 0, 0, 0]


def test_a_folder_with_other_tokens_is_refused(pictures):
    with pytest.raises(ValueError, match="cow only in one of the two"):
        le.Stimuli(str(pictures), tokens=["ant", "bee", "cow"]).bank()


class Plain(LightningDataModule):
    """A data module that knows nothing of this package."""

    def __init__(self, *, mapping: bool = False) -> None:
        super().__init__()
        self.mapping = mapping

    def val_dataloader(self):
        images = torch.arange(20.0)[:, None].expand(20, 3)
        labels = torch.tensor([0, 0, 0, 0, 1, 1, 2, 2, 2, 2] * 2)
        if not self.mapping:
            return DataLoader(TensorDataset(images, labels), batch_size=7)
        rows = [{"image": image, "label": label} for image, label in zip(images, labels, strict=True)]
        return DataLoader(rows, batch_size=7)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("mapping", [False, True])
def test_a_foreign_data_module_gives_the_first_of_each_label(mapping):
    bank = le.Stimuli(Plain(mapping=mapping), each=3).bank()
    assert bank.images[:, 0].tolist() == [0, 1, 2, 4, 5, 14, 6, 7, 8]
    assert bank.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert bank.tokens == ("0", "1", "2")


def test_a_data_module_of_this_package_gives_its_own_bank(make_data):
    bank = le.Stimuli(make_data()).bank()
    assert bank.ids[0] == "bank/dax/000000"
    assert bank.latents is not None
    assert bank.latents["id"].tolist() == list(bank.ids)


def test_batches_of_another_form_are_refused(monkeypatch):
    data = Plain()
    monkeypatch.setattr(data, "val_dataloader", lambda: [torch.zeros(3)])
    with pytest.raises(ValueError, match="validation batches are"):
        le.Stimuli(data).bank()
