"""Promise 1: probes leave training as it is, bit by bit."""

from __future__ import annotations

import random
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

import lightning_emerge as le


class _Witness(Callback):
    """Notes the order of the data, and everything that a probe could have changed, when training ends."""

    def __init__(self) -> None:
        self.order: list[str] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.order += batch["id"]

    def on_train_end(self, trainer, pl_module):
        self.state = {
            **{f"model {name}": value.clone() for name, value in pl_module.state_dict().items()},
            **{
                f"optimizer {number} {name}": value.clone()
                for number, row in trainer.optimizers[0].state_dict()["state"].items()
                for name, value in row.items()
            },
            "torch": torch.get_rng_state(),
        }
        numpy_state = np.random.get_state()  # noqa: NPY002 - the stream that probes must leave alone
        self.streams = (random.getstate(), numpy_state[1].tolist())
        self.modes = [module.training for module in pl_module.modules()]
        self.hooks = sum(len(module._forward_hooks) + len(module._backward_hooks) for module in pl_module.modules())


class _DrawsOneNumber(le.Probe):
    """A probe that breaks the promise behind the engine's back, to show that the test can fail."""

    needs = le.Needs(weights=True)

    def on_train_batch_end(self, *arguments):
        super().on_train_batch_end(*arguments)
        torch.rand(1)

    def measure(self, capture: le.Capture) -> Iterable[le.Measurement]:
        return []


@pytest.fixture
def train(make_data, make_model, make_trainer):
    def run(probes: list[le.Probe]) -> _Witness:
        witness = _Witness()
        make_trainer([*probes, witness], max_steps=50).fit(make_model(), datamodule=make_data())
        return witness

    return run


def _differences(a: _Witness, b: _Witness) -> list[str]:
    assert a.state.keys() == b.state.keys()
    wrong = [name for name, value in a.state.items() if not torch.equal(value, b.state[name])]
    names = ("order", "streams", "modes", "hooks")
    return wrong + [name for name in names if getattr(a, name) != getattr(b, name)]


def test_all_probes_leave_everything_bit_identical(train, all_probes):
    with_probes, without = train(all_probes(le.EverySteps(7))), train([])
    assert len(without.state) > 20
    assert len(without.order) == 50 * 20
    assert _differences(with_probes, without) == []


def test_a_probe_that_draws_one_random_number_is_found(train):
    assert _differences(train([_DrawsOneNumber(le.At([0]))]), train([])) != []
