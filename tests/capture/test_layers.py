"""Layers by name, whatever is around them."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch import LightningModule
from passed import run_bank
from small import Wrapper, make_bank, make_mlp, make_vgg
from torch import nn
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy
from torchvision.models import resnet18

from lightning_emerge.capture import (
    default_layers,
    find_layers,
    find_weights,
    match_layers,
)

RESNET = [
    "conv1",
    *(
        f"layer{stage}.{block}.{name}"
        for stage in (1, 2, 3, 4)
        for block in (0, 1)
        for name in ("conv1", "conv2", "downsample")
        if name != "downsample" or (stage > 1 and block == 0)
    ),
    "fc",
]


class Perceptual(Metric):
    """A metric with a network in it, as the Fréchet inception distance is."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Linear(4, 4)

    def update(self) -> None: ...

    def compute(self) -> None: ...


class Pair(LightningModule):
    """Two networks, so that their names have no beginning in common, and what is no layer."""

    def __init__(self, **more: nn.Module) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(4, 3), nn.Linear(3, 4)
        self.criterion = nn.MSELoss()
        self.accuracy = MulticlassAccuracy(3)
        self.metrics = MetricCollection({"accuracy": MulticlassAccuracy(3)})
        for name, module in more.items():
            self.add_module(name, module)


@pytest.mark.parametrize(
    ("network", "layers"),
    [
        (make_vgg(), ["conv1_1", "conv2_1", "conv2_2", "fc1", "fc2"]),
        (make_vgg(batch_norm=True, dropout=0.5, head=[]), ["conv1_1", "conv2_1", "conv2_2", "fc1"]),
        (resnet18(), RESNET),
        (make_mlp(), ["0", "2"]),
    ],
    ids=["vgg", "vgg with norm", "resnet18", "mlp"],
)
def test_default_layers_are_the_same_bare_and_wrapped(network, layers):
    assert list(default_layers(network)) == layers
    assert list(default_layers(Wrapper(network))) == layers


@pytest.mark.parametrize("make", [make_vgg, make_mlp])
def test_wrapping_does_not_change_what_can_be_named(make):
    network = make()
    bare, wrapped = find_layers(network), find_layers(Wrapper(network))
    assert list(bare) == list(wrapped) == [name for name, _ in network.named_modules() if name]
    assert all(wrapped[name] is layer for name, layer in bare.items())


@pytest.mark.parametrize("more", [{}, {"perceptual": Perceptual()}], ids=["plain", "metric with a network"])
def test_losses_and_metrics_are_no_layers(more):
    assert list(find_layers(Pair(**more))) == ["encoder", "decoder"]


@pytest.mark.parametrize(
    ("patterns", "layers"),
    [
        (["conv*"], ["conv1_1", "conv2_1", "conv2_2"]),
        (["conv?_1"], ["conv1_1", "conv2_1"]),
        (["conv2_[2-9]"], ["conv2_2"]),
        (["fc*", "conv1_1"], ["conv1_1", "fc1", "fc2"]),
        (["fc1", "fc1", "fc?"], ["fc1", "fc2"]),
        (["conv*.conv"], ["conv1_1.conv", "conv2_1.conv", "conv2_2.conv"]),
        (["*.linear"], ["fc1.linear", "fc2.linear"]),
        (["pool1"], ["pool1"]),
        (None, ["conv1_1", "conv2_1", "conv2_2", "fc1", "fc2"]),
    ],
)
def test_patterns_find_layers_in_the_networks_order_and_never_cross_a_dot(patterns, layers):
    assert list(match_layers(make_vgg(), patterns)) == layers


@pytest.mark.parametrize(("pattern", "near"), [("conv1_l", "conv1_1"), ("Fc2", "fc2"), ("fc1.liner", "fc1.linear")])
def test_a_pattern_without_a_match_is_refused_with_the_nearest_name(pattern, near):
    with pytest.raises(ValueError, match=rf"'{pattern}' matches none. Did you mean '{near}'\? .*conv1_1, conv2_1"):
        match_layers(make_vgg(), ["conv*", pattern])


@pytest.mark.parametrize("name", ["b[0]", "b*", "b?", "b[!x]", "b[", "[b]"])
def test_a_whole_name_finds_its_layer_alone_before_it_is_a_pattern(name):
    """Names of modules may hold anything but dots."""
    blocks = nn.ModuleDict({name: nn.Linear(4, 4), "b0": nn.Linear(4, 4), "bx": nn.Linear(4, 4)})
    network = nn.ModuleDict({"blocks": blocks, "head": nn.Linear(4, 2)})
    assert match_layers(network, [f"blocks.{name}"]) == (f"blocks.{name}",)
    assert match_layers(network, ["blocks.*", f"blocks.{name}"]) == (f"blocks.{name}", "blocks.b0", "blocks.bx")
    assert match_layers(network, ["blocks.b[0]"]) == (f"blocks.{'b[0]' if name == 'b[0]' else 'b0'}",)


def test_a_module_without_layers_is_refused():
    with pytest.raises(ValueError, match="looks at layers; ReLU has none"):
        match_layers(nn.ReLU(), ["conv*"])


@pytest.mark.parametrize("wrap", [lambda network: network, Wrapper], ids=["bare", "wrapped"])
def test_weights_are_those_of_the_layers(wrap):
    network = make_vgg(batch_norm=True)
    module = wrap(network)
    weights = find_weights(module, ["conv2_1", "fc2"])
    assert list(weights) == ["conv2_1", "fc2"]
    assert weights["conv2_1"].sources == (network.conv2_1.conv.weight,)
    assert weights["fc2"].sources == (network.fc2.linear.weight,)


@pytest.mark.parametrize(("layer", "count"), [("relu", 0), ("bn1", 0), ("layer1", 4), ("layer2.0", 3)])
def test_layers_that_do_not_hold_one_weight_are_refused(layer, count):
    with pytest.raises(ValueError, match=f"'{layer}' holds {count}. The layers are conv1, layer1.0.conv1"):
        find_weights(resnet18(), ["conv1", layer])


class Compiled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.compile(make_mlp(), backend="eager")
        self.head = nn.Linear(3, 2)
        self.head.compile(backend="eager")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.net(x))


@pytest.mark.filterwarnings("ignore:The .grad attribute")
def test_compiled_modules_are_looked_at_by_their_own_names():
    network, bank = Compiled(), make_bank(5, 4)
    expected = network(bank.images)
    assert default_layers(network) == ("net.0", "net.2", "head")
    seen = run_bank(network, bank, ["net.0", "net.2", "head"], gradients=["net.0"])
    assert torch.equal(seen.outputs, expected)
    assert torch.equal(seen.activations["head"], expected)
    assert seen.activations["net.0"].shape == (5, 6)
    assert torch.equal(network(bank.images), expected)
