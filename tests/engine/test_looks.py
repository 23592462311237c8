"""What one look finds: a need that fails is the trouble of those that asked for it, and of nobody else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import lightning_emerge as le
from lightning_emerge.capture.needs.base import Collector
from lightning_emerge.engine.conductor import Conductor
from lightning_emerge.engine.looks import has_bank
from lightning_emerge.engine.reporting import Sinks
from lightning_emerge.measures import model_rdms


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


class Collects(le.Need):
    """Fails in one of the steps of a pass."""

    bank = passes = True

    def __init__(self, step: str) -> None:
        vars(self)["step"] = step

    def collect(self, view, layers, troubles):
        return Fails(self, view, layers, troubles, step=self.step)


class Fails(Collector):
    def __init__(self, *given, step: str) -> None:
        super().__init__(*given)
        fail(step == "collect")
        self.step = step

    def begin(self):
        fail(self.step == "begin")

    def rows(self, chunk):
        fail(self.step == "rows")
        return {}

    def add(self, chunk):
        fail(self.step == "add")

    def finish(self, rows):
        fail(self.step == "finish")
        return {}


def fail(now: bool) -> None:
    if now:
        raise RuntimeError("planted in a pass")


class Summed(le.Sums):
    def start(self, view, layer):
        return torch.zeros(1)

    def add(self, chunk, layer, total):
        return True

    def finish(self, view, layer, total):
        raise RuntimeError("planted in finish")


class Hooked(le.Rows):
    def hook(self, view, layer):
        view.after(view.modules[layer], self.fail)

    def fail(self, part, given, output):
        raise RuntimeError("planted in a hook")

    def rows(self, chunk, layer):
        return chunk.outputs()


class Notes(le.Probe):
    """Keeps what it is given."""

    def __init__(self, *needs: le.Need, layers: list[str] | None = None) -> None:
        super().__init__(le.EverySteps(1), layers)
        self.needs, self.captures = needs, []  # type: ignore[misc]

    def measure(self, capture):
        self.captures.append(capture)
        return []


_PASS = ["collect", "begin", "rows", "add", "finish"]


@pytest.mark.parametrize("need", [Broken(), Apart(), Summed(), Hooked(), *map(Collects, _PASS)])
def test_a_need_that_fails_switches_off_who_asked_and_no_other(need):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    bank = le.StimulusBank(torch.randn(6, 4), torch.arange(6) % 2, tuple("abcdef"), ("a", "b"))
    probes = [Notes(need), Notes(Norms(), layers=["2"]), Notes(le.Activations(), le.Outputs())]
    conductor = Conductor(network, probes, bank, Sinks(), step=0)
    with pytest.warns(UserWarning, match="Notes failed at step 0.*planted in"):
        conductor.look(0)
    conductor.close()
    assert [probe.failed_at for probe in probes] == [0, None, None]
    assert [len(probe.captures) for probe in probes] == [0, 1, 1]
    np.testing.assert_allclose(probes[1].captures[0].norms["2"], network[2].weight.detach().norm())
    assert list(probes[2].captures[0].found) == ["activations", "outputs"]
    assert not any(layer._forward_hooks for layer in network.modules())


def look(*probes: le.Probe) -> nn.Sequential:
    """Has probes look once at a small network, with a bank if one of them is to have it."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    bank = le.StimulusBank(torch.randn(6, 4), torch.arange(6) % 2, tuple("abcdef"), ("a", "b"))
    conductor = Conductor(
        network, probes, bank if any(has_bank(one.needs) for one in probes) else None, Sinks(), step=0
    )
    conductor.look(0)
    conductor.close()
    return network


class Doubled(le.Need):
    """Made of what other needs find."""

    finds = ()
    uses = (le.Activations(), le.Weights())


def test_what_a_need_uses_is_found_as_if_the_probe_had_asked_for_it():
    probe = Notes(Doubled())
    network = look(probe)
    capture = probe.captures[0]
    assert capture.bank is not None
    assert torch.equal(capture.weights["2"], network[2].weight)
    expected = network[2](torch.relu(network[0](capture.bank.images)))
    torch.testing.assert_close(capture.activations["2"], expected)


class Counts(le.Need):
    """Something of the whole network, by a name of its own."""

    whole = True

    def look(self, look, layers):
        return {"counts": {"weights": sum(one.numel() for one in look.module.parameters())}}


def test_what_is_of_the_whole_network_is_given_as_it_is():
    probe = Notes(Counts())
    look(probe)
    assert probe.captures[0].counts == {"weights": 4 * 3 + 3 + 3 * 2 + 2}


class Scores(le.Outputs):
    """Outputs by another name."""


def test_a_need_that_is_made_of_another_keeps_its_own_name():
    probe = Notes(Scores(), le.Outputs())
    look(probe)
    assert torch.equal(probe.captures[0].scores, probe.captures[0].outputs)


class Unsaid(Norms):
    def look(self, look, layers):
        return {"activations": {}}


def test_what_a_need_finds_and_does_not_say_costs_who_asked_and_no_other():
    probes = [Notes(le.Activations(), Unsaid()), Notes(le.Activations())]
    with pytest.warns(UserWarning, match=r"`finds`; Unsaid\(\) says unsaid, and found 'activations'"):
        look(*probes)
    assert [len(probe.captures) for probe in probes] == [0, 1]


class Halves(Norms):
    def look(self, look, layers):
        return {"halves": [torch.zeros(2), torch.ones(2)]}


class Overwrites(Notes):
    def measure(self, capture):
        capture.halves[1].zero_()
        return []


def test_a_probe_that_writes_to_one_of_several_tensors_of_a_need_is_named_and_no_other_sees_it():
    second = Notes(Halves())
    with pytest.warns(UserWarning, match="Overwrites failed.*it changed halves"):
        look(Overwrites(Halves()), second)
    assert second.captures[0].halves[1].tolist() == [1, 1]


class Endless(Norms):
    def look(self, look, layers):
        return {"endless": {}}

    def finite(self, found):
        raise RuntimeError("planted in finite")


def test_a_need_that_cannot_say_what_is_finite_stops_nothing():
    probe = Notes(Endless())
    with pytest.warns(UserWarning, match="NaN is said no more.*planted in finite"):
        look(probe)
    assert len(probe.captures) == 1
    assert probe.failed_at is None


def test_what_is_made_of_a_bank_is_made_once_also_beside_somebodys_own_probe(monkeypatch):
    made, make = list[le.StimulusBank](), model_rdms._models
    monkeypatch.setattr(model_rdms, "_models", lambda bank: made.append(bank) or make(bank))
    bank = le.StimulusBank(torch.rand(12, 3, 8, 8), torch.arange(12) % 2, tuple(map(str, range(12))), ("dax", "wug"))

    class Own(le.Probe):
        needs = (le.Images(),)

        def measure(self, capture):
            assert capture.bank is not bank
            assert torch.equal(capture.bank.images, bank.images)
            return ()

    every = le.EverySteps(1)
    probes = [Own(every, on_error="raise"), le.SimilarityProbe(every, on_error="raise")]
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2))
    conductor = Conductor(network, probes, bank, Sinks(), step=0)
    for step in range(3):
        conductor.look(step)
    conductor.close()
    assert [one is bank for one in made] == [True]
