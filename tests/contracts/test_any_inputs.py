"""Fits on vectors, token ids and dictionaries, with all default probes: records are what hooks of our own see."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import lightning_emerge as le
from lightning_emerge.records.structures import call, take

AT, SIZE, TOKENS = le.At([0, 2]), 24, ("a", "b", "c")
PICTURES = {"MaximisationProbe"}


class Vectors(LightningModule):
    """Two logits' worth of one: learns by a binary cross-entropy."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.relu, self.fc2 = nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.relu(self.fc1(rows)))[:, 0]

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return F.binary_cross_entropy_with_logits(self(batch[0]), batch[-1].float())

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.05)


class Reader(Vectors):
    """Token ids, with or without a mask, into a tuple of logits and states."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm = nn.Embedding(11, 6), nn.LSTM(6, 5, batch_first=True)
        self.fc1, self.fc2 = nn.Linear(5, 8), nn.Linear(8, 3)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor | None = None) -> Any:
        states, _ = self.lstm(self.embed(ids) if mask is None else self.embed(ids) * mask[..., None])
        return self.fc2(self.relu(self.fc1(states[:, -1]))), states

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return F.cross_entropy(self(*batch[:-1])[0], batch[-1])


class Named(Reader):
    """Gives a mapping whose answers have a name of their own, and learns by a loss of its own."""

    def forward(self, ids: torch.Tensor, mask: torch.Tensor | None = None) -> Any:
        logits, states = super().forward(ids, mask)
        return {"states": states, "answers": logits}

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return F.cross_entropy(self(*batch[:-1])["answers"], batch[-1], label_smoothing=0.1)


def smoothed(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(outputs, labels, label_smoothing=0.1)


IDS = torch.randint(0, 11, (SIZE, 7), generator=torch.Generator().manual_seed(0))
ROWS = torch.randn(SIZE, 6, generator=torch.Generator().manual_seed(0))
KINDS: dict[str, tuple[Any, Any, int, dict[str, Any]]] = {
    "vectors": (Vectors, ROWS, 2, {}),
    "ids": (Reader, IDS, 3, {"texts": [f"text {k}" for k in range(SIZE)]}),
    "dictionary": (Named, {"mask": IDS > 2, "ids": IDS}, 3, {"outputs": "answers", "loss": smoothed}),
}


def _probes() -> list[le.Probe]:
    kinds = (
        *(le.CategoryProbe, le.FilterProbe, le.TopExemplarProbe, le.SimilarityProbe, le.EmbeddingProbe),
        *(le.GradientProbe, le.TokenGradientProbe, le.GradientNoiseProbe, le.RegimeProbe),
    )
    dear = [le.CurvatureProbe(1, 2, 2, schedule=AT), le.MaximisationProbe(AT, filters=2, iterations=2)]
    return [*(kind(AT) for kind in kinds), *dear]


def _logits(network: nn.Module, inputs: Any) -> torch.Tensor:
    result = call(network, inputs)
    if isinstance(result, torch.Tensor):
        return torch.stack([torch.zeros_like(result), result], dim=1)
    return result[0] if isinstance(result, tuple) else result["answers"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_fit_records_what_hooks_by_hand_see(kind, make_trainer, tmp_path, recwarn):
    make, inputs, tokens, task = KINDS[kind]
    labels = torch.arange(SIZE) % tokens
    torch.manual_seed(1)
    network = make()
    stimuli = le.Stimuli(inputs, labels, TOKENS[:tokens], **task)
    probes = _probes()
    columns = [inputs["ids"], inputs["mask"]] if isinstance(inputs, dict) else [inputs]
    make_trainer([*probes, stimuli], max_steps=3).fit(network, DataLoader(TensorDataset(*columns, labels), 8))
    assert {type(probe).__name__ for probe in probes if probe.failed_at is not None} == PICTURES
    records = le.open_run(tmp_path / "run")
    assert (tmp_path / "run" / "stimuli.png").exists() == (kind != "dictionary")
    torch.manual_seed(1)
    network = make().eval()
    kept: list[torch.Tensor] = []
    network.fc1.register_forward_hook(lambda _m, _g, output: kept.append(output.detach()))
    logits = _logits(network, inputs)
    shares = [(logits.argmax(dim=1) == labels)[labels == token].float().mean().item() for token in range(tokens)]
    np.testing.assert_allclose(records.bank_accuracy.sel(step=0).values, shares, rtol=1e-6)
    rdm = 1 - np.corrcoef(kept[0].double().numpy())
    found = records.rdm.sel(step=0)
    np.testing.assert_allclose(found.sel({found.dims[0]: "fc1"}).values, rdm, atol=1e-5)
    norms = records.token_gradient_norm.sel(step=0)
    norms = norms.sel({norms.dims[0]: "fc1"}).values
    for token in range(tokens):
        own = (labels == token).nonzero()[:, 0]
        loss = (smoothed if task.get("loss") else F.cross_entropy)(_logits(network, take(inputs, own)), labels[own])
        (gradient,) = torch.autograd.grad(loss, network.fc1.weight)
        np.testing.assert_allclose(norms[token], gradient.norm().item(), rtol=1e-4)
    for name in (
        "hessian_trace",
        "gsnr",
        "distances",
        "filter_norm",
        "top_activation",
        "gradient_norm",
        "ridge_accuracy",
    ):
        assert np.isfinite(records[name].values).any()


class Images(Vectors):
    """Takes images by a name alone, as networks of Hugging Face do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc2 = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 3)

    def forward(self, *, pixel_values: torch.Tensor) -> Any:
        return {"logits": self.fc2(self.relu(self.conv(pixel_values)).mean(dim=(2, 3)))}

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return F.cross_entropy(self(pixel_values=batch[0])["logits"], batch[1])


def test_images_that_have_a_name_are_images(make_trainer, tmp_path):
    images, labels = torch.randn(SIZE, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(SIZE) % 3
    torch.manual_seed(1)
    network, layers = Images(), ["conv", "fc2"]
    stimuli = le.Stimuli({"pixel_values": images}, labels, TOKENS)
    probes = [
        le.TopExemplarProbe(AT, layers, on_error="raise"),
        le.MaximisationProbe(AT, layers, filters=2, iterations=2, on_error="raise"),
        le.SimilarityProbe(AT, layers, on_error="raise"),
    ]
    make_trainer([*probes, stimuli], max_steps=3).fit(network, DataLoader(TensorDataset(images, labels), 8))
    records = le.open_run(tmp_path / "run")
    torch.manual_seed(1)
    network = Images().eval()
    maps = network.conv(images)
    best = records.best_exemplar_activation.sel(step=0)
    expected = maps.mean(dim=(2, 3)).amax(dim=0)[:2].detach()
    np.testing.assert_allclose(best.sel({best.dims[0]: "conv"}).values, expected, rtol=1e-4)
    tops = records.top_activation.sel(step=0)
    expected = maps.amax(dim=(2, 3)).sort(dim=0, descending=True).values[:4].T.detach()
    np.testing.assert_allclose(tops.sel({tops.dims[0]: "conv"}).values, expected, rtol=1e-4)
    spans = records.top_span.sel(step=0)
    edges = spans.sel({spans.dims[0]: "conv"}).values
    assert (edges[..., 1] - edges[..., 0] == 3).all()
    assert {"top_crop", "maximising_image"} <= set(records)
