"""Filters are taken from the axis that a layer's kind says, and refused where it says none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from small import make_doubles, unfiltered
from torch import nn
from torchvision.models import resnet18
from torchvision.ops import Permute

import lightning_emerge as le
from lightning_emerge.capture import default_layers, first_stimuli, run_bank
from lightning_emerge.capture.layouts import Layout
from lightning_emerge.capture.sketch import Sketch, sketching


def sketch_of(network: nn.Module, bank: le.StimulusBank, **task: Any) -> Sketch:
    few = first_stimuli(bank, 3)
    with sketching(network, len(few), le.Task(**task)) as sketch:
        run_bank(network, few, {}, shared=False)
    return sketch


class Sequence(nn.Module):
    """Positions first: embedded patches, a norm, linear maps, and one vector in the end."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm, self.act = nn.Conv2d(3, 6, 2, stride=2), nn.LayerNorm(6), nn.GELU()
        self.mix, self.fc = nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = self.norm(self.patches(images).flatten(2).transpose(1, 2))
        return self.fc(self.act(self.mix(rows)).mean(dim=1))


def test_filters_of_maps_of_positions_are_their_last_axis():
    network, bank, layers = Sequence().double(), make_doubles(3, 8, 8), ["patches", "norm", "mix", "act", "fc"]
    assert unfiltered(network, bank, layers) == {}
    layouts = sketch_of(network, bank).layouts
    assert [layouts[layer].channels for layer in layers] == [1, 2, 2, 2, 1]
    mixed: list[torch.Tensor] = []
    with torch.no_grad():
        hook = network.mix.register_forward_hook(lambda *call: mixed.append(call[2]))
        network(bank.images)
        hook.remove()
    (whole,) = mixed
    taken = {
        "all": whole.transpose(1, 2),
        "mean": whole.mean(dim=1),
        "first": whole[:, 0],
        "last": whole[:, -1],
    }
    for positions, expected in taken.items():
        layouts = sketch_of(network, bank, positions=positions).layouts
        found = run_bank(network, bank, {le.Activations(): ["mix", "patches"]}, layouts=layouts).found[le.Activations()]
        torch.testing.assert_close(found["mix"], expected.float())
        assert found["patches"].shape[1:] == (6, 4, 4)


@pytest.mark.parametrize("positions", ["all", "mean", "first", "last"])
def test_what_is_put_in_the_place_of_an_output_lies_as_it_did(positions):
    torch.manual_seed(0)
    output = torch.randn(5, 7, 4, requires_grad=True)
    layout = Layout(3, 2, 0, positions)
    taken = layout.take(output)
    torch.testing.assert_close(layout.put(output, taken), output)
    silent = taken.clone()
    silent[:, 1] = 2.0
    changed = layout.put(output, silent)
    torch.testing.assert_close(layout.take(changed), silent)
    others = [0, 2, 3]
    assert torch.equal(changed[..., others], output[..., others])
    one, before = changed[:, :, 1], output[:, :, 1]
    expected = {
        "all": torch.full_like(before, 2),
        "mean": before - before.mean(dim=1, keepdim=True) + 2,
        "first": torch.cat([torch.full_like(before[:, :1], 2), before[:, 1:]], dim=1),
        "last": torch.cat([before[:, :-1], torch.full_like(before[:, -1:], 2)], dim=1),
    }
    torch.testing.assert_close(one, expected[positions])
    sequence = Layout(3, 2, 1)
    assert torch.equal(sequence.take(output.transpose(0, 1)), output.transpose(1, 2))
    assert torch.equal(sequence.put(output.transpose(0, 1), output.transpose(1, 2)), output.transpose(0, 1))


def make_last() -> nn.Sequential:
    """Filters last, with as many filters as rows in the second layer."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), Permute([0, 2, 3, 1])),
        nn.Sequential(nn.LayerNorm(5), nn.Linear(5, 8)),
        nn.ReLU(),
        nn.Sequential(nn.Linear(8, 5), Permute([0, 3, 1, 2])),
        nn.Flatten(),
        nn.Linear(5 * 64, 2),
    )


def test_filters_of_channels_last_networks_are_found():
    network, bank = make_last().double(), make_doubles(3, 10, 10)
    assert unfiltered(network, bank, ["0", "1", "2", "3", "4", "5"]) == {}
    layouts = sketch_of(network, bank).layouts
    assert [layouts[str(number)].channels for number in range(6)] == [3, 3, 3, 1, 1, 1]


class Mute(nn.Module):
    """Turns axes of one length, which its shape does not tell."""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.transpose(1, 2)


def test_filters_that_nothing_tells_are_refused_by_name():
    network = nn.Sequential(nn.Linear(6, 6), Mute(), nn.Sequential(nn.Linear(6, 6), Mute()), nn.Flatten())
    refused = unfiltered(network.double(), make_doubles(6, 6), ["0", "1", "2", "2.0", "3"])
    assert "1" in refused
    assert set(refused) <= {"1", "2"}
    assert "'1' does not: it gives ('stimulus', 6, 6)" in refused["1"]
    given = replace(make_doubles(6, 6), task=le.Task(channels={"1": 1, "2": -2, "0": -1}))
    assert unfiltered(network, given, ["0", "1", "2"]) == {}
    layouts = sketch_of(network, given, channels=given.task.channels).layouts
    assert [layouts[layer].channels for layer in "012"] == [2, 1, 1]
    assert le.Stimuli(torch.randn(3, 6, 6), channels={"1": 1}).bank().task.channels == {"1": 1}
    wrong = replace(given, task=le.Task(channels={"0": 3, "1": -3}))
    assert {*unfiltered(network, wrong, ["0", "1"])} == {"0", "1"}
    with pytest.raises(ValueError, match="'mute' matches none"):
        sketch_of(network, given, channels={"mute": 1})
    with pytest.raises(ValueError, match="other than that of the stimuli"):
        le.Task(channels={"1": 0})


@pytest.mark.parametrize(
    ("network", "layers"),
    [
        (resnet18(), [*default_layers(resnet18()), "layer1", "layer2.0", "relu", "maxpool", "avgpool"]),
        (le.VGG(plan=[1, 2], width=2, head=[4], image_size=64), ["conv1_1", "conv1_1.relu", "pool1", "fc1", "fc2"]),
    ],
    ids=["resnet18", "vgg"],
)
def test_filters_of_convolutional_networks_are_their_second_axis(network, layers):
    bank = make_doubles(3, 64, 64, size=3)
    assert unfiltered(network.double(), bank, layers) == {}
    assert all(layout.plain for layout in sketch_of(network, bank).layouts.values())
    assert {layout.channels for layout in sketch_of(network, bank).layouts.values()} == {1}
