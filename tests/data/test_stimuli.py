"""Stimuli: a tensor, a folder or a data module as the bank of any network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentParser
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


class Arguments(LightningDataModule):
    """Batches as of a language model: arguments by name, with the labels and a text beside."""

    def __init__(self, rows: list) -> None:
        super().__init__()
        self.rows = rows

    def val_dataloader(self):
        return DataLoader(self.rows, batch_size=4)


def test_arguments_by_name_have_their_labels_beside_them():
    rows = [
        {"input_ids": torch.tensor([k, 1]), "attention_mask": torch.ones(2) > k, "labels": k % 2, "text": str(k)}
        for k in range(7)
    ]
    bank = le.Stimuli(Arguments(rows), each=2).bank()
    assert set(bank.inputs) == {"input_ids", "attention_mask"}
    assert bank.inputs["input_ids"][:, 0].tolist() == [0, 2, 1, 3]
    assert bank.inputs["input_ids"].dtype == torch.int64
    assert bank.labels.tolist() == [0, 0, 1, 1]


def test_several_arguments_in_a_batch_and_labels_of_a_binary_loss():
    rows = [((torch.full((3,), float(k)), torch.tensor(k)), torch.tensor([float(k % 2)])[0]) for k in range(6)]
    bank = le.Stimuli(Arguments(rows), each=2).bank()
    assert bank.inputs[0][:, 0].tolist() == [0, 2, 1, 3]
    assert bank.inputs[1].tolist() == [0, 2, 1, 3]
    with pytest.raises(ValueError, match=r"whole numbers.*regression"):
        le.Stimuli(Arguments([(torch.ones(2), 0.5)] * 4)).bank()


def test_stimuli_of_several_shapes_are_refused():
    rows = [(torch.ones(2 + k // 4), 0) for k in range(8)]
    with pytest.raises(ValueError, match=r"one shape; theirs are \(2,\) and \(3,\)"):
        le.Stimuli(Arguments(rows)).bank()


def test_any_structure_of_tensors_is_taken_as_it_is():
    ids = torch.arange(12).view(4, 3)
    bank = le.Stimuli({"ids": ids, "mask": ids > 2}, [0, 1, 0, 1], ["p", "q"], texts=["a", "b", "c", "d"]).bank()
    assert torch.equal(bank.inputs["ids"], ids)
    assert bank.texts == ("a", "b", "c", "d")
    assert torch.equal(le.Stimuli(ids).bank().inputs, ids)
    assert len(le.Stimuli((torch.ones(4, 2), torch.arange(4))).bank()) == 4


def test_the_task_is_given_with_the_stimuli(make_data):
    bank = le.Stimuli(torch.ones(3, 2), loss="learn", targets="inputs", outputs="z", positions="mean").bank()
    assert (bank.task.loss, bank.task.targets, bank.task.outputs, bank.task.positions) == (
        "learn",
        "inputs",
        "z",
        "mean",
    )
    assert le.Stimuli(make_data(), outputs="z").bank().task.outputs == "z"
    kept = le.Stimuli(make_data()).bank()
    assert kept.task.outputs is None


def test_the_task_can_be_written_in_a_configuration():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(le.Stimuli, "stimuli")
    yaml = "stimuli: {source: FOLDER, loss: torch.nn.functional.mse_loss, targets: inputs, outputs: logits}"
    given = parser.instantiate_classes(parser.parse_string(yaml)).stimuli._task
    assert (given.loss, given.targets, given.outputs) == (torch.nn.functional.mse_loss, "inputs", "logits")
    given = parser.parse_string("stimuli: {source: FOLDER, loss: learn, outputs: 1}").stimuli
    assert (given.source, given.loss, given.outputs) == ("FOLDER", "learn", 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"source": {"ids": torch.arange(4), "text": "no"}}, "got str at 'text'"),
        ({"source": (torch.ones(4, 2), torch.ones(3))}, "got 4 0, 3 1, 4 labels"),
        ({"source": {"a": torch.ones(0, 2)}}, r"got torch.float32 \(0, 2\) of a"),
        ({"source": torch.ones(4, 2), "targets": torch.ones(3)}, "targets have a row for each stimulus"),
        ({"source": torch.ones(4, 2), "texts": ["a"]}, "one text a stimulus; got 1 for 4"),
        ({"source": torch.ones(4, 2), "loss": 3}, "loss is a function"),
    ],
)
def test_what_it_refuses_of_structures_and_tasks(arguments, words):
    with pytest.raises(ValueError, match=words):
        le.Stimuli(**arguments)
