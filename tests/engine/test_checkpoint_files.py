"""Checkpoint files: a changed bit is found, a path is taken to the letter, and no link is written through."""

from __future__ import annotations

import io
import os
import random
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lightning_emerge.engine import checkpoint_files
from lightning_emerge.engine.checkpoint_files import (
    LiteralCheckpointIO,
    find_mismatch,
    read_checkpoint,
    sweep_checkpoints,
)

FLIPS = 200


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5))


@pytest.fixture(scope="module")
def checkpoint() -> dict[str, Any]:
    module = network()
    optimizer = torch.optim.Adam(module.parameters())
    module(torch.randn(2, 3, 4, 4)).sum().backward()
    optimizer.step()
    state = {"optimizer_states": [optimizer.state_dict()], "lightning_emerge": {"random": ["0" * 5000]}}
    return {"global_step": 3, "epoch": 1, "loops": {"done": True}, "state_dict": module.state_dict(), **state}


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def attempt(read: Callable[[Path], Any], path: Path) -> tuple[Any, str]:
    """What is read, or what is said instead."""
    try:
        return read(path), ""
    except ValueError as error:
        return None, str(error)


def outside(content: bytes) -> list[int]:
    """The bytes of a file of which no sum is kept: headers and the room between the parts."""
    inside: set[int] = set()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for part in archive.infolist():
            header = content[part.header_offset : part.header_offset + 30]
            begin = part.header_offset + 30 + int.from_bytes(header[26:28], "little")
            begin += int.from_bytes(header[28:30], "little")
            inside |= set(range(begin, begin + part.file_size))
    return [place for place in range(len(content)) if place not in inside]


@pytest.mark.parametrize("where", ["anywhere", "in headers"])
@pytest.mark.parametrize("whole", [True, False])
def test_of_200_changed_bits_none_is_read_as_other_numbers(where, whole, checkpoint, tmp_path):
    saved = checkpoint if whole else {name: checkpoint[name] for name in ("global_step", "state_dict")}
    path = tmp_path / "last.ckpt"
    LiteralCheckpointIO().save_checkpoint(saved, path)
    content = path.read_bytes()
    places = range(len(content)) if where == "anywhere" else outside(content)
    moments, refused = random.Random(0), 0
    for _ in range(FLIPS):
        changed = bytearray(content)
        changed[moments.choice(places)] ^= 1 << moments.randrange(8)
        path.write_bytes(changed)
        for read in (read_checkpoint, partial(LiteralCheckpointIO().load_checkpoint, weights_only=True)):
            found, said = attempt(read, path)
            assert said.startswith("A checkpoint is a file of") if said else same(saved, found)
            refused += bool(said)
    assert refused > FLIPS / 8


def test_every_part_taken_for_a_folder_is_refused(checkpoint, tmp_path):
    """The one kind of change to a header that torch reads as other numbers, without a word."""
    path = tmp_path / "last.ckpt"
    LiteralCheckpointIO().save_checkpoint(checkpoint, path)
    content = path.read_bytes()
    entries = [place for place in range(len(content)) if content[place : place + 4] == b"PK\x01\x02"]
    assert len(entries) > 10
    for entry in entries:
        changed = bytearray(content)
        changed[entry + 38] ^= 0x10
        path.write_bytes(changed)
        with pytest.raises(ValueError, match="is damaged"):
            read_checkpoint(path)


@pytest.mark.parametrize("name", ["exp::lr0.1", "data:x", "file:x", "memory::x", "a$b~"])
def test_a_path_is_literal(name, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for other in ("exp", "x"):
        Path(other).mkdir()
        Path(other, "notes").write_text("precious")
    path, files = f"{name}/last.ckpt", LiteralCheckpointIO()
    files.save_checkpoint(checkpoint, path)
    assert os.listdir(name) == ["last.ckpt"]
    assert same(checkpoint, read_checkpoint(path))
    assert same(checkpoint, files.load_checkpoint(path, weights_only=True))
    files.remove_checkpoint(path)
    assert os.listdir(name) == []
    files.remove_checkpoint(name)
    assert sorted(os.listdir()) == ["exp", "x"]
    assert [os.listdir(other) for other in ("exp", "x")] == [["notes"], ["notes"]]


def test_no_link_is_written_through(checkpoint, tmp_path, monkeypatch):
    thesis, folder = tmp_path / "thesis", tmp_path / "checkpoints"
    thesis.write_text("precious")
    folder.mkdir()
    names = ["0" * 16, "1" * 16]
    monkeypatch.setattr(checkpoint_files.secrets, "token_hex", lambda size: names[-1])
    for number in names:  # even if somebody knew the name
        (folder / f".last.ckpt.{number}.part").symlink_to(thesis)
    (folder / "last.ckpt").symlink_to(thesis)
    with pytest.raises(FileExistsError):
        LiteralCheckpointIO().save_checkpoint(checkpoint, folder / "last.ckpt")
    monkeypatch.undo()
    LiteralCheckpointIO().save_checkpoint(checkpoint, folder / "last.ckpt")
    assert not (folder / "last.ckpt").is_symlink()
    LiteralCheckpointIO().remove_checkpoint(folder / f".last.ckpt.{names[0]}.part")
    sweep_checkpoints(folder)
    assert (folder / f".last.ckpt.{names[1]}.part").is_symlink()
    assert thesis.read_text() == "precious"


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(ValueError, match=r"A checkpoint is a file of Lightning's; .* is none"):
            read_checkpoint(path)


def test_the_first_difference_between_networks_is_named():
    weights = network().state_dict()
    assert find_mismatch(network(), weights) is None
    assert (
        find_mismatch(network(), {**weights, "4.bias": weights["0.bias"]}) == "it has 4.bias, which the network has not"
    )
    assert find_mismatch(network(), {k: v for k, v in weights.items() if k != "3.bias"}) == (
        "it has no 3.bias, which the network has"
    )
    wider = {**weights, "3.weight": torch.zeros(7, 16)}
    assert find_mismatch(network(), wider) == "its 3.weight has shape (7, 16), the network's (5, 16)"
