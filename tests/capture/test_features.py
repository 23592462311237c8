"""What the last linear map gets."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from passed import run_bank
from small import make_doubles
from torch import nn
from torchvision.models import resnet18


class Ends(nn.Module):
    def __init__(self, end: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.spare, self.end = nn.Linear(4, 2), nn.Linear(4, 2), end

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        self.spare(rows)
        out = self.fc(rows.tanh())
        self.spare(rows)
        return self.end(out)


def test_features_are_what_the_last_linear_map_gets():
    bank = make_doubles(3, 32, 32)
    network = resnet18(num_classes=2).double()
    seen = run_bank(network, bank, [], features=True)
    last = network.fc
    with torch.no_grad():
        network.eval().fc = nn.Identity()
        expected = network(bank.images)
    torch.testing.assert_close(seen.features, expected.float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(seen.outputs, last(expected).detach().float(), rtol=1e-5, atol=1e-6)
    assert torch.equal(seen.readout, last.weight)


@pytest.mark.parametrize("end", [lambda out: out, lambda out: out.float(), lambda out: out.view(-1, 2)])
def test_they_are_found_by_what_the_network_returns(end):
    network, bank = Ends(end).double(), make_doubles(4)
    seen = run_bank(network, bank, [], features=True)
    assert torch.equal(seen.features, bank.images.tanh().float())
    assert torch.equal(seen.readout, network.fc.weight)


@pytest.mark.parametrize("end", [lambda out: out.softmax(dim=1), lambda out: out.mul_(2), lambda out: out + 1])
def test_a_network_that_returns_something_else_has_none(end):
    seen = run_bank(Ends(end).double(), make_doubles(4), [], features=True)
    assert seen.features is None
    assert seen.readout is None
