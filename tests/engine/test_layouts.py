"""Where channels were found before the first look holds at each look: in several processes, resumed, replayed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from children import run_ranks
from torch import nn
from torchvision.models.vision_transformer import VisionTransformer

import lightning_emerge as le
from lightning_emerge.capture import find_layers, run_bank
from lightning_emerge.capture.sketch import reached_layers
from lightning_emerge.engine.conductor import LAYERS, PAST, Conductor
from lightning_emerge.engine.passes import sketch_network
from lightning_emerge.engine.replay import replay
from lightning_emerge.engine.reporting import Sinks

STIMULI = 9


def make_vit(depth: int = 2) -> nn.Module:
    torch.manual_seed(0)
    network = VisionTransformer(16, 8, depth, num_heads=2, hidden_dim=8, mlp_dim=12, num_classes=3)
    nn.init.normal_(network.heads.head.weight)
    return network


def make_bank(**task: Any) -> le.StimulusBank:
    images = torch.randn(STIMULI, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    ids = tuple(map(str, range(STIMULI)))
    return le.StimulusBank(images, torch.arange(STIMULI) % 3, ids, ("a", "b", "c"), task=le.Task(**task))


_PROCESSES = """
import os, sys
import torch
import torch.distributed as dist
sys.path[:0] = sys.argv[1].split(os.pathsep)
import lightning_emerge as le
from lightning_emerge.capture.sketch import reached_layers
from lightning_emerge.engine.passes import ask, ask_all, pass_bank, sketch_network
from test_layouts import STIMULI, make_bank, make_vit

dist.init_process_group("gloo")
network, bank, device = make_vit(), make_bank(), torch.device("cpu")
sketch = sketch_network(network, bank, device)
layers = reached_layers(network, sketch)
asked = ask_all([ask((le.Activations(),), layers)], layers)
seen, troubles = pass_bank(network, bank, asked, device, layouts=sketch.layouts)
joined = le.Activations().join(seen.found[le.Activations()], STIMULI, device)["activations"]
channels = {layer: sketch.layouts[layer].channels for layer in layers}
left = {"channels": channels, "rows": joined, "troubles": len(troubles)}
torch.save(left, f"{sys.argv[2]}/{os.environ['RANK']}.pt")
dist.destroy_process_group()
"""


@pytest.mark.distributed
def test_two_processes_find_the_same_channels_and_put_their_rows_together(tmp_path: Path):
    homes = os.pathsep.join((str(Path(__file__).parent), *sys.path))
    ended = run_ranks([sys.executable, "-c", _PROCESSES, homes, str(tmp_path)], 2)
    assert [one.returncode for one in ended] == [0, 0], [one.stdout for one in ended]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first["channels"] == second["channels"]
    assert first["troubles"] == second["troubles"] == 0
    assert {*first["channels"].values()} == {1, 2}
    network, bank = make_vit(), make_bank()
    sketch = sketch_network(network, bank, torch.device("cpu"))
    layers = reached_layers(network, sketch)
    alone = run_bank(network, bank, {le.Activations(): layers}, layouts=sketch.layouts).found[le.Activations()]
    assert list(first["rows"]) == list(layers)
    for layer in layers:
        torch.testing.assert_close(first["rows"][layer], alone[layer], rtol=1e-5, atol=1e-5)


def test_a_run_that_resumes_or_is_replayed_takes_the_same_channels(tmp_path: Path):
    network, bank = make_vit(12), make_bank()
    begun = Conductor(network, [le.SimilarityProbe()], bank, Sinks(), step=0)
    past = begun.remember()
    layers = begun.members[0].layers
    assert layers == ("conv_proj", *(f"encoder.layers.encoder_layer_{number}" for number in range(12)), "heads")
    resumed = Conductor(network, [le.SimilarityProbe()], bank, Sinks(), step=1, past=past)
    torch.save({"global_step": 0, "state_dict": network.state_dict(), PAST: past}, tmp_path / "a.ckpt")
    replayed = replay(make_vit(12), [le.SimilarityProbe()], bank, {0: tmp_path / "a.ckpt"}, Sinks(), lambda: None)
    for other in (resumed, replayed):
        assert other.members[0].layers == layers
        assert other.layouts == begun.layouts
    old = [name for name, part in find_layers(network).items() if isinstance(part, nn.Linear)][1:4]
    older = Conductor(
        network, [le.SimilarityProbe()], bank, Sinks(), step=1, past={LAYERS: {"SimilarityProbe": [*old]}}
    )
    assert list(older.members[0].layers) == old  # as an earlier version chose them
    for conductor in (begun, resumed, older):
        conductor.close()


def test_one_look_measures_channels_and_says_where_they_were():
    network, bank = make_vit(), make_bank()
    stimuli = le.Stimuli(bank.images, bank.labels)
    records = le.look(network, stimuli, [le.TopExemplarProbe(exemplars=2)])
    layers = records.layer.values.tolist()
    assert records.layer_channels.values.tolist() == [1, *[2] * 6, 1]
    assert "layer_positions" not in records.coords
    kept: dict[str, torch.Tensor] = {}
    for layer in layers:
        part = network.get_submodule(layer)
        part.register_forward_hook(lambda _part, _given, output, layer=layer: kept.update({layer: output}))
    with torch.no_grad():
        network.eval()(bank.images)
    for number, layer in enumerate(layers):
        output = kept[layer][0] if isinstance(kept[layer], tuple) else kept[layer]
        rows = output.movedim(int(records.layer_channels[number]), 1)
        largest = rows.flatten(2).amax(dim=2) if rows.dim() > 2 else rows
        expected = largest.sort(dim=0, descending=True).values[:2].T
        found = records.top_activation.values[number]
        np.testing.assert_allclose(found[: rows.shape[1]], expected.numpy(), rtol=1e-4, atol=1e-5)
        assert np.isnan(found[rows.shape[1] :]).all()


@pytest.mark.parametrize("positions", ["mean", "first", "last"])
def test_positions_are_taken_as_the_task_says(positions):
    network, bank = make_vit(), make_bank(positions=positions)
    block = "encoder.layers.encoder_layer_1"
    probe = le.SimilarityProbe(layers=["conv_proj", block, f"{block}.self_attention@heads", "heads"])
    conductor = Conductor(network, [probe], bank, Sinks(), step=0)
    layers = conductor.members[0].layers
    assert layers == ("conv_proj", block, f"{block}.self_attention@heads", "heads")
    found = run_bank(network, bank, {le.Activations(): layers}, layouts=conductor.layouts).found[le.Activations()]
    kept: list[torch.Tensor] = []
    network.get_submodule(block).register_forward_hook(lambda _part, _given, output: kept.append(output))
    with torch.no_grad():
        network.eval()(bank.images)
    (rows,) = kept
    expected = {"mean": rows.mean(dim=1), "first": rows[:, 0], "last": rows[:, -1]}[positions]
    torch.testing.assert_close(found[block], expected, rtol=1e-4, atol=1e-5)
    assert [tuple(own.shape[1:]) for own in found.values()] == [(8, 2, 2), (8,), (2,), (3,)]
    conductor.close()
