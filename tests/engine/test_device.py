"""A look waits for all that a GPU has to do, and computes in whole float32."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
import torch

import lightning_emerge as le
from lightning_emerge.engine import device as module
from lightning_emerge.engine.conductor import Conductor
from lightning_emerge.engine.reporting import Sinks

SWITCHES = (torch.backends.cudnn.conv, torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)


class Noting(le.Probe):
    """Notes when it measures, and how exactly products are computed then."""

    needs = (le.Outputs(),)

    def __init__(self, events: list[object]) -> None:
        super().__init__(le.EverySteps(1), on_error="raise")
        self.events = events

    def measure(self, capture: le.Capture) -> Iterable[le.Measurement]:
        self.events.append(tuple(switch.fp32_precision for switch in SWITCHES))
        return []


@pytest.fixture
def conductor(make_data, make_model):
    data, model, events = make_data(), make_model(), []
    data.setup("fit")
    model.network.register_forward_hook(lambda *_: events.append("pass") if "pass" not in events else None)
    conductor = Conductor(model, [Noting(events)], data.stimulus_bank(), Sinks(), step=0)
    yield conductor, events
    conductor.close()


def test_a_look_waits_for_the_gpu_before_it_and_for_its_own_work_after(conductor, monkeypatch):
    conductor, events = conductor
    conductor.reporter.device = torch.device("cuda", 1)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: events.append(f"wait for {device}"))
    conductor.look(0)
    wait, exact = "wait for cuda:1", ("ieee",) * 3
    assert events == [wait, "pass", wait, exact, wait]


def test_nothing_is_waited_for_on_a_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _: pytest.fail("there is no GPU in use"))
    module.wait_for(torch.device("cpu"))


@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_a_look_computes_in_whole_float32_and_training_as_before(precision, conductor):
    conductor, events = conductor
    before, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision(precision)
    try:
        switches = [switch.fp32_precision for switch in SWITCHES]
        assert "tf32" in switches
        conductor.look(0)
        assert events[-1] == ("ieee",) * 3
        assert [switch.fp32_precision for switch in SWITCHES] == switches
        # The older switches are refused where the newer ones contradict them.
        assert torch.get_float32_matmul_precision() == precision
        assert torch.backends.cudnn.allow_tf32 == convolutions
    finally:
        torch.set_float32_matmul_precision(before)


def test_precision_comes_back_after_an_error():
    before = [switch.fp32_precision for switch in SWITCHES]
    with pytest.raises(RuntimeError, match="planted"), module.full_precision():
        raise RuntimeError("planted")
    assert [switch.fp32_precision for switch in SWITCHES] == before
