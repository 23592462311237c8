"""What one look finds: a need that fails is the trouble of those that asked for it, and of nobody else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import lightning_emerge as le
from lightning_emerge.engine.conductor import Conductor
from lightning_emerge.engine.reporting import Sinks


class Norms(le.Need):
    """The norms of weights, without a pass."""

    weighs = True

    def look(self, look, layers):
        return {"norms": {layer: look.read(layer).norm() for layer in layers}}


class Broken(Norms):
    def look(self, look, layers):
        raise RuntimeError("planted in look")


class Apart(le.Rows):
    def rows(self, chunk, layer):
        return chunk.outputs()

    def join(self, found, total, device):
        raise RuntimeError("planted in join")


class Notes(le.Probe):
    """Keeps what it is given."""

    def __init__(self, *needs: le.Need, layers: list[str] | None = None) -> None:
        super().__init__(le.EverySteps(1), layers)
        self.needs, self.captures = needs, []  # type: ignore[misc]

    def measure(self, capture):
        self.captures.append(capture)
        return []


@pytest.mark.parametrize("need", [Broken(), Apart()])
def test_a_need_that_fails_switches_off_who_asked_and_no_other(need):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    bank = le.StimulusBank(torch.randn(6, 4), torch.arange(6) % 2, tuple("abcdef"), ("a", "b"))
    probes = [Notes(need), Notes(Norms(), layers=["2"]), Notes(le.Activations(), le.Outputs())]
    conductor = Conductor(network, probes, bank, Sinks(), step=0)
    with pytest.warns(UserWarning, match="Notes failed at step 0 and is switched off.*planted in"):
        conductor.look(0)
    conductor.close()
    assert [probe.failed_at for probe in probes] == [0, None, None]
    assert [len(probe.captures) for probe in probes] == [0, 1, 1]
    np.testing.assert_allclose(probes[1].captures[0].norms["2"], network[2].weight.detach().norm())
    assert list(probes[2].captures[0].found) == ["activations", "outputs"]
    assert not any(layer._forward_hooks for layer in network.modules())
