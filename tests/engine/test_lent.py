"""What a probe is lent: every kind of change is seen, named and, where it can be, put back."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything
from torch import nn

from lightning_emerge.engine.lent import Backup, ChangedError, is_foreign, same_streams, unchanged
from lightning_emerge.probes.similarity import SimilarityProbe
from lightning_emerge.records import Capture, Convolution, PastLook, StimulusBank

_NUMPY: Callable[[], object] = np.random.random


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten()).eval()


def make() -> Capture:
    bank = StimulusBank(torch.ones(2, 3, 8, 8), torch.zeros(2, dtype=torch.long), ("a", "b"), ("dax",))
    turned = {"0": Convolution((1, 1), (1, 1), (0, 0, 0, 0), torch.ones(4), torch.zeros(4), False)}
    fields = ("activations", "pooled", "inputs", "weights", "bank_gradients", "token_gradients", "gradient_squares")
    lent = {name: {"0": torch.ones(4)} for name in (*fields, "gradients", "updates", "fired")}
    past = [PastLook(step, {"0": torch.ones(4)}, {"0": torch.ones(4)}) for step in range(2)]
    lent |= {"first": past[0], "previous": past[1]}
    return Capture(0, ("0",), bank, outputs=torch.ones(2, 1), convolutions=turned, **lent)


def guarded(module: nn.Module, capture: Capture) -> AbstractContextManager[None]:
    return unchanged(module, capture, Backup(module), rows=("activations", "pooled", "inputs", "outputs"))


CHANGES: dict[str, Callable[[nn.Sequential, Capture], object]] = {
    "bank's images": lambda _, capture: capture.bank.images.zero_(),  # pyright: ignore[reportOptionalMemberAccess]
    "bank's labels": lambda _, capture: capture.bank.labels.add_(1),  # pyright: ignore[reportOptionalMemberAccess]
    "what was captured of the bank": lambda _, capture: capture.activations["0"].mul_(2),
    "a view of what was captured": lambda _, capture: capture.pooled["0"][1:].fill_(7),
    "gradients of 0": lambda _, capture: capture.gradients["0"].neg_(),
    "weights of 0": lambda _, capture: capture.weights["0"].neg_(),
    "scale of 0": lambda _, capture: capture.convolutions["0"].scale.neg_(),
    "captured": lambda _, capture: capture.outputs.exp_(),  # pyright: ignore[reportOptionalMemberAccess]
    "weights of the first look of 0": lambda _, capture: capture.first.weights["0"].zero_(),  # pyright: ignore
    "gradients of the previous look of 0": lambda _, capture: capture.previous.gradients["0"].zero_(),  # pyright: ignore
    "gradient of 0.bias": lambda module, _: module(torch.ones(1, 3, 8, 8)).sum().backward(),
    "gradient of 0.weight": lambda module, _: module[0].weight.grad.add_(1),
    "0.weight": lambda module, _: module[0].weight.detach().add_(1),
    "1.num_batches_tracked": lambda module, _: module.train()(torch.ones(2, 3, 8, 8)),
    "the mode of 1": lambda module, _: module[1].train(),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_seen_and_named_and_the_network_put_back(name):
    module, capture = network(), make()
    module[0].weight.grad = torch.ones_like(module[0].weight)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    with pytest.raises(ChangedError, match=name.removeprefix("a view of ")), guarded(module, capture):
        CHANGES[name](module, capture)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert not any(layer.training for layer in module.modules())
    assert torch.equal(module[0].weight.grad, torch.ones_like(module[0].weight))
    assert module[0].bias.grad is None


def test_a_change_that_cannot_be_put_back_is_said():
    module = network()
    with pytest.raises(ChangedError, match=r"0\.weight and the like stay"), unchanged(module, make(), None):
        CHANGES["0.weight"](module, make())


def test_a_change_is_put_back_when_the_probe_fails_too():
    module = network()
    before = module[0].weight.detach().clone()
    with pytest.raises(ChangedError, match=r"0\.weight"), unchanged(module, make(), Backup(module)):
        fail(CHANGES["0.weight"](module, make()))
    assert torch.equal(module[0].weight, before)


def test_reading_and_computing_is_no_change():
    module, capture = network(), make()
    with guarded(module, capture):
        module(capture.bank.images).sum()  # pyright: ignore[reportOptionalMemberAccess]
        torch.autograd.grad(module(torch.ones(2, 3, 8, 8)).sum(), module[0].weight)
        capture.activations["0"].add(1).zero_()
        capture.activations["0"].clone().zero_()
    with torch.inference_mode():
        images = torch.ones(2)
    with unchanged(module, Capture(0, (), outputs=images), Backup(module)):
        images.sum()


def fail(_: object) -> None:
    raise KeyError


DRAWS: list[Callable[[], object]] = [
    lambda: torch.manual_seed(0),
    lambda: torch.rand(1),
    lambda: torch.randperm(3),
    _NUMPY,
    lambda: np.random.seed(0),  # noqa: NPY002
    random.random,
    lambda: random.seed(0),
]


@pytest.mark.parametrize("draw", DRAWS)
def test_a_random_stream_that_is_drawn_from_is_seen_and_put_back(draw):
    seed_everything(5, verbose=False)
    torch.rand(3)
    state = torch.get_rng_state(), np.random.get_state(legacy=True)[1:3], random.getstate()  # noqa: NPY002
    with pytest.raises(ChangedError, match="random streams"), same_streams():
        draw()
    after = torch.get_rng_state(), np.random.get_state(legacy=True)[1:3], random.getstate()  # noqa: NPY002
    assert torch.equal(state[0], after[0])
    assert state[2] == after[2]
    assert state[1][1] == after[1][1]
    assert np.array_equal(state[1][0], after[1][0])


def test_generators_of_ones_own_are_no_change():
    with same_streams():
        np.random.default_rng(0).random()
        torch.rand(1, generator=torch.Generator().manual_seed(0))
        random.Random(0).random()


def test_probes_of_this_package_are_not_foreign():
    class Own(SimilarityProbe):
        def draw(self, measurement):
            return None

    assert not is_foreign(SimilarityProbe.measure)
    assert not is_foreign(Own.measure)
    assert is_foreign(Own.draw)
