"""Which layers are looked at by default, and that what is taken of them is what hooks by hand see."""

from __future__ import annotations

import pytest
import torch
from small import count_hooks, make_bank, make_vgg
from torch import nn
from torchvision.models import googlenet, resnet18
from torchvision.models.convnext import CNBlockConfig, ConvNeXt
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer

import lightning_emerge as le
from lightning_emerge.capture import default_layers, first_stimuli, open_network, run_bank
from lightning_emerge.capture.layers import evenly, match_layers
from lightning_emerge.capture.sketch import Sketch, reached_layers, sketching, unreached_layers


def sketch_of(network: nn.Module, bank: le.StimulusBank) -> Sketch:
    few = first_stimuli(bank, 3)
    with sketching(network, len(few)) as sketch:
        run_bank(network, few, {}, shared=False)
    assert count_hooks(network) == 0
    return sketch


def make_vit(depth: int) -> nn.Module:
    torch.manual_seed(0)
    network = VisionTransformer(32, 8, depth, num_heads=3, hidden_dim=48, mlp_dim=96, num_classes=5)
    nn.init.normal_(network.heads.head.weight)
    return network


def make_convnext() -> nn.Module:
    blocks = [CNBlockConfig(12, 24, 2), CNBlockConfig(24, 48, 2), CNBlockConfig(48, None, 2)]
    return ConvNeXt(blocks, num_classes=5)


def make_swin() -> nn.Module:
    return SwinTransformer([4, 4], 24, [2, 2, 2], [2, 2, 4], [4, 4], num_classes=5)


_RESNET = ["conv1", *(f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)), "fc"]
_BLOCK = "encoder.layers.encoder_layer_{}"
_VIT = ["conv_proj", *(_BLOCK.format(number) for number in range(12)), "heads"]
_SHALLOW = ["conv_proj", *(f"{_BLOCK.format(0)}.{part}" for part in ("self_attention", "mlp.0", "mlp.3")), "heads"]
_CONVNEXT = [f"features.{part}" for part in ("0", "1.0", "1.1", "2", "3.0", "3.1", "4", "5.0", "5.1")]
_SWIN = [
    "features.0",
    *(f"features.1.{block}.{part}" for block in (0, 1) for part in ("attn", "mlp")),
    "features.2",
    *(f"features.3.{block}.{part}" for block in (0, 1) for part in ("attn", "mlp")),
    "features.4",
    *(f"features.5.{block}.{part}" for block in (0, 1) for part in ("attn", "mlp")),
    "head",
]


@pytest.mark.parametrize(
    ("make", "layers", "last"),
    [
        (make_vgg, ["conv1_1", "conv2_1", "conv2_2", "fc1", "fc2"], ()),
        (resnet18, _RESNET, ()),
        (lambda: make_vit(12), _VIT, (2,)),
        (lambda: make_vit(1), _SHALLOW, (2,)),
        (make_convnext, [*_CONVNEXT, "classifier"], ()),
        (make_swin, _SWIN, (3,)),
    ],
    ids=["vgg", "resnet18", "vit of 12", "vit of 1", "convnext", "swin"],
)
def test_default_layers_are_reached_and_taken_with_their_channels_second(make, layers, last):
    network, size = make().eval(), 8 if layers[0] == "conv1_1" else 32
    bank = make_bank(5, 3, size, size)
    sketch = sketch_of(network, bank)
    assert list(reached_layers(network, sketch)) == layers
    assert not unreached_layers(network, sketch, layers)
    given: dict[str, torch.Tensor] = {}
    for layer in layers:
        part = network.get_submodule(layer)
        part.register_forward_hook(lambda _part, _given, output, layer=layer: given.update({layer: output}))
    with torch.no_grad():
        network(bank.images)
    for part in network.modules():
        part._forward_hooks.clear()
    found = run_bank(network, bank, {le.Activations(): layers}, layouts=sketch.layouts).found[le.Activations()]
    turned = set[int]()
    for layer in layers:
        by_hand = given[layer][0] if isinstance(given[layer], tuple) else given[layer]
        axis = sketch.layouts[layer].channels
        turned |= {axis} - {1}
        torch.testing.assert_close(found[layer], by_hand.movedim(axis, 1), rtol=1e-4, atol=1e-5)
    assert turned == {*last}


def test_what_a_network_changes_in_an_open_network_is_its_own_channels():
    network = make_vit(1).eval()
    bank, layers = make_bank(4, 3, 32, 32), [f"{_BLOCK.format(0)}.self_attention", f"{_BLOCK.format(0)}.mlp.3"]
    layouts = sketch_of(network, bank).layouts

    def silence(rows: torch.Tensor) -> torch.Tensor:
        assert rows.shape == (4, 48, 17)
        return torch.cat([torch.zeros_like(rows[:, :5]), rows[:, 5:]], dim=1)

    def by_hand(_part: nn.Module, _given: object, output: object) -> object:
        tensor = output[0] if isinstance(output, tuple) else output
        changed = torch.cat([torch.zeros_like(tensor[..., :5]), tensor[..., 5:]], dim=-1)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    for layer in layers:
        handle = network.get_submodule(layer).register_forward_hook(by_hand)
        with torch.no_grad():
            expected = network(bank.images)
        handle.remove()
        with open_network(network, [], layouts=layouts) as live, torch.no_grad():
            torch.testing.assert_close(live.intervene(layer, silence, bank.images), expected, rtol=1e-4, atol=1e-5)
            assert live.respond(layer, bank.images).shape == (4, 48, 17)
        assert not torch.equal(expected, network(bank.images))


def test_what_is_not_called_is_named_once_by_what_holds_it():
    network, bank = googlenet(num_classes=5, aux_logits=True, init_weights=False), make_bank(3, 3, 32, 32)
    sketch = sketch_of(network, bank)
    layers = reached_layers(network, sketch)
    assert unreached_layers(network, sketch, layers) == ("aux1", "aux2")
    assert len(layers) == 13
    assert not any(layer.startswith("aux") for layer in layers)


class Recurrent(nn.Module):
    """An LSTM with its positions first or second, whose cell is then called for each of six."""

    def __init__(self, *, batch_first: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.lstm = nn.Linear(4, 5), nn.LSTM(5, 7, 2, batch_first=batch_first)
        self.cell, self.fc, self.first = nn.LSTMCell(7, 6), nn.Linear(6, 2), batch_first

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        rows = self.embed(rows if self.first else rows.transpose(0, 1))
        every, _ = self.lstm(rows)
        state = None
        for step in range(6):
            state = self.cell(every[:, step] if self.first else every[step], state)
        assert state is not None
        return self.fc(state[0])


@pytest.mark.parametrize("batch_first", [True, False])
def test_recurrent_layers_give_their_sequence_and_cells_each_call(batch_first):
    network, bank = Recurrent(batch_first=batch_first), make_bank(7, 6, 4)
    sketch = sketch_of(network, bank)
    layers = reached_layers(network, sketch)
    assert layers == ("embed", "lstm", "cell", *(f"cell#{call}" for call in range(2, 7)), "fc")
    assert match_layers(network, ["cell#3", "cell#2", "fc"]) == ("cell#2", "cell#3", "fc")
    assert sketch.all_calls(["cell#3", "fc"]) == ("cell#3", "fc")
    assert sketch.all_calls(["cell#1", "embed"]) == ("cell", "embed")
    seen = run_bank(network, bank, {le.Activations(): layers}, layouts=sketch.layouts)
    assert not seen.troubles
    found = seen.found[le.Activations()]
    with torch.no_grad():
        rows = network.embed(bank.images if batch_first else bank.images.transpose(0, 1))
        every, _ = network.lstm(rows)
        every = every if batch_first else every.transpose(0, 1)
        state, states = None, list[torch.Tensor]()
        for step in range(6):
            state = network.cell(every[:, step], state)
            states.append(state[0])
    torch.testing.assert_close(found["lstm"], every.transpose(1, 2))
    torch.testing.assert_close(found["embed"], network.embed(bank.images).transpose(1, 2).detach())
    for call, expected in enumerate(states, start=1):
        torch.testing.assert_close(found["cell" if call == 1 else f"cell#{call}"], expected)


def test_layers_are_chosen_evenly_with_both_ends():
    assert evenly(range(7), 20) == tuple(range(7))
    assert evenly(range(101), 5) == (0, 25, 50, 75, 100)
    chosen = evenly(range(82))
    assert len(chosen) == len({*chosen}) == 20
    assert {one - other for one, other in zip(chosen[1:], chosen, strict=False)} == {4, 5}
    deep = nn.Sequential(*(nn.Linear(4, 4) for _ in range(30)))
    layers = reached_layers(deep, sketch_of(deep, make_bank(3, 4)))
    assert len(layers) == 20
    assert (layers[0], layers[-1]) == ("0", "29")
    assert len(default_layers(deep)) == 30
