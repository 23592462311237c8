"""Layers that are called more than once or share their weight: right, or refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from passed import run_bank
from small import Twice, make_doubles
from torch import nn
from torch.nn.functional import cross_entropy, linear

import lightning_emerge as le
from lightning_emerge.capture import (
    find_leaves,
    find_weights,
    first_stimuli,
    open_network,
)


def refuse(network: nn.Module, bank: le.StimulusBank, layers: list[str], **asked: Any) -> dict[str, str]:
    """Layers of which some stimuli do not give what is asked for, each with why."""
    seen = run_bank(network, first_stimuli(bank, 3), layers, **asked)
    return {layer: str(error) for (_, layer), error in seen.troubles.items()}


class Tied(nn.Module):
    """Two linear maps with one weight; and its transpose, if asked for, which no module is called for."""

    def __init__(self, *, transposed: bool = False, embedded: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two, self.fc, self.transposed = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2), transposed
        self.two.weight = self.one.weight
        if embedded:
            self.words = nn.Embedding(4, 4)
            self.words.weight = self.one.weight

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        rows = self.two(self.one(rows).tanh()).tanh()
        return self.fc(linear(rows, self.one.weight.T) if self.transposed else rows)


def mean_square(network: nn.Module, bank: le.StimulusBank, weight: nn.Parameter) -> torch.Tensor:
    """The mean square of each stimulus' gradient, one stimulus after the other."""
    return torch.stack(
        [
            torch.autograd.grad(cross_entropy(network(image[None]), label[None]), weight)[0].square()
            for image, label in zip(bank.images, bank.labels, strict=True)
        ]
    ).mean(dim=0)


@pytest.mark.parametrize(
    ("network", "layer", "shape"), [(Twice(), "conv", (3, 5, 5)), (Tied(), "one", (4,)), (Tied(), "two", (4,))]
)
def test_squares_are_of_the_sum_over_all_calls_with_the_weight(network, layer, shape):
    network, bank = network.double(), make_doubles(*shape)
    expected = mean_square(network, bank, find_weights(network, [layer])[layer].sources[0])
    seen = run_bank(network, bank, [], squares=[layer])
    torch.testing.assert_close(seen.squares[layer], expected, rtol=1e-9, atol=1e-15)


def test_a_weight_that_is_used_beside_what_can_be_seen_is_refused_by_name():
    bank = make_doubles(4)
    seen = run_bank(Tied(transposed=True).double(), bank, [], squares=["one", "fc"])
    assert set(seen.troubles) == {("squares", "one")}
    assert "'one' do not, as its weight is used elsewhere too" in str(seen.troubles["squares", "one"])
    with pytest.raises(ValueError, match="'one' is Linear and Linear and Embedding"):
        find_leaves(Tied(embedded=True), "one")


def test_a_weight_that_is_used_without_a_call_is_refused_before_it_has_a_gradient():
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.fc = nn.MultiheadAttention(4, 2, batch_first=True), nn.Linear(4, 2)
            nn.init.zeros_(self.fc.weight)  # so that nothing before it has one

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return self.fc(self.attention(rows, rows, rows)[0].mean(dim=1))

    network = Attends().double()
    for asked in ((["attention.out_proj"], ()), ((), ["attention.out_proj"])):
        refused = refuse(network, make_doubles(5, 4), asked[0], squares=asked[1])
        assert "'attention.out_proj' was not reached" in refused["attention.out_proj"]


def test_rounding_does_not_look_like_another_use():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
    bank = make_doubles(64)
    for dtype in (torch.float32, torch.bfloat16):
        seen = run_bank(network.to(dtype), bank, [], squares=["0", "2"])
        assert all(float(square.sum()) > 0 for square in seen.squares.values())


def test_what_a_layer_gets_in_several_calls_is_refused_by_name():
    (error,) = run_bank(Twice().double(), make_doubles(3, 5, 5), [], inputs=["conv"]).troubles.values()
    assert "called once a pass; 'conv' is called 2 times" in str(error)


def test_each_call_of_a_layer_is_looked_at_by_its_name():
    network, bank = Twice().double(), make_doubles(3, 9, 9)
    refused = refuse(network, bank, ["conv", "conv#2", "relu", "relu#2", "relu#3", "fc"])
    assert set(refused) == {"relu#3"}
    assert "'relu#3' is not among the 2 of its layer" in refused["relu#3"]
    network.eval()
    with torch.no_grad():
        first = network.conv(bank.images)
        second = network.conv(network.relu(first))
        end = network.fc(network.relu(torch.zeros_like(second)).mean(dim=(2, 3)))
    seen = run_bank(network, bank, ["conv", "conv#2", "relu", "relu#2"], pooled=["conv#2"])
    for layer, rows in {"conv": first, "conv#2": second, "relu": first.relu(), "relu#2": second.relu()}.items():
        torch.testing.assert_close(seen.activations[layer], rows.float())
    torch.testing.assert_close(seen.pooled["conv#2"], second.float().mean(dim=(2, 3)))
    with open_network(network, [], refused) as live:
        torch.testing.assert_close(live.respond("conv#2", bank.images), second)
        torch.testing.assert_close(live.intervene("relu#2", torch.zeros_like, bank.images), end)
        with pytest.raises(ValueError, match="'relu#3' is not among the 2"):
            live.respond("relu#3", bank.images)
        fields = live.receptive_fields(["relu", "relu#2"], bank.images[0])
    assert fields == {"relu": le.ReceptiveField(3, 1, -1), "relu#2": le.ReceptiveField(5, 1, -2)}


def test_rows_that_are_no_stimuli_are_refused_by_name():
    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.windows, self.fc = nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return self.fc(self.windows(rows.flatten(0, 1)).unflatten(0, rows.shape[:2]).mean(dim=1))

    network, bank = Folded().double(), make_doubles(6, 4)
    seen = run_bank(network, bank, ["windows"], squares=["windows"])
    told = {kind: str(error) for (kind, _), error in seen.troubles.items()}
    assert "a row for each stimulus; layer 'windows' gives (72, 4) for 12 stimuli" in told["activations"]
    assert "get a row for each stimulus; 'windows' gets others" in told["squares"]
