"""Anyone's checkpoints: found with their steps, read as tensors alone, and fitted to the network by name."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from lightning_emerge.engine.replay import load_weights
from lightning_emerge.engine.weight_files import list_checkpoints, read_weights

WEIGHTS = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.tensor([7.0, 8.0])}


def network() -> nn.Linear:
    return nn.Linear(3, 2)


def save(path: Path, content: Any = WEIGHTS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(content, path)
    else:
        torch.save(content, path)
    return path


def save_parts(folder: Path, suffix: str = "safetensors") -> Path:
    """A folder as Hugging Face's saves those of large networks."""
    listed = {}
    for number, (name, value) in enumerate(WEIGHTS.items(), 1):
        part = f"model-{number:05d}-of-00002.{suffix}"
        save(folder / part, {name: value})
        listed[name] = part
    index = {"safetensors": "model.safetensors.index.json", "bin": "pytorch_model.bin.index.json"}[suffix]
    (folder / index).write_text(json.dumps({"metadata": {"total_size": 32}, "weight_map": listed}))
    return folder


def save_trainers(folder: Path, step: int) -> Path:
    """A folder as Hugging Face's Trainer leaves it, with what else lies there."""
    save(folder / "model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        save(folder / name, {"state": {}})
    (folder / "training_args.bin").write_bytes(b"a pickle")
    (folder / "config.json").write_text("{}")
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": []}))
    return folder


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: save(folder / "a.pt"),
        lambda folder: save(folder / "a.pth", {"epoch": 3, "model": WEIGHTS, "optimizer": {"lr": 0.1}}),
        lambda folder: save(folder / "a.pt", {"model_state_dict": WEIGHTS}),
        lambda folder: save(folder / "a.pt", {"net": WEIGHTS, "best": 0.9}),
        lambda folder: save(folder / "a.ckpt", {"state_dict": WEIGHTS, "global_step": 9}),
        lambda folder: save(folder / "a.safetensors"),
        lambda folder: save(folder / "checkpoint-9/model.safetensors").parent,
        lambda folder: save(folder / "checkpoint-9/pytorch_model.bin").parent,
        lambda folder: save_parts(folder / "checkpoint-9"),
        lambda folder: save_parts(folder / "checkpoint-9", "bin"),
        lambda folder: save_trainers(folder / "checkpoint-9", 9),
    ],
)
def test_weights_are_found_wherever_they_lie(make, tmp_path):
    path, module = make(tmp_path), network()
    load_weights(module, path)
    assert {name: value.tolist() for name, value in module.state_dict().items()} == {
        name: value.tolist() for name, value in WEIGHTS.items()
    }


def test_what_torch_saved_before_it_knew_sums_is_read(tmp_path):
    torch.save(WEIGHTS, tmp_path / "old_3.pth", _use_new_zipfile_serialization=False)
    assert list_checkpoints(tmp_path) == {3: tmp_path / "old_3.pth"}


@pytest.mark.parametrize(
    ("name", "content", "step"),
    [
        ("step=000100.ckpt", {"state_dict": WEIGHTS, "global_step": 90}, 90),
        ("step=000100.ckpt", {"state_dict": WEIGHTS}, 100),
        ("vgg5-epoch=3-step=624.pt", WEIGHTS, 624),
        ("model_1200.safetensors", WEIGHTS, 1200),
        ("final.pt", {"global_step": 70, "model": WEIGHTS}, 70),
        ("final.pt", WEIGHTS, None),
    ],
)
def test_the_step_is_that_of_the_file_or_the_last_number_of_its_name(name, content, step, tmp_path):
    assert read_weights(save(tmp_path / "run7" / name, content)).step == step


def test_a_trainers_folder_says_its_own_step(tmp_path):
    for step in (1000, 500):
        save_trainers(tmp_path / f"checkpoint-{step}", step)
    save_trainers(tmp_path / "checkpoint-7", 1500)
    said: list[str] = []
    save(tmp_path / "model.safetensors")  # what the Trainer saves at the end, beside the folders
    found = list_checkpoints(tmp_path, said.append)
    assert [*found.items()] == [(step, tmp_path / f"checkpoint-{step}") for step in (500, 1000)] + [
        (1500, tmp_path / "checkpoint-7")
    ]
    assert len(said) == 1
    assert said[0].startswith(f"{tmp_path / 'model.safetensors'}, as neither")
    assert list_checkpoints(tmp_path / "checkpoint-500") == {500: tmp_path / "checkpoint-500"}


def test_what_is_left_out_is_warned_of(tmp_path):
    save(tmp_path / "step_1.pt")
    save(tmp_path / "best.pt")
    with pytest.warns(UserWarning, match=r"left out: .*best\.pt"):
        assert list_checkpoints(tmp_path) == {1: tmp_path / "step_1.pt"}


def test_several_files_and_steps_that_are_said(tmp_path):
    paths = [save(tmp_path / f"at-{step}" / "weights-2.pt") for step in (30, 4)]
    assert list_checkpoints({30: paths[0], 4: str(paths[1])}) == {4: paths[1], 30: paths[0]}
    assert list_checkpoints([save(tmp_path / "a9.pt"), save(tmp_path / "b8.pt")]) == {
        8: tmp_path / "b8.pt",
        9: tmp_path / "a9.pt",
    }
    with pytest.raises(ValueError, match=r"Each step has one checkpoint; .* step 2\..*\{500: path\}"):
        list_checkpoints(paths)
    with pytest.raises(FileNotFoundError, match="none was given"):
        list_checkpoints([])


def test_two_of_one_step_are_refused_unless_one_is_a_copy(tmp_path):
    whole = {"state_dict": WEIGHTS, "global_step": 20}
    for name in ("last.ckpt", "step=000020.ckpt", "best.ckpt"):
        save(tmp_path / name, whole)
    assert list_checkpoints(tmp_path) == {20: tmp_path / "step=000020.ckpt"}
    save(tmp_path / "step=000020-v1.ckpt", whole)
    with pytest.raises(ValueError, match="are both of step 20"):
        list_checkpoints(tmp_path)


@pytest.mark.parametrize("other", ["", "notes.txt", ".last.ckpt.0123456789abcdef.part", "logs/events.pt"])
def test_a_folder_without_checkpoints_is_refused(other, tmp_path):
    if other:
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_text("dear")
    with pytest.raises(FileNotFoundError, match=r"\.safetensors.*has none"):
        list_checkpoints(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere has none"):
        list_checkpoints(tmp_path / "nowhere")


def test_no_step_at_all_is_refused(tmp_path):
    save(tmp_path / "weights.pt")
    with pytest.raises(ValueError, match=r"weights\.pt has neither.*Rename"):
        list_checkpoints(tmp_path)


def test_what_holds_no_weights_or_more_than_weights_is_refused(tmp_path):
    for content in ({"state": {}}, {}, [1], {"model": {"layers": 3}}):
        with pytest.raises(ValueError, match="is a state dict, or has one under"):
            read_weights(save(tmp_path / "a1.pt", content))
    with pytest.raises(ValueError, match=r"holds other things.*asks for torch\.nn\.modules"):
        read_weights(save(tmp_path / "a1.pt", network()))
    (tmp_path / "a1.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(ValueError, match="damaged, or no safetensors"):
        read_weights(tmp_path / "a1.safetensors")
    os.mkfifo(tmp_path / "pipe1.safetensors")
    with pytest.raises(ValueError, match="is none"):
        read_weights(tmp_path / "pipe1.safetensors")


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ({"weight_map": {"weight": "../secret.safetensors"}}, "parts lie in its folder"),
        ({"weight_map": {"weight": "model-00009.safetensors"}}, "which is not there"),
        ({"weight_map": {"other": "model-00001-of-00002.safetensors"}}, "says that the parts have other"),
        ({"weight_map": {}}, "has a weight_map"),
        ([], "has a weight_map"),
    ],
)
def test_a_list_of_parts_that_is_wrong_is_refused(listed, words, tmp_path):
    save(tmp_path / "secret.safetensors")
    folder = save_parts(tmp_path / "checkpoint-1")
    (folder / "model.safetensors.index.json").write_text(json.dumps(listed))
    with pytest.raises(ValueError, match=words):
        read_weights(folder)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "network.", "module._orig_mod.net."])
def test_a_prefix_that_all_names_share_is_found(prefix, tmp_path):
    path, module = save(tmp_path / "a1.pt", {prefix + name: value for name, value in WEIGHTS.items()}), network()
    load_weights(module, path)
    assert torch.equal(module.weight, WEIGHTS["weight"])
    wrapped = nn.ModuleDict({"inner": network()})  # and one that the network has
    load_weights(wrapped, path)
    assert torch.equal(wrapped["inner"].weight, WEIGHTS["weight"])


def test_a_name_that_fits_is_not_stripped(tmp_path):
    module = nn.ModuleDict({"module": network()})
    load_weights(module, save(tmp_path / "a1.pt", {f"module.{name}": value for name, value in WEIGHTS.items()}))
    assert torch.equal(module["module"].weight, WEIGHTS["weight"])


def test_a_prefix_that_is_given_chooses_among_the_weights(tmp_path):
    student = {f"student.{name}": value for name, value in WEIGHTS.items()}
    teacher = {f"teacher.{name}": -value for name, value in WEIGHTS.items()}
    path, module = save(tmp_path / "a1.ckpt", {"state_dict": student | teacher | {"loss": torch.ones(1)}}), network()
    load_weights(module, path, "teacher.")
    assert torch.equal(module.weight, -WEIGHTS["weight"])
    with pytest.raises(ValueError, match=r"its names, as student\.weight,.*give that as the prefix"):
        load_weights(module, path)
    with pytest.raises(ValueError, match=r"none begins with 'pupil\.', and the first is student\.weight"):
        load_weights(module, path, "pupil.")


def test_weights_of_another_shape_are_named_under_a_prefix_too(tmp_path):
    wider = {"module.weight": torch.zeros(9, 3), "module.bias": torch.zeros(2)}
    with pytest.raises(ValueError, match=r"its weight has shape \(9, 3\), the network's \(2, 3\)\.$"):
        load_weights(network(), save(tmp_path / "a1.pt", wider))


def test_tied_weights_are_saved_once_and_loaded_twice(tmp_path):
    module = nn.ModuleDict({"first": nn.Embedding(4, 3), "last": nn.Linear(3, 4, bias=False)})
    module["last"].weight = module["first"].weight
    value = torch.arange(12.0).reshape(4, 3)
    load_weights(module, save(tmp_path / "a1.safetensors", {"first.weight": value}))
    assert torch.equal(module["last"].weight, value)
    module["last"].weight = nn.Parameter(torch.zeros(4, 3))  # not tied any more
    with pytest.raises(ValueError, match=r"it has no last\.weight"):
        load_weights(module, tmp_path / "a1.safetensors")


def test_what_hugging_face_saves_in_parts_with_tied_weights_is_loaded_whole(tmp_path):
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=50, n_positions=8, n_embd=8, n_layer=2, n_head=2)
    saved, loaded = GPT2LMHeadModel(config), GPT2LMHeadModel(config)
    saved.save_pretrained(tmp_path / "checkpoint-40", max_shard_size="4KB")
    assert len([*(tmp_path / "checkpoint-40").glob("model-*.safetensors")]) > 1
    ((step, path),) = list_checkpoints(tmp_path).items()
    assert step == 40
    assert not torch.equal(loaded.lm_head.weight, saved.lm_head.weight)
    load_weights(loaded, path)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in saved.state_dict().items())
    load_weights(loaded.transformer, path, "transformer.")  # the part without its head
