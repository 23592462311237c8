"""The shared look: layers by name, one pass of the bank, the shares of all processes put together."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from children import run_ranks
from lightning.pytorch import LightningModule
from passed import run_bank
from torch import nn
from torch.nn.functional import max_pool2d
from torch.nn.utils import parametrize
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy
from torchvision.models import resnet18

import lightning_emerge as le
from lightning_emerge.capture import (
    Firing,
    agree,
    default_layers,
    describe_convolution,
    find_convolution,
    find_layers,
    find_leaves,
    find_weights,
    gather,
    match_layers,
    open_network,
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


def make_vgg(**changes: Any) -> le.VGG:
    torch.manual_seed(0)
    settings: dict[str, Any] = {"plan": [1, 2], "width": 2, "head": [4], "image_size": 8}
    return le.VGG(**{**settings, **changes})


def make_mlp(*, inplace: bool = False) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace), nn.Linear(6, 3))


def both(network: nn.Module, bank: le.StimulusBank, layers: list[str]) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    seen = run_bank(network, bank, layers)
    return seen.activations, seen.outputs


def make_bank(size: int, *shape: int) -> le.StimulusBank:
    images = torch.randn(size, *shape, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(size) % 2
    return le.StimulusBank(images, labels, tuple(f"s{k}" for k in range(size)), ("a", "b"))


def count_hooks(module: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in module.modules())


class Wrapper(LightningModule):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.criterion = nn.CrossEntropyLoss()
        self.accuracy = MulticlassAccuracy(3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images)


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


# Names


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


# One pass


def test_activations_are_those_of_the_network_taken_apart():
    network, bank = make_vgg().eval(), make_bank(5, 3, 8, 8)
    wrapped = Wrapper(network)
    activations, outputs = both(wrapped, bank, ["conv1_1.conv", "conv1_1", "pool1", "conv2_1", "fc2"])
    with torch.no_grad():
        first = network.conv1_1.conv(bank.images)
        pooled = max_pool2d(first.clamp(min=0), 2)
        expected = {
            "conv1_1.conv": first,
            "conv1_1": first.clamp(min=0),
            "pool1": pooled,
            "conv2_1": network.conv2_1.conv(pooled).clamp(min=0),
            "fc2": network(bank.images),
        }
    assert list(activations) == list(expected)
    for layer, rows in expected.items():
        torch.testing.assert_close(activations[layer], rows)
    torch.testing.assert_close(outputs, expected["fc2"])
    assert (activations["conv1_1.conv"] < 0).any()


def test_a_relu_in_place_does_not_overwrite_the_layer_before_it():
    network, bank = make_mlp(inplace=True), make_bank(5, 4)
    activations, _ = both(network, bank, ["0", "1"])
    expected = bank.images @ network[0].weight.T + network[0].bias
    torch.testing.assert_close(activations["1"], expected.clamp(min=0))
    torch.testing.assert_close(activations["0"], expected)


@pytest.mark.parametrize("size", [1, 32, 33, 150])
def test_the_bank_passes_once_token_by_token_in_chunks(size):
    network, bank = make_mlp(), make_bank(size, 4)
    passed: list[torch.Tensor] = []
    network.register_forward_pre_hook(lambda _, inputs: passed.append(inputs[0]))
    activations, outputs = both(network, bank, ["0", "2"])
    own = [bank.images[bank.labels == token] for token in (0, 1)]
    assert [len(chunk) for chunk in passed] == [
        len(chunk) for images in own for chunk in images.split(32) if len(chunk)
    ]
    assert torch.equal(torch.cat(passed), torch.cat(own))
    assert activations["0"].shape == (size, 6)
    torch.testing.assert_close(outputs, network(bank.images).detach())
    assert torch.equal(activations["2"], outputs)


def make_mixed() -> nn.Sequential:
    """Every submodule in a mode of its own, with what evaluation mode has to keep still."""
    network = nn.Sequential(make_mlp(), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Sequential(nn.Linear(3, 2)))
    network.train()
    network[1].eval()
    network[3][0].eval()
    network[0].training = False
    return network


class Breaks(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("planted")


@pytest.mark.parametrize("breaks", [False, True])
def test_the_network_is_left_as_it_was(breaks):
    network = make_mixed()
    if breaks:
        network.append(Breaks())
    network[3].register_forward_hook(lambda *_: None)
    for parameter in network.parameters():
        parameter.grad = torch.randn_like(parameter)
    modes = {name: part.training for name, part in network.named_modules()}
    state = {name: value.clone() for name, value in network.state_dict().items()}
    grads = [parameter.grad.clone() for parameter in network.parameters()]
    if breaks:
        with pytest.raises(RuntimeError, match="planted"):
            run_bank(network, make_bank(9, 4), ["0", "1", "3.0"])
    else:
        run_bank(network, make_bank(9, 4), ["0", "1", "3.0"])
    assert {name: part.training for name, part in network.named_modules()} == modes
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(torch.equal(p.grad, grad) for p, grad in zip(network.parameters(), grads, strict=True))
    assert count_hooks(network) == 1
    assert torch.is_grad_enabled()


def test_looking_again_gives_the_same_and_draws_no_random_number():
    network, bank = make_mixed(), make_bank(9, 4)
    streams = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    first, second = run_bank(network, bank, ["2"]).outputs, run_bank(network, bank, ["2"]).outputs
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), streams[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == streams[1:]  # noqa: NPY002


def test_a_bfloat16_network_gives_float32():
    activations, outputs = both(make_mlp().bfloat16(), make_bank(5, 4), ["0"])
    assert activations["0"].dtype == outputs.dtype == torch.float32
    torch.testing.assert_close(outputs, run_bank(make_mlp(), make_bank(5, 4), []).outputs, rtol=0.05, atol=0.05)


def test_gradients_and_autocasting_are_off():
    network, bank = make_mlp(), make_bank(5, 4)
    enabled: list[bool] = []
    network.register_forward_hook(lambda *_: enabled.append(torch.is_grad_enabled()))
    plain = run_bank(network, bank, ["0"])
    with torch.autocast("cpu", torch.bfloat16):
        cast = run_bank(network, bank, ["0"])
    assert enabled
    assert not any(enabled)
    assert not cast.activations["0"].requires_grad
    assert torch.equal(plain.activations["0"], cast.activations["0"])
    assert torch.equal(plain.outputs, cast.outputs)


class Notes(nn.Module):
    """Notes things in its buffers in evaluation mode: in other tensors, in new ones, past what a tensor counts."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.size = nn.Linear(4, 3), 0
        for name, value in (("passes", torch.zeros(())), ("cache", None), ("mean", torch.zeros(4))):
            self.register_buffer(name, value)
        self.register_buffer("spread", torch.tensor([1.0, torch.nan, 1.0, -0.0]))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        self.passes = self.passes + 1
        if self.size != len(rows):
            self.size, self.cache = len(rows), torch.ones(len(rows), 1)
            self.register_buffer("late", torch.ones(len(rows), 1), persistent=False)
        nn.functional.batch_norm(rows, self.mean, self.spread, training=True)
        return self.map(rows * self.cache * self.late)


def _bits(network: nn.Module) -> dict[str, tuple[int, int, list[int] | None]]:
    return {
        name: (id(value), value._version, value.reshape(-1).view(torch.uint8).tolist())
        for name, value in (*network.state_dict(keep_vars=True).items(), *network.named_buffers())
    }


def _look(network: nn.Module, way: str) -> None:
    if way == "run_bank":
        run_bank(network, make_bank(9, 4), ["map"], gradients=["map"])
        return
    with open_network(network, ["map"]) as live:
        live.respond("map", torch.randn(9, 4))
        live(torch.randn(5, 4))


@pytest.mark.parametrize("way", ["run_bank", "open_network"])
@pytest.mark.parametrize("warm", [False, True])
def test_whatever_a_network_notes_in_its_buffers_is_put_back(way, warm):
    network = Notes()
    if warm:
        network(torch.randn(7, 4))
    before, size = _bits(network), network.size
    _look(network, way)
    after = _bits(network)
    assert {name: (own, bits) for name, (own, _, bits) in after.items()} == {
        name: (own, bits) for name, (own, _, bits) in before.items()
    }
    assert network.size == size
    assert ("late" in network._non_persistent_buffers_set) == warm
    network(torch.randn(9, 4))  # goes on as if nobody had looked
    assert network.passes == 1 + warm


def test_buffers_that_stay_as_they_are_are_not_written_to():
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    network[1].running_mean[0] = torch.nan
    before = _bits(network)
    run_bank(network, make_bank(9, 4), ["0"])
    assert _bits(network) == before


class Raises(nn.Module):
    """Makes a weight, until it is told not to."""

    broken = False

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        if self.broken:
            raise RuntimeError("planted")
        return 2 * weight


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize(
    "begin",
    [
        lambda network: run_bank(network, make_bank(9, 4), [], gradients=["0"]),
        lambda network: open_network(network, ["0"]).__enter__(),
    ],
    ids=["run_bank", "open_network"],
)
def test_what_cannot_be_begun_leaves_gradients_on_or_off(begin, enabled):
    network = nn.Sequential(nn.Linear(4, 3))
    parametrize.register_parametrization(network[0], "weight", Raises())
    network[0].parametrizations.weight[0].broken = True
    with torch.set_grad_enabled(enabled):
        with pytest.raises(RuntimeError, match="planted"):
            begin(network)
        assert torch.is_grad_enabled() == enabled
    assert network.training
    assert not torch.is_autocast_enabled("cpu")


def make_coded() -> nn.Sequential:
    """A network with whole numbers among its parameters."""
    network = make_mlp()
    network[1].register_parameter("codes", nn.Parameter(torch.arange(12).view(3, 4), requires_grad=False))
    return network


def test_weights_that_are_whole_numbers_cost_their_own_layer_alone():
    network, bank = make_coded(), make_bank(9, 4)
    kinds = {"gradients": ["0", "1", "2"], "token_gradients": ["0", "1"], "squares": ["2"]}
    seen, plain = run_bank(network, bank, ["0"], **kinds), run_bank(make_mlp(), bank, ["0"], gradients=["0", "2"])
    assert set(seen.troubles) == {("gradients", "1"), ("token_gradients", "1")}
    assert "those of '1' are not" in str(seen.troubles["gradients", "1"])
    assert {name: list(getattr(seen, name)) for name in kinds} == {
        "gradients": ["0", "2"],
        "token_gradients": ["0"],
        "squares": ["2"],
    }
    assert all(torch.equal(seen.gradients[layer], plain.gradients[layer]) for layer in ("0", "2"))
    with open_network(network, ["0", "1"]) as live:
        assert list(live.parameters(["0"])) == ["0"]
        with pytest.raises(ValueError, match="those of '1' are not"):
            live.parameters(["0", "1"])
    assert not network[1].codes.requires_grad


class Attends(nn.Module):
    """Tells tokens apart by attention."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Linear(4, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.last = nn.Linear(8, 3)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.last(self.block(self.before(rows)).mean(dim=1))


def test_attention_is_the_same_whatever_is_asked_for():
    """The fused kinds differ in their rounding, pass modules by, and cannot be differentiated twice."""
    torch.manual_seed(0)
    network, bank = Attends(), make_bank(9, 5, 4)
    used: list[bool] = []
    network.last.register_forward_hook(lambda *_: used.append(torch.backends.mha.get_fastpath_enabled()))
    plain = run_bank(network, bank, ["before"])
    more = run_bank(network, bank, ["before", "block.linear1"], gradients=["last", "block.linear2"])
    assert torch.equal(plain.outputs, more.outputs)
    assert more.troubles == {}
    with torch.no_grad(), open_network(network, []) as live:
        assert torch.equal(live(bank.images), run_bank(network, bank, []).outputs)
    assert not any(used)
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.backends.cuda.flash_sdp_enabled()


class Branch(nn.Module):
    """Uses one of its two layers, and can give more than one tensor."""

    def __init__(self, *, pair: bool = False) -> None:
        super().__init__()
        self.used, self.unused, self.pair = nn.GRU(4, 3, batch_first=True), nn.Linear(4, 3), pair

    def forward(self, images: torch.Tensor) -> Any:
        every, last = self.used(images)
        return (every, last) if self.pair else last[0]


@pytest.mark.parametrize(
    ("pair", "layer", "message"),
    [
        (False, "unused", "'unused' was not reached"),
        (False, "used", "outputs that are one tensor; layer 'used' gives a tuple"),
        (True, "used", "outputs that are one tensor; the network gives a tuple"),
    ],
)
def test_layers_that_give_no_tensor_are_refused(pair, layer, message):
    network = Branch(pair=pair)
    with pytest.raises(ValueError, match=message):
        raise next(iter(run_bank(network, make_bank(3, 2, 4), [layer]).troubles.values()))
    assert count_hooks(network) == 0


def test_pooled_outputs_are_means_over_places():
    network, bank = make_vgg(), make_bank(70, 3, 8, 8)
    seen = run_bank(network, bank, ["conv1_1", "fc2"], pooled=["conv1_1", "fc2"])
    expected = seen.activations["conv1_1"].double().sum(dim=(2, 3)) / 64
    torch.testing.assert_close(seen.pooled["conv1_1"].double(), expected, rtol=1e-5, atol=1e-6)
    assert torch.equal(seen.pooled["fc2"], seen.activations["fc2"])


@pytest.mark.parametrize("batch_norm", [False, True])
def test_inputs_are_what_convolutions_get_and_lead_to_what_layers_give(batch_norm):
    network, bank = make_vgg(batch_norm=batch_norm), make_bank(70, 3, 8, 8)
    for number, part in enumerate(network.modules()):
        if isinstance(part, nn.BatchNorm2d):
            for name in ("weight", "bias", "running_mean", "running_var"):
                getattr(part, name).data.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(number))
        if isinstance(part, nn.Conv2d):
            part.bias.data.uniform_(-0.5, 0.5, generator=torch.Generator().manual_seed(number))
    seen = run_bank(network, bank, ["pool1", "conv2_1", "conv2_2"], inputs=["conv1_1", "conv2_1", "conv2_2"])
    assert torch.equal(seen.inputs["conv1_1"], bank.images)
    assert torch.equal(seen.inputs["conv2_1"], seen.activations["pool1"])
    assert torch.equal(seen.inputs["conv2_2"], seen.activations["conv2_1"])
    made, weight = describe_convolution(network, "conv2_2"), network.conv2_2.conv.weight.detach()
    rows = torch.nn.functional.conv2d(torch.nn.functional.pad(seen.inputs["conv2_2"], made.padding), weight)
    rows = (rows * made.scale[:, None, None] + made.shift[:, None, None]).clamp(min=0)
    torch.testing.assert_close(rows, seen.activations["conv2_2"], rtol=1e-4, atol=1e-5)
    assert made.rectified
    assert (made.stride, made.dilation) == ((1, 1), (1, 1))
    assert count_hooks(network) == 0


class Overwrites(nn.Module):
    """What its convolution got is written over afterwards, as a sum in place does."""

    def __init__(self, *, inplace: bool) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(inplace)
        self.fc = nn.Linear(3, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = images * 1
        out = self.relu(self.conv(rows))
        rows.add_(out)
        return self.fc(rows.mean(dim=(2, 3)))


def test_inputs_that_are_overwritten_are_copied_where_modules_say_so_and_refused_otherwise():
    bank = make_bank(5, 3, 8, 8)
    assert torch.equal(run_bank(Overwrites(inplace=True), bank, [], inputs=["conv"]).inputs["conv"], bank.images)
    with pytest.raises(ValueError, match="not overwritten; 'conv'"):
        raise run_bank(Overwrites(inplace=False), bank, [], inputs=["conv"]).troubles["inputs", "conv"]


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.Linear(3, 3), "'0' is Linear"),
        (nn.Conv2d(4, 4, 3, groups=2), "'0' is Conv2d"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), "'0' is Conv2d"),
        (nn.Sequential(nn.Conv2d(4, 4, 3), nn.GELU()), "'0' is Conv2d and GELU"),
        (nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 8, 3)), "'0' is BatchNorm2d and ReLU and Conv2d"),
        (nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)), "in this order; '0' is Conv2d and ReLU and"),
        (nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4)), "'0' is Conv2d and BatchNorm2d and"),
        (
            nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)),
            "'0' is Conv2d and BatchNorm2d without running statistics",
        ),
    ],
)
def test_layers_that_make_other_things_of_their_input_are_refused(layer, words):
    with pytest.raises(ValueError, match=words):
        find_convolution(nn.Sequential(layer, nn.Flatten()), "0")


@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_on_the_bank_are_those_of_its_mean_loss_and_leave_no_trace(frozen):
    network, bank = make_vgg(dropout=0.5, batch_norm=True), make_bank(70, 3, 8, 8)
    weights = {"conv1_1": network.conv1_1.conv.weight, "fc1": network.fc1.linear.weight}
    network.eval()
    loss = torch.nn.functional.cross_entropy(network(bank.images), bank.labels)
    expected = torch.autograd.grad(loss, list(weights.values()))
    network.train()
    weights["conv1_1"].requires_grad_(not frozen)
    seen = run_bank(network, bank, [], gradients=list(weights))
    for layer, gradient in zip(weights, expected, strict=True):
        torch.testing.assert_close(seen.gradients[layer], gradient, rtol=1e-4, atol=1e-7)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert weights["conv1_1"].requires_grad is not frozen
    assert network.training


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


# Processes


def test_one_process_gathers_its_own_rows_and_agrees_with_itself():
    rows = torch.randn(7, 2, 3)
    assert torch.equal(gather(rows, 7), rows)
    assert agree([True, False], torch.device("cpu")) == [True, False]


_PROCESSES = """
# One of the processes of a case.
import os, sys
import torch, torch.distributed as dist
import lightning_emerge as le
from lightning_emerge.capture import agree, run_bank

torch.set_num_threads(1)
folder = sys.argv[1]
given = torch.load(f"{folder}/given.pt")

def work(rank, world, size):
    dist.init_process_group("gloo")
    network = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 3))
    network.load_state_dict(given["state"])
    ids = tuple(str(k) for k in range(size))
    bank = le.StimulusBank(given["images"][:size], torch.arange(size) % 2, ids, ("a", "b"))
    asked = {le.Outputs(): [""], le.Activations(): ["0"], le.Pooled(): ["0"], le.BankGradients(): ["2"]}
    found, device = run_bank(network, bank, asked).found, torch.device("cpu")
    result = {
        "share": len(found[le.Outputs()][""]),
        "rows": le.Activations().join(found[le.Activations()], size, device)["activations"]["0"],
        "outputs": le.Outputs().join(found[le.Outputs()], size, device)["outputs"],
        "gradient": le.BankGradients().join(found[le.BankGradients()], size, device)["bank_gradients"]["2"],
        "agree": agree([rank == world - 1, False, True, rank == 0], torch.device("cpu")),
    }
    torch.save(result, f"{folder}/{world}_{size}_{rank}.pt")
    dist.destroy_process_group()

work(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]), int(sys.argv[2]))
"""
_CASES = [(2, 7), (2, 8), (3, 7), (3, 8), (3, 2)]


@pytest.mark.distributed
def test_many_processes_give_the_rows_of_one_in_the_banks_order(tmp_path: Path):
    network, bank = make_mlp(), make_bank(8, 4)
    torch.save({"state": network.state_dict(), "images": bank.images}, tmp_path / "given.pt")
    alone, outputs = both(network, bank, ["0"])
    for world, size in _CASES:
        ended = run_ranks([sys.executable, "-c", _PROCESSES, tmp_path, str(size)], world)
        assert [one.returncode for one in ended] == [0] * world, [one.stdout for one in ended]
        results = [torch.load(tmp_path / f"{world}_{size}_{rank}.pt") for rank in range(world)]
        torch.testing.assert_close(results[0]["rows"], alone["0"][:size], rtol=0, atol=1e-6)
        torch.testing.assert_close(results[0]["outputs"], outputs[:size], rtol=0, atol=1e-6)
        loss = torch.nn.functional.cross_entropy(network(bank.images[:size]), bank.labels[:size])
        gradient = torch.autograd.grad(loss, network[2].weight)[0]
        torch.testing.assert_close(results[0]["gradient"], gradient, rtol=0, atol=1e-6)
        assert all(result["gradient"] is None for result in results[1:])
        assert all(result["rows"] is None and result["outputs"] is None for result in results[1:])
        assert sum(result["share"] for result in results) == size
        assert all(result["agree"] == [True, False, True, True] for result in results)


def single_gradient(network: nn.Module, image: torch.Tensor, label: int, weight: torch.Tensor) -> torch.Tensor:
    loss = nn.functional.cross_entropy(network(image[None]), torch.tensor([label]))
    return torch.autograd.grad(loss, weight)[0].double()


class Odd(nn.Module):
    """Convolutions of several geometries, a batch norm, ReLUs in place, and a linear map over places."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.one = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.two = nn.Conv2d(4, 5, (3, 2), padding="same", dilation=(1, 2), bias=False)
        self.three = nn.Conv2d(5, 6, 3, padding=(0, 2))
        self.places = nn.Linear(6, 4)
        self.last = nn.Linear(4, 2)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.relu(self.norm(self.one(images)))
        maps = self.relu(self.three(self.relu(self.two(maps))))
        return self.last(self.places(maps.flatten(2).transpose(1, 2)).mean(dim=1))


@pytest.mark.parametrize("make", [make_vgg, Odd], ids=["vgg", "odd"])
def test_gradients_by_token_and_their_squares_are_those_of_single_stimuli(make):
    network, bank = make().double(), make_bank(41, 3, 8, 8)
    bank = le.StimulusBank(bank.images.double(), bank.labels, bank.ids, ("a", "b", "absent"))
    network(bank.images)  # statistics of the batch norm
    layers = list(default_layers(network))
    seen = run_bank(network, bank, [], gradients=layers, token_gradients=layers, squares=layers)
    assert count_hooks(network) == 0
    assert all(parameter.grad is None for parameter in network.parameters())
    network.eval()
    weights = find_weights(network, layers)
    for layer in layers:
        (weight,) = weights[layer].sources
        single = torch.stack(
            [single_gradient(network, *pair, weight) for pair in zip(bank.images, bank.labels.tolist(), strict=True)]
        )
        for token in (0, 1):
            mean = single[bank.labels == token].mean(dim=0)
            torch.testing.assert_close(seen.token_gradients[layer][token].double(), mean, rtol=1e-9, atol=1e-12)
        assert seen.token_gradients[layer][2].isnan().all()
        torch.testing.assert_close(seen.gradients[layer].double(), single.mean(dim=0), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(seen.squares[layer], single.square().mean(dim=0), rtol=1e-9, atol=1e-12)


def test_what_is_seen_does_not_depend_on_what_else_is_asked_for():
    network, bank = make_vgg(), make_bank(70, 3, 8, 8)
    layers = list(default_layers(network))
    alone, all_of_it = run_bank(network, bank, layers), run_bank(network, bank, layers, token_gradients=layers)
    assert torch.equal(alone.outputs, all_of_it.outputs)
    assert all(torch.equal(alone.activations[layer], all_of_it.activations[layer]) for layer in layers)


def test_layers_without_gradients_of_single_stimuli_are_refused():
    network = nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.Flatten(), nn.Linear(16, 2))
    assert find_leaves(network, "2") == [network[2]]
    with pytest.raises(ValueError, match=r"without groups.*'0' is Conv2d"):
        find_leaves(network, "0")


class TestNetwork:
    def test_it_runs_as_deep_as_the_layer_and_leaves_nothing_behind(self):
        network, images = make_vgg(batch_norm=True, dropout=0.5).train(), torch.randn(3, 3, 8, 8)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        with open_network(network, ["conv1_1"]) as live:
            expected = network.conv2_1(network.pool1(network.conv1_1(images)))
            network.fc1.register_forward_hook(lambda *_: pytest.fail("ran deeper than the layer"))
            assert torch.equal(live.respond("conv2_1", images), expected)
            network.fc1._forward_hooks.clear()
            assert torch.equal(live(images), network(images))
            assert torch.equal(live.respond("", images), network(images))
        assert count_hooks(network) == 0
        assert all(part.training for part in network.modules())
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())

    def test_it_can_be_differentiated_by_images_and_by_frozen_weights(self):
        network = make_vgg().requires_grad_(False)
        images = torch.randn(2, 3, 8, 8, requires_grad=True)
        with torch.no_grad(), open_network(network, ["conv1_1"]) as live:
            total = live.respond("conv2_2", images).square().sum()
            weight = live.parameters(["conv1_1"])["conv1_1"]
            found = torch.autograd.grad(total, [images, weight], create_graph=True)
            assert all(float(gradient.detach().abs().sum()) > 0 for gradient in found)
        assert not any(parameter.requires_grad for parameter in network.parameters())

    def test_what_is_put_in_a_layers_place_goes_on_from_there(self):
        network, images = make_vgg(), torch.randn(3, 3, 8, 8)
        with torch.no_grad(), open_network(network, []) as live:
            assert torch.equal(live.intervene("conv2_1", lambda rows: rows, images), network(images))
            assert not torch.equal(live.intervene("conv2_1", torch.zeros_like, images), network(images))
            assert torch.equal(live.intervene("fc1", lambda rows: rows + 1, images), _after_fc1(network, images))
        assert count_hooks(network) == 0

    def test_what_does_not_fit_in_a_layers_place_is_said(self):
        network, images = make_vgg(), torch.randn(3, 3, 8, 8)
        network.spare = nn.Linear(2, 2)
        with open_network(network, []) as live:
            with pytest.raises(ValueError, match=r"has its shape; 'conv2_1' gives .* got \(1, "):
                live.intervene("conv2_1", lambda rows: rows[:1], images)
            with pytest.raises(ValueError, match="'spare' was not reached"):
                live.intervene("spare", torch.zeros_like, images)
        assert count_hooks(network) == 0

    def test_hooks_go_when_the_network_fails(self):
        network = make_vgg()
        with pytest.raises(RuntimeError), open_network(network, []) as live:
            live.respond("fc1", torch.randn(2, 5, 8, 8))
        assert count_hooks(network) == 0


def _after_fc1(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    names = network.layers
    for name in names[: names.index("fc1") + 1]:
        images = network.get_submodule(name)(images)
    images = images + 1
    for name in names[names.index("fc1") + 1 :]:
        images = network.get_submodule(name)(images)
    return images


def seen_by(network: nn.Module, layer: str, side: int, place: int) -> tuple[int, int]:
    """First row of the image that a unit's gradient reaches, and the one after the last."""
    with open_network(network, []) as live:
        image = torch.rand(1, 3, side, side, requires_grad=True)
        unit = live.respond(layer, image)[0, :, place, place].sum()
        rows = torch.autograd.grad(unit, image)[0].abs().sum(dim=(0, 1, 3)).nonzero()
    return int(rows.min()), int(rows.max()) + 1


class TestReceptiveFields:
    @pytest.mark.parametrize("layer", ["conv1_1", "conv2_2", "pool2", "conv3_3", "conv4_1.conv"])
    def test_they_are_what_gradients_reach(self, layer):
        # Averages instead of maxima and nothing rectified, so that gradients reach all that is seen.
        network = le.VGG(width=2, image_size=96)
        for name, part in list(network.named_modules()):
            home = network.get_submodule(name.rpartition(".")[0]) if name else network
            if isinstance(part, nn.MaxPool2d):
                setattr(home, name.rpartition(".")[2], nn.AvgPool2d(2))
            elif isinstance(part, nn.ReLU):
                setattr(home, name.rpartition(".")[2], nn.Identity())
        with open_network(network, []) as live:
            field = live.receptive_fields([layer], torch.rand(3, 96, 96))[layer]
        assert field is not None
        for place in (1, 3):
            low, high = field.span(place)
            assert seen_by(network, layer, 96, place) == (max(low, 0), min(high, 96))

    def test_a_residual_network_has_them_and_what_sees_all_has_none(self):
        network = resnet18()
        with open_network(network, []) as live:
            fields = live.receptive_fields(["conv1", "layer1", "layer3", "fc"], torch.rand(3, 64, 64))
        assert fields["conv1"] == le.ReceptiveField(7, 2, -3)
        assert fields["layer1"].size == 11 + 4 * 2 * 4  # the pooled stem, then four 3 x 3 convolutions, 4 pixels apart
        assert fields["layer3"] is None
        assert fields["fc"] is None
        assert count_hooks(network) == 0

    def test_modules_that_are_given_no_tensor_are_passed_by(self):
        class Joined(nn.Module):
            def forward(self, parts: list[torch.Tensor]) -> torch.Tensor:
                return torch.cat(parts, dim=1)

        class Dense(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv, self.join, self.unused = nn.Conv2d(3, 3, 3), Joined(), nn.Conv2d(3, 3, 3)

            def forward(self, images: torch.Tensor) -> torch.Tensor:
                maps = self.conv(images)
                return self.join([maps, maps])

        with open_network(Dense(), []) as live:
            fields = live.receptive_fields(["conv", "join", "unused"], torch.rand(3, 8, 8))
        assert fields == {"conv": le.ReceptiveField(3, 1, 0), "join": None, "unused": None}


class TestFiring:
    def test_a_channel_that_is_never_above_zero_has_not_fired(self):
        network = make_vgg(width=4)
        with torch.no_grad():
            network.conv1_1.conv.weight[2] = 0
            network.conv1_1.conv.bias[2] = -1
        firing = Firing(network, ["conv1_1", "fc1", "fc2"])
        with torch.no_grad():  # as in validation
            network(torch.full((1, 3, 8, 8), 9.0))
        assert firing.fired == {}
        batches = [torch.randn(4, 3, 8, 8) for _ in range(2)]
        for images in batches:
            network(images)
        fired = firing.agree()
        firing.close()
        assert count_hooks(network) == 0
        assert set(fired) == {"conv1_1", "fc1"}  # fc2 has no ReLU
        units = network.fc1(
            network.average(
                network.pool2(network.conv2_2(network.conv2_1(network.pool1(network.conv1_1(torch.cat(batches))))))
            )
        )
        assert torch.equal(fired["fc1"], (units > 0).any(dim=0))
        assert fired["conv1_1"].tolist()[2] is False

    def test_what_cannot_be_told_of_a_layer_does_not_reach_training(self):
        """Sequences of many lengths, complex numbers: nothing is raised in a training step."""
        torch.manual_seed(0)

        class Waves(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.relu = nn.ReLU()

            def forward(self, rows: torch.Tensor) -> torch.Tensor:
                return torch.complex(self.relu(rows), rows)

        layers = nn.ModuleDict({"long": nn.Sequential(nn.Linear(3, 3), nn.ReLU()), "waves": Waves()})
        firing = Firing(layers, ["long", "waves"])
        made = [layers["long"](torch.rand(2, length, 3)) for length in (4, 5, 4)]
        for rows in made:
            layers["waves"](rows)
        fired = firing.agree()
        assert list(fired) == ["long"]
        assert torch.equal(fired["long"], (torch.cat(made, dim=1) > 0).any(dim=0).any(dim=0))
        firing.close()
        assert count_hooks(layers) == 0

    def test_what_fires_while_others_look_does_not_count(self):
        network = make_mlp()
        firing = Firing(network, ["0"])
        run_bank(network, make_bank(9, 4), ["0"], gradients=["0"])
        with open_network(network, ["0"]) as live:
            live(torch.randn(9, 4))
            network(torch.randn(9, 4))
        assert firing.agree() == {}
        rows = torch.randn(2, 4)
        network(rows)
        assert torch.equal(firing.agree()["0"], (network[0](rows) > 0).any(dim=0))
        firing.close()

    def test_compiled_modules_are_left_out(self):
        network = make_vgg()
        network.conv1_1 = torch.compile(network.conv1_1, backend="eager")
        firing = Firing(network, ["conv1_1", "fc1"])
        network(torch.randn(2, 3, 8, 8))
        assert firing.agree() == {}
