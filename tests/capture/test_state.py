"""A network is left as it was, and looked at as it is written."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from passed import run_bank
from small import both, count_hooks, make_bank, make_mlp
from torch import nn
from torch.nn.utils import parametrize

from lightning_emerge.capture import (
    open_network,
)


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
