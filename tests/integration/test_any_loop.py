"""Any loop: the same run in Lightning, plain PyTorch, Fabric and Hugging Face's Trainer has the same records.

All four leave weights, optimizer and random streams as they are without probes.
"""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from children import run_ranks
from hugging_face import BATCH, OfImages
from lightning.fabric import Fabric
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
from transformers import TrainingArguments
from transformers.trainer_callback import PrinterCallback

import lightning_emerge as le
from lightning_emerge.loops.huggingface import WatchCallback

STEPS, TOKENS = 6, 3
PAGE = Path(__file__).parents[2] / "docs" / "any-loop.md"


class Network(nn.Module):
    """What a first exercise trains: a convolution, a batch norm, dropout, a head."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
        self.drop, self.head = nn.Dropout(dropout), nn.Linear(4, TOKENS)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(self.relu(self.norm(self.conv(images))).mean((2, 3))))


def make_data() -> TensorDataset:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(STEPS * BATCH) % TOKENS
    return TensorDataset(torch.randn(len(labels), 1, 8, 8, generator=generator) + labels[:, None, None, None], labels)


def make_stimuli() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    labels = torch.arange(12) % TOKENS
    return torch.randn(12, 1, 8, 8, generator=generator) + labels[:, None, None, None], labels


def make_probes() -> list[le.Probe]:
    kinds = (le.CategoryProbe, le.SimilarityProbe, le.GradientProbe, le.FilterProbe, le.TokenGradientProbe)
    return [kind(le.EverySteps(2), on_error="raise") for kind in kinds]


Probes = Sequence[le.Probe]
State = dict[str, Any]


def prepare(dropout: float) -> tuple[Network, torch.optim.Optimizer, DataLoader]:
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    network = Network(dropout)
    return network, torch.optim.Adam(network.parameters(), 0.01), DataLoader(make_data(), BATCH)


def state_of(network: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules()), "a hook was left"
    assert not optimizer._optimizer_step_pre_hooks, "a hook was left"
    assert not optimizer._optimizer_step_post_hooks, "a hook was left"
    moments = {
        f"{key}/{name}": one for key, own in optimizer.state_dict()["state"].items() for name, one in own.items()
    }
    streams = {
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(np.random.get_state()[1].astype(np.int64)),  # noqa: NPY002
        "python": torch.tensor(random.getstate()[1]),
    }
    weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
    return {**weights, **moments, **streams}


def train(network: Any, optimizer: Any, batches: Any, backward: Any, probes: Probes, folder: Path) -> None:
    """A loop as one writes it, watched if there are probes."""
    with le.watch(network, probes, make_stimuli(), folder, optimizer) if probes else nullcontext() as watch:
        for images, labels in batches:
            optimizer.zero_grad()
            backward(cross_entropy(network(images), labels))
            optimizer.step()
            if watch is not None:
                watch.step()


def run_plain(folder: Path, probes: Probes, dropout: float) -> State:
    network, optimizer, batches = prepare(dropout)
    train(network, optimizer, batches, torch.Tensor.backward, probes, folder)
    return state_of(network, optimizer)


def run_fabric(folder: Path, probes: Probes, dropout: float) -> State:
    fabric = Fabric(accelerator="cpu", devices=1)
    network, optimizer, batches = prepare(dropout)
    own, inner = network, optimizer
    network, optimizer = fabric.setup(network, optimizer)
    batches = fabric.setup_dataloaders(batches)
    train(network, optimizer, batches, fabric.backward, probes, folder)
    return state_of(own, inner)


class Learner(LightningModule):
    def __init__(self, network: Network, optimizer: torch.optim.Optimizer) -> None:
        super().__init__()
        self.network, self._optimizer = network, optimizer

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self._optimizer


def run_lightning(folder: Path, probes: Probes, dropout: float) -> State:
    network, optimizer, batches = prepare(dropout)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        logger=False,
        default_root_dir=folder,
        callbacks=[*probes, le.Stimuli(*make_stimuli())],
        **quiet,
    )
    trainer.fit(Learner(network, optimizer), batches)
    return state_of(network, optimizer)


def hugging_face(folder: Path, callbacks: Sequence[Any], dropout: float, **changes: Any) -> OfImages:
    network, optimizer, _ = prepare(dropout)
    settings = {"max_steps": STEPS, "save_strategy": "no", "max_grad_norm": 0.0, **changes}
    arguments = TrainingArguments(
        str(folder),
        lr_scheduler_type="constant",
        report_to="none",
        disable_tqdm=True,
        logging_strategy="no",
        use_cpu=True,
        **settings,
    )
    trainer = OfImages(network, arguments, train_dataset=make_data(), optimizers=(optimizer, None), callbacks=callbacks)
    trainer.remove_callback(PrinterCallback)
    return trainer


def run_hugging_face(folder: Path, probes: Probes, dropout: float) -> State:
    callbacks = [WatchCallback(probes, make_stimuli(), folder)] if probes else []
    trainer = hugging_face(folder, callbacks, dropout)
    trainer.train()
    return state_of(trainer.model, trainer.optimizer.optimizer)


LOOPS = {"lightning": run_lightning, "plain": run_plain, "fabric": run_fabric, "hugging face": run_hugging_face}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, xr.Dataset]:
    """The records of each loop, of a network whose training draws no random numbers."""
    found: dict[str, xr.Dataset] = {}
    for name, run in LOOPS.items():
        folder = tmp_path_factory.mktemp(name.replace(" ", "_"))
        run(folder, make_probes(), 0.0)
        found[name] = le.open_run(folder).load()
    return found


@pytest.mark.parametrize("loop", list(LOOPS))
def test_a_loop_with_probes_is_the_loop_without_bit_by_bit(loop, tmp_path):
    bare, watched = LOOPS[loop](tmp_path, [], 0.5), LOOPS[loop](tmp_path, make_probes(), 0.5)
    assert bare.keys() == watched.keys()
    differing = [name for name, value in bare.items() if not torch.equal(value, watched[name])]
    assert not differing


@pytest.mark.parametrize("loop", [name for name in LOOPS if name != "lightning"])
def test_the_same_run_has_the_same_records_whatever_trains(loop, records):
    ours, lightnings = records[loop], records["lightning"]
    assert ours.step.values.tolist() == [0, 2, 4, 6]
    xr.testing.assert_allclose(ours, lightnings, rtol=1e-5, atol=1e-6)
    for name in lightnings.data_vars:
        assert ours[name].attrs == lightnings[name].attrs
    assert np.isfinite(ours.update_ratio.sel(step=[0, 2, 4])).all()
    assert float(ours.update_ratio.sel(step=2).max()) > 0


@pytest.mark.distributed
def test_two_processes_have_the_records_of_one(tmp_path):
    """The share of each is half a batch, so that the mean of their gradients is that of the batch."""
    ended = run_ranks([sys.executable, Path(__file__).with_name("loop_ranks.py"), tmp_path], 2)
    assert [one.returncode for one in ended] == [0, 0], [one.stdout[-2000:] for one in ended]
    alone = le.open_run(tmp_path / "alone").load()
    for name in ("plain", "fabric"):
        shared = le.open_run(tmp_path / name).load()
        assert shared.step.values.tolist() == [0, 2, 4]
        for record in alone.data_vars:
            if record != "gradient_magnitude":  # counts: a gradient on the edge of a bin falls to either side
                np.testing.assert_allclose(shared[record], alone[record], 1e-5, 1e-5, err_msg=str(record))
    assert torch.load(tmp_path / "watch.pt", weights_only=True)["step"] == 2


def test_the_page_runs_as_it_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network, optimizer, batches = prepare(0.0)
    images, labels = make_stimuli()
    trainer = hugging_face(tmp_path / "hugging_face", [], 0.0)
    known = {
        "network": network,
        "optimizer": optimizer,
        "batches": batches,
        "images": images,
        "labels": labels,
        "cross_entropy": cross_entropy,
        "torch": torch,
        "Fabric": lambda **_: Fabric(accelerator="cpu", devices=1),
        "Trainer": lambda _model, _args, **given: hugging_face(tmp_path / "hugging_face", given["callbacks"], 0.0),
        "model": trainer.model,
        "args": trainer.args,
        "data": None,
    }
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL):
        exec(compile(block, PAGE.name, "exec"), known)
        if "last.pt" in block:
            known["checkpoint"] = torch.load("last.pt", weights_only=True)
    assert known["found"].bank_accuracy.dims == ("token",)
    for folder in ("runs/plain", "runs/fabric", "hugging_face"):
        assert le.open_run(folder).step.values.tolist() == list(range(STEPS + 1)), folder
