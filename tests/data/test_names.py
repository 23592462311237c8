"""What a token may be called, in whichever way its name comes, and what ids of files are."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from children import run_group
from torchvision.datasets import VisionDataset

import lightning_emerge as le
from lightning_emerge.data.grammar.files import write_grammar
from lightning_emerge.data.grammar.tokens import DEFAULT_GRAMMAR
from lightning_emerge.data.names import MOST, check_token, file_id
from lightning_emerge.records import StimulusBank
from lightning_emerge.store.predictions import write_predictions

RULE = "A token's name is 1 to 200 bytes of UTF-8 without control characters; got "
WRONG = ["", "x" * (MOST + 1), "猫" * 67, "a\0b", "caf\udce9", "two\nlines", "a\tb", "\x85", "\u2028"]
RIGHT = ["dax", "price$x^$y", "_background", "x" * MOST, "猫" * 66, "\U0001f600", "a b", "%s{0}"]


@pytest.mark.parametrize("name", RIGHT)
def test_names_that_can_be_written(name):
    assert check_token(name) == name


@pytest.mark.parametrize("name", WRONG, ids=ascii)
def test_names_that_cannot(name):
    with pytest.raises(ValueError, match=RULE) as refused:
        check_token(name)
    str(refused.value).encode("ascii")  # it can be said on any terminal
    assert len(str(refused.value)) < 400
    assert "Rename" in str(refused.value)


class _Classes(VisionDataset):
    def __init__(self, name: str) -> None:
        super().__init__("")
        self.classes, self.targets = [name, "dog"], [0, 1] * 20

    def __len__(self) -> int:
        return 40

    def __getitem__(self, at: int) -> tuple[torch.Tensor, int]:
        return torch.full((3, 8, 8), at, dtype=torch.uint8), at % 2


def grammar(name: str, folder: Path) -> object:
    first, *others = DEFAULT_GRAMMAR.tokens
    return le.Grammar((replace(first, name=name), *others))


def file_of_grammar(name: str, folder: Path) -> object:
    written = write_grammar(DEFAULT_GRAMMAR).replace("dax", json.dumps(name))
    (folder / "own.yaml").write_text(written)
    return le.read_grammar(folder / "own.yaml")


def folders(name: str, folder: Path) -> object:
    for token in (name, "dog"):
        (folder / token).mkdir()
        (folder / token / "1.png").touch()
    return le.FolderDataModule(str(folder), min_exemplars=1)


def stimuli_in_folders(name: str, folder: Path) -> object:
    for token in (name, "dog"):
        (folder / token).mkdir()
        (folder / token / "1.png").touch()
    return le.Stimuli(str(folder)).bank()


def stimuli(name: str, folder: Path) -> object:
    return le.Stimuli(torch.zeros(2, 3, 8, 8), [0, 1], [name, "dog"])


def vision(name: str, folder: Path) -> object:
    return le.VisionDataModule(_Classes(name), min_exemplars=2)


@pytest.mark.parametrize("make", [grammar, file_of_grammar, folders, stimuli_in_folders, stimuli, vision])
@pytest.mark.parametrize("name", ["caf\udce9", "x" * 201], ids=ascii)
def test_they_are_refused_wherever_they_come_from(make: Callable[[str, Path], object], name, tmp_path):
    with pytest.raises(ValueError, match=RULE):
        make(name, tmp_path)


@pytest.mark.parametrize("what", ["ids", "tokens"])
@pytest.mark.parametrize("name", ["caf\udce9", "a\0b"], ids=ascii)
def test_a_bank_of_others_holds_text(what, name):
    given = {"ids": ("one",), "tokens": ("dax",), what: (name,)}
    with pytest.raises(ValueError, match=f"The {what} of a stimulus bank are text"):
        StimulusBank(torch.zeros(1, 3, 8, 8), torch.zeros(1, dtype=torch.int64), **given)


def test_ids_of_files_are_paths_and_stay_apart():
    names = [b"a/b.png", "é/猫.png".encode(), b"caf\xe9.png", b"caf\xc3\xa9.png", b"\\\xe9", b"\xe9"]
    ids = [file_id(Path(os.fsdecode(name))) for name in names]
    assert ids == ["a/b.png", "é/猫.png", "caf\\xe9.png", "café.png", "\\\\\\xe9", "\\xe9"]


def latin(data: le.FolderDataModule) -> le.FolderDataModule:
    """Gives one photograph of each token a name in Latin-1."""
    for token in data.tokens:
        (data.root / token / "0.png").rename(data.root / token / os.fsdecode(b"caf\xe9.png"))
    return le.FolderDataModule(
        str(data.root), image_size=16, batch_size=4, min_exemplars=2, bank_exemplars=4, cache=None
    )


def test_photographs_with_names_in_latin_1_are_recorded_and_predicted(
    make_photographs, make_model, make_trainer, tmp_path
):
    data = latin(make_photographs("cat", "dog"))
    probe = le.SimilarityProbe(on_error="raise")
    trainer = make_trainer([probe, le.ContactSheet()])
    trainer.fit(make_model(tokens=2), datamodule=data)
    assert le.open_run(tmp_path / "run").stimulus.size == 8
    everything = [name for split in data._splits.values() for name in split.ids]
    assert sum(name.endswith("/caf\\xe9.png") for name in everything) == 2


def test_predictions_of_any_ids_are_written(tmp_path):
    batch = {"id": ["b\udce9", "a"], "token": ["dax", "wug"], "probabilities": torch.tensor([[0.9, 0.1], [0.2, 0.8]])}
    assert write_predictions(tmp_path / "new" / "p.csv", ["dax", "caf\udce9"], [batch]) == 2
    rows = list(csv.reader((tmp_path / "new" / "p.csv").read_text(encoding="utf-8").splitlines()))
    assert rows[0] == ["id", "token", "p_dax", "p_caf\\udce9"]
    assert [row[0] for row in rows[1:]] == ["a", "b\\udce9"]
    assert np.array(rows[1:])[:, 2].astype(float).tolist() == [0.2, 0.9]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["p.csv"]


@pytest.mark.slow
def test_a_command_refuses_such_a_token_in_one_line_before_anything_is_written(tmp_path):
    for token in (b"caf\xe9", b"dog"):
        (tmp_path / "photographs" / os.fsdecode(token)).mkdir(parents=True)
    config = Path(__file__).parents[2] / "configs" / "flowers5.yaml"
    command = ["-m", "lightning_emerge", "fit", "--config", config, "--data.root", "photographs"]
    ended = run_group([sys.executable, *command], cwd=tmp_path, ready=True)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"lightning: {RULE}'caf\\udce9'")
    assert len(ended.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["photographs"]
