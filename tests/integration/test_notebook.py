"""A notebook, executed: no warnings, progress, pictures below the cell that trains, and a run that shows itself."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

import lightning_emerge as le

NETWORK = """
import warnings
warnings.simplefilter("always")
import torch
from torch import nn
from torch.nn.functional import cross_entropy
import lightning_emerge as le

def make(count, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    return torch.randn(count, 1, 8, 8, generator=generator) + labels[:, None, None, None], labels

torch.manual_seed(0)
network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
optimizer = torch.optim.Adam(network.parameters(), 0.01)
stimuli = make(12, 2)
"""
WATCH = """
with le.watch(network, [le.CategoryProbe(), le.SimilarityProbe()], stimuli, "runs/plain", optimizer) as watch:
    for images, labels in zip(*(one.split(8) for one in make(48, 1))):
        optimizer.zero_grad()
        cross_entropy(network(images), labels).backward()
        optimizer.step()
        watch.step()
        torch.save(network.state_dict(), f"step_{watch.steps}.pt")
"""
FIT = """
from lightning.pytorch import LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

class Learner(LightningModule):
    def __init__(self):
        super().__init__()
        self.network = network
    def forward(self, images):
        return self.network(images)
    def training_step(self, batch, index):
        return cross_entropy(self(batch[0]), batch[1])
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 0.01)

batches = DataLoader(TensorDataset(*make(48, 1)), 8)
probes = [le.CategoryProbe(le.EverySteps(3)), le.Stimuli(*stimuli)]
trainer = Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, callbacks=probes,
                  default_root_dir="runs/fit")
trainer.fit(Learner(), batches)
"""
REPLAY = 'run = le.replay(network, ".", [le.CategoryProbe()], stimuli, "runs/again")'
OFF = """
import os
os.environ["LIGHTNING_EMERGE_INLINE"] = "off"
le.replay(network, ".", [le.CategoryProbe()], stimuli, "runs/silent")
None
"""
CELLS = {
    "network": NETWORK,
    "watch": WATCH,
    "show": 'le.Run("runs/plain").show()',
    "run": 'le.Run("runs/plain")',
    "fit": FIT,
    "replay": REPLAY,
    "off": OFF,
}


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[Any]]]:
    """The outputs of each cell, and the folder of the notebook."""
    folder = tmp_path_factory.mktemp("notebook")
    cells = [nbformat.v4.new_code_cell(source.strip()) for source in CELLS.values()]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(notebook, timeout=200, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))  # nothing of the user's own
        client.execute()
    return folder, {name: cell.outputs for name, cell in zip(CELLS, notebook.cells, strict=True)}


def _pages(outputs: list[Any]) -> list[str]:
    return [output.data["text/html"] for output in outputs if "<b>Step" in output.get("data", {}).get("text/html", "")]


def _pictures(page: str) -> dict[str, bytes]:
    found = re.findall(r'alt="([^"]+)" src="data:image/png;base64,([^"]+)"', page)
    return {name: base64.b64decode(content) for name, content in found}


def _colours(png: bytes) -> int:
    """How many colours a picture has; one that is blank has one."""
    with Image.open(io.BytesIO(png)) as picture:
        return len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0))


def _texts(outputs: list[Any]) -> str:
    return "".join(output.get("text", "") + str({**output.get("data", {})}) for output in outputs)


def test_nothing_warns_of_what_a_notebook_lacks(executed):
    for name, outputs in executed[1].items():
        said = _texts(outputs)
        assert not re.search("ipywidgets|IProgress|Traceback", said), name
        assert not re.search(r"lightning_emerge/\S+\.py", said), name  # where a warning of ours comes from


def test_pictures_are_below_the_cell_that_trains(executed):
    folder, outputs = executed
    (page,) = _pages(outputs["watch"])
    assert page.startswith("<div><b>Step 6</b>")
    assert "bank_accuracy_mean" in page
    pictures = _pictures(page)
    assert [*pictures] == ["rdm", "token_rdm", "cka", "emergence", "timeline"]
    assert all(_colours(png) > 20 for png in pictures.values())
    for name in ("emergence", "timeline"):
        assert pictures[name] == (folder / f"runs/plain/{name}.png").read_bytes()


def test_a_trainer_in_a_notebook_shows_its_progress_and_where_it_stands(executed):
    outputs = executed[1]["fit"]
    (page,) = _pages(outputs)
    assert page.startswith("<div><b>Step 6</b>")
    assert any("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in outputs)


def test_a_run_shows_itself(executed):
    folder, outputs = executed
    table, *pictures = outputs["show"]
    assert table.data["text/html"] == outputs["run"][0].data["text/html"]
    assert "7, steps 0 to 6" in table.data["text/html"]
    shown = [base64.b64decode(picture.data["image/png"]) for picture in pictures]
    names = ("emergence.png", "timeline.png", "stimuli.png")
    assert shown == [(folder / "runs/plain" / name).read_bytes() for name in names]


def test_a_replay_shows_its_progress_and_pictures_unless_they_are_switched_off(executed):
    outputs = executed[1]
    assert {*_pictures(_pages(outputs["replay"])[0])} == {"emergence", "timeline"}
    for name in ("replay", "off"):
        assert any("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in outputs[name])
    assert _pages(outputs["off"]) == []


def test_the_run_that_was_shown_is_the_run_that_was_recorded(executed):
    folder, outputs = executed
    recorded = le.open_run(folder / "runs/plain")
    accuracy = float(recorded.bank_accuracy_mean.sel(step=6))
    assert f"bank_accuracy_mean {accuracy:.4g}" in _pages(outputs["watch"])[0]
