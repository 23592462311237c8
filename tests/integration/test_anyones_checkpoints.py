"""Anyone's checkpoints are a run: what a script, another module or a Trainer has saved replays as it was live."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from hugging_face import BATCH, OfImages
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset
from transformers import TrainingArguments
from transformers.trainer_callback import PrinterCallback

import lightning_emerge as le
from lightning_emerge.loops.huggingface import WatchCallback

STEPS, TOKENS, EVERY = 6, 3, 2


class Network(nn.Module):
    """A convolution, a batch norm whose statistics change in training, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(4, TOKENS)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(self.relu(self.norm(self.conv(images))).mean((2, 3))))


def make(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % TOKENS
    return torch.randn(count, 1, 8, 8, generator=generator) + labels[:, None, None, None], labels


def make_probes() -> list[le.Probe]:
    kinds = (le.CategoryProbe, le.SimilarityProbe, le.FilterProbe, le.TokenGradientProbe)
    return [kind(le.EverySteps(EVERY), on_error="raise") for kind in kinds]


def train(folder: Path, save: Callable[[dict[str, torch.Tensor], int, dict[str, Any]], object]) -> xr.Dataset:
    """A plain script that is watched, and saves as it likes."""
    torch.manual_seed(0)
    network, (images, labels) = Network(), make(STEPS * BATCH, 1)
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    with le.watch(network, make_probes(), make(12, 2), folder, optimizer) as watch:
        save(network.state_dict(), 0, watch.state_dict())
        for step, (inputs, targets) in enumerate(zip(images.split(BATCH), labels.split(BATCH), strict=True), 1):
            optimizer.zero_grad()
            cross_entropy(network(inputs), targets).backward()
            optimizer.step()
            watch.step()
            if step % EVERY == 0:
                save(network.state_dict(), step, watch.state_dict())
    return le.open_run(folder).load()


def save_plainly(folder: Path, state: dict[str, torch.Tensor], step: int, _watch: dict[str, Any]) -> None:
    torch.save(
        {"epoch": 0, "model": {f"module.{name}": value for name, value in state.items()}}, folder / f"s{step}.pt"
    )


def save_safely(folder: Path, state: dict[str, torch.Tensor], step: int, _watch: dict[str, Any]) -> None:
    save_file({name: value.clone() for name, value in state.items()}, folder / f"model_{step:04d}.safetensors")


def save_as_another_module(folder: Path, state: dict[str, torch.Tensor], step: int, _watch: dict[str, Any]) -> None:
    whole = {"net." + name: value for name, value in state.items()} | {"metric.total": torch.ones(1)}
    torch.save({"state_dict": whole, "global_step": step, "hyper_parameters": {"lr": 0.01}}, folder / f"{step}a9.ckpt")


def save_with_the_watch(folder: Path, state: dict[str, torch.Tensor], step: int, watch: dict[str, Any]) -> None:
    torch.save({"network": state, "watch": watch}, folder / f"{'abcdefgh'[step]}.pt")


SAVED = {
    "plain": (save_plainly, ""),
    "safetensors": (save_safely, ""),
    "another module": (save_as_another_module, "net."),
    "with the watch": (save_with_the_watch, ""),
}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, xr.Dataset]:
    """The records of one run, and a folder with its checkpoints in each way."""
    folder = tmp_path_factory.mktemp("live")
    for name in SAVED:
        (folder / name).mkdir()

    def save(*given: Any) -> None:
        for name, (one, _) in SAVED.items():
            one(folder / name, *given)

    return folder, train(folder / "run", save)


def assert_same(replayed: xr.Dataset, recorded: xr.Dataset) -> None:
    assert {*replayed.data_vars} == {*recorded.data_vars}
    for name in replayed.data_vars:
        assert replayed[name].equals(recorded[name]), name


@pytest.mark.parametrize("way", list(SAVED))
def test_what_was_saved_replays_to_the_arrays_of_the_run(way, live, tmp_path):
    folder, recorded = live
    run = le.replay(Network(), folder / way, make_probes(), make(12, 2), tmp_path / "out", prefix=SAVED[way][1])
    assert run.steps == [0, 2, 4, 6]
    assert_same(le.open_run(tmp_path / "out").load(), recorded)
    assert not np.array_equal(recorded.kernels[0], recorded.kernels[-1])
    assert {"stimuli.png", "emergence.png"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_what_hugging_faces_trainer_saves_replays_to_the_arrays_of_the_run(tmp_path):
    torch.manual_seed(0)
    arguments = TrainingArguments(
        str(tmp_path / "trainer"),
        max_steps=STEPS,
        save_steps=EVERY,
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
        use_cpu=True,
    )
    data = TensorDataset(*make(STEPS * BATCH, 1))
    watch = WatchCallback(make_probes(), make(12, 2), tmp_path / "run")
    trainer = OfImages(Network(), arguments, train_dataset=data, callbacks=[watch])
    trainer.remove_callback(PrinterCallback)
    trainer.save_model(str(tmp_path / "trainer/checkpoint-0"))
    trainer.train()
    trainer.save_model()  # beside the folders, without a step
    network = Network()
    with pytest.warns(UserWarning, match=r"left out: .*model\.safetensors"):
        run = le.replay(network, tmp_path / "trainer", make_probes(), make(12, 2), tmp_path / "out")
    assert run.steps == [0, 2, 4, 6]
    assert_same(le.open_run(tmp_path / "out").load(), le.open_run(tmp_path / "run").load())
    assert all(torch.equal(value, trainer.model.state_dict()[name]) for name, value in network.state_dict().items())


def test_a_mistake_is_refused_and_nothing_is_written(live, tmp_path):
    folder, out = live[0] / "safetensors", tmp_path / "out"
    probes, stimuli = make_probes(), make(12, 2)
    with pytest.raises(ValueError, match="there is only GradientProbe"):
        le.replay(Network(), folder, [le.GradientProbe()], stimuli, out)
    with pytest.raises(ValueError, match=r"of the network that is given; .*model_0000.* is not: it has no 0\.weight"):
        le.replay(nn.Sequential(nn.Linear(2, 2)), folder, probes, stimuli, out)
    with pytest.raises(FileNotFoundError, match="has none"):
        le.replay(Network(), tmp_path, probes, stimuli, out)
    assert not out.exists()
    with pytest.warns(UserWarning, match="Left out of the replay: GradientProbe"):
        le.replay(Network(), folder, [le.FilterProbe(), le.GradientProbe()], None, out)
    with pytest.raises(ValueError, match="begins in a folder without records"):
        le.replay(Network(), folder, [le.FilterProbe()], None, out)
