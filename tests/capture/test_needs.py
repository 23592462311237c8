"""What layers give and get, and what they make of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from passed import run_bank
from small import count_hooks, make_bank, make_mlp, make_vgg
from torch import nn

import lightning_emerge as le
from lightning_emerge.capture import (
    describe_convolution,
    find_convolution,
    open_network,
)
from lightning_emerge.capture import run_bank as pass_once
from lightning_emerge.capture.needs.base import check_needs


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


class Branch(nn.Module):
    """Uses one of its two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.GRU(4, 3, batch_first=True), nn.Linear(4, 3)

    def forward(self, images: torch.Tensor) -> Any:
        return self.used(images)[1][0]


def test_a_layer_that_is_not_called_is_refused():
    network = Branch()
    with pytest.raises(ValueError, match="'unused' was not reached"):
        raise next(iter(run_bank(network, make_bank(3, 2, 4), ["unused"]).troubles.values()))
    assert count_hooks(network) == 0


def test_the_first_tensor_of_a_tuple_is_what_a_layer_gives():
    network, bank = Branch(), make_bank(3, 2, 4)
    with torch.no_grad():
        every, _ = network.used(bank.images)
    assert torch.equal(run_bank(network, bank, ["used"]).activations["used"], every)


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


@dataclass(frozen=True)
class Largest(le.Rows):
    count: int

    def hook(self, view, layer):
        view.output(layer)

    def rows(self, chunk, layer):
        return chunk.output(layer).topk(self.count, dim=1).values


def test_needs_are_equal_by_what_they_are_and_hold():
    assert le.Activations() == le.Activations() != le.Pooled()
    assert Largest(2) == Largest(2) != Largest(3)
    assert len({le.Weights(), le.Weights(), Largest(2), Largest(2), Largest(3)}) == 3
    assert (le.TokenGradients().name, Largest(1).finds) == ("token_gradients", ("largest",))


def test_a_need_whose_settings_would_not_count_is_refused():
    class Careless(le.Need):
        def __init__(self, count: int) -> None:
            self.count = count

    with pytest.raises(AttributeError, match=r"Careless\.count.*dataclass"):
        Careless(3)


@pytest.mark.parametrize("needs", [(Largest(1), Largest(2)), (type("Layers", (le.Need,), {})(),)])
def test_what_needs_find_has_a_name_of_its_own(needs):
    with pytest.raises(ValueError, match=r"has a name of its own in the capture; '(largest|layers)' of Both's"):
        check_needs("Both", needs)


@dataclass(frozen=True)
class Named(le.Need):
    layers: list[str]


@dataclass
class Loose(le.Need):
    pass


@pytest.mark.parametrize("need", [Named(["a"]), Loose()])
def test_needs_that_can_change_are_refused_where_they_are_asked_for(need):
    with pytest.raises(ValueError, match=r"Needs do not change.*Both's.*frozen=True.*tuples"):
        check_needs("Both", (need,))


class Batched(le.Need):
    uses = (le.Training(),)


def test_what_a_need_uses_is_not_of_batches_and_of_the_bank():
    with pytest.raises(ValueError, match="needs name both"):
        check_needs("Both", (Batched(), le.Activations()))


def test_needs_of_several_settings_are_found_beside_each_other_in_one_pass():
    network, bank = make_mlp(), make_bank(9, 4)
    passed: list[int] = []
    network.register_forward_hook(lambda _module, given, _output: passed.append(len(given[0])))
    found = pass_once(network, bank, {Largest(2): ["0"], Largest(3): ["0", "2"], le.Activations(): ["2"]}).found
    assert sum(passed) == 9
    assert found[Largest(2)]["0"].shape == (9, 2)
    assert torch.equal(found[Largest(3)]["0"][:, :2], found[Largest(2)]["0"])
    assert torch.equal(found[Largest(3)]["2"], found[le.Activations()]["2"].sort(dim=1, descending=True).values)
    assert count_hooks(network) == 1  # the one of this test


def test_a_layer_that_does_not_give_a_need_costs_that_need_alone():
    seen = pass_once(make_mlp(), make_bank(9, 4), {Largest(5): ["0", "2"], Largest(3): ["0", "2"]})
    assert list(seen.troubles) == [(Largest(5), "2")]  # which gives three numbers
    assert [list(found) for found in seen.found.values()] == [["0"], ["0", "2"]]
