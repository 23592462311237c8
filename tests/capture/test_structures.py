"""A pass of stimuli that are no images: vectors, series, token ids, dictionaries, several arguments."""

from __future__ import annotations

import pytest
import torch
from passed import run_bank
from torch import nn

import lightning_emerge as le
from lightning_emerge.records.structures import call

SIZE, TOKENS = 37, ("a", "b", "c")


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


class Reader(nn.Module):
    """Token ids into an embedding, an LSTM and a read-out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.fc = nn.Embedding(11, 4), nn.LayerNorm(4), nn.Linear(5, 3)
        self.lstm = nn.LSTM(4, 5, batch_first=True)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        rows = self.norm(self.embed(ids))
        if mask is not None:
            rows = rows * mask[..., None]
        return self.fc(self.lstm(rows)[0][:, -1])


class Two(nn.Module):
    """Two arguments, one of whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.fc = nn.Linear(6, 4), nn.Embedding(5, 4), nn.Linear(4, 3)

    def forward(self, rows: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
        return self.fc(self.left(rows).relu() + self.right(kind))


def _series() -> nn.Module:
    return nn.Sequential(nn.Conv1d(2, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3))


IDS = torch.randint(0, 11, (SIZE, 7), generator=seeded())
KINDS = {
    "vectors": (lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), torch.randn(SIZE, 6), "0"),
    "series": (_series, torch.randn(SIZE, 2, 20), "0"),
    "ids": (Reader, IDS, "norm"),
    "dictionary": (Reader, {"mask": IDS > 3, "ids": IDS}, "norm"),
    "arguments": (Two, (torch.randn(SIZE, 6), torch.randint(0, 5, (SIZE,), generator=seeded())), "left"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_layers_outputs_and_gradients_are_those_of_a_pass_by_hand(kind):
    torch.manual_seed(0)
    make, inputs, layer = KINDS[kind]
    network, labels = make(), torch.arange(SIZE) % 3
    bank = le.StimulusBank(inputs, labels, tuple(map(str, range(SIZE))), TOKENS)
    part, seen = dict(network.named_modules())[layer], []
    handle = part.register_forward_hook(lambda _m, _g, output: seen.append(output.detach()))
    outputs = call(network, inputs)
    handle.remove()
    weight = network.get_parameter("fc.weight" if hasattr(network, "fc") else f"{len(network) - 1}.weight")
    (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(outputs, labels), weight)
    last = "fc" if hasattr(network, "fc") else str(len(network) - 1)
    found = run_bank(network, bank, [layer, last], gradients=[last])
    torch.testing.assert_close(found.activations[layer], seen[0])
    torch.testing.assert_close(found.outputs, outputs.detach())
    torch.testing.assert_close(found.gradients[last], gradient)
