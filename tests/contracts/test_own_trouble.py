"""Promise 9: one's trouble is one's own. What cannot be had of a network costs those alone that asked for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import lightning_emerge as le

AT = le.At([0, 2])
STIMULI, TOKENS = 20, 5


class Trainee(LightningModule):
    """Learns by the cross-entropy of what it gives, unless it says otherwise."""

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), 0.05)


class Attention(Trainee):
    """One layer is called as a function, by its weight; one in training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.attn = nn.Linear(8, 12), nn.MultiheadAttention(12, 2, batch_first=True)
        self.head, self.aux = nn.Linear(12, TOKENS), nn.Linear(12, TOKENS)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = self.embed(images[:, 0])
        mixed, _ = self.attn(rows, rows, rows)
        answer = self.head(mixed.mean(dim=1))
        return answer + self.aux(rows.mean(dim=1)) if self.training else answer


class Convolutions(Trainee):
    """What it gives is made by a function from what its layers give; one layer is passed in training alone."""

    def __init__(self, give: Callable[..., Any] = lambda logits, _: logits) -> None:
        super().__init__()
        self.conv, self.aux = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.relu, self.fc, self.give = nn.ReLU(), nn.Linear(4, TOKENS), give

    def forward(self, images: torch.Tensor) -> Any:
        hidden = self.relu(self.conv(images))
        hidden = self.aux(hidden) if self.training else hidden
        return self.give(self.fc(hidden.mean(dim=(2, 3))), hidden)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return cross_entropy(self.fc(self.relu(self.aux(self.conv(batch[0]))).mean(dim=(2, 3))), batch[1])


class Autoencoder(Trainee):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.relu, self.decoder = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.relu(self.encoder(images)))

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return (self(batch[0]) - batch[0]).square().mean()


@dataclass
class Answer:
    logits: torch.Tensor
    hidden: torch.Tensor


class Own(le.Probe):
    """The means of what it asks for, by layer, of any needs."""

    def __init__(
        self, needs: tuple[le.Need, ...], name: str = "own", layers: list[str] | None = None, **keywords: Any
    ) -> None:
        super().__init__(AT, layers, **keywords)
        self.needs, self.records = needs, (le.Record(name, ("number",)),)  # type: ignore[misc]

    def measure(self, capture: le.Capture) -> Iterable[le.Measurement]:
        kinds = ("activations", "pooled", "inputs", "bank_gradients", "token_gradients", "gradient_squares")
        found = [rows for kind in kinds for rows in capture.found.get(kind, {}).values()]
        if "network" in capture.found and capture.bank is not None:
            found += [capture.network.respond(layer, capture.bank.images) for layer in capture.layers]
        found = found or [torch.zeros(1)] * len(capture.layers)
        values = torch.stack([rows.detach().double().mean() for rows in found]).numpy()
        yield self.records[0].of(values, le.Axis("number", range(len(values))))


def make_stimuli(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2 * STIMULI, *shape, generator=generator), torch.arange(2 * STIMULI) % TOKENS


def bank_of(images: torch.Tensor, labels: torch.Tensor) -> le.Stimuli:
    return le.Stimuli(images[:STIMULI], labels=labels[:STIMULI])


@pytest.fixture
def fit(make_trainer: Callable[..., Trainer], tmp_path: Path) -> Callable[..., tuple[Trainee, Any]]:
    """Trains a network for three steps, and gives it as it began, with its records."""

    def run(make: Callable[[], Trainee], probes: list[le.Probe], *shape: int) -> tuple[Trainee, Any]:
        torch.manual_seed(1)
        network, (images, labels) = make(), make_stimuli(*(shape or (1, 8, 8)))
        torch.manual_seed(1)
        before = make()
        trainer = make_trainer([*probes, bank_of(images, labels)], max_steps=3)
        trainer.fit(network, DataLoader(TensorDataset(images, labels), 10))
        assert trainer.global_step == 3
        return before.eval(), le.open_run(tmp_path / "run")

    return run


def probes_of_all_kinds() -> list[le.Probe]:
    kinds = (
        *(le.CategoryProbe, le.FilterProbe, le.TopExemplarProbe, le.SimilarityProbe, le.EmbeddingProbe),
        *(le.GradientProbe, le.TokenGradientProbe, le.GradientNoiseProbe),
    )
    dear = [le.CurvatureProbe(1, 2, 2, schedule=AT), le.MaximisationProbe(AT, filters=2, iterations=2)]
    return [*(kind(AT) for kind in kinds), *dear, Own((le.Activations(),))]


def off(probes: list[le.Probe]) -> set[str]:
    return {type(probe).__name__ for probe in probes if probe.failed_at is not None}


def seen_by(network: nn.Module, layers: list[str], images: torch.Tensor) -> dict[str, torch.Tensor]:
    """What layers give, by hooks of our own."""
    kept: dict[str, torch.Tensor] = {}
    hooks = [
        network.get_submodule(layer).register_forward_hook(
            lambda _m, _g, output, at=layer: kept.update({at: output[0] if isinstance(output, tuple) else output})
        )
        for layer in layers
    ]
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return kept


def assert_means(found: Any, network: nn.Module, layers: list[str], images: torch.Tensor) -> None:
    kept = seen_by(network, layers, images)
    means = [kept[layer].double().mean().item() for layer in layers]
    np.testing.assert_allclose(found.sel(step=0).values, means, rtol=1e-5)


def test_defaults_are_what_a_dry_pass_reaches_and_the_rest_is_named_once(fit, recwarn):
    probes = probes_of_all_kinds()
    network, records = fit(Attention, probes)
    assert off(probes) == set()
    images, labels = (part[:STIMULI] for part in make_stimuli(1, 8, 8))
    assert list(records.rdm[records.rdm.dims[1]].values) == ["embed", "attn", "head"]
    assert_means(records.own, network, ["embed", "attn", "head"], images)
    logits = network(images)
    shares = [(logits.argmax(dim=1) == labels)[labels == token].float().mean().item() for token in range(TOKENS)]
    np.testing.assert_allclose(records.bank_accuracy.sel(step=0).values, shares, rtol=1e-6)
    # A weight that another module uses has a gradient; it has none of single stimuli, as no output of its own is seen.
    norms = records.token_gradient_norm.sel(step=0)
    layers = ["embed", "attn.out_proj", "head"]
    assert list(norms[norms.dims[0]].values) == layers
    weights = [network.get_submodule(layer).weight for layer in layers]
    for token in range(TOKENS):
        loss = cross_entropy(network(images[labels == token]), labels[labels == token])
        expected = [gradient.norm().item() for gradient in torch.autograd.grad(loss, weights)]
        np.testing.assert_allclose(norms.values[:, token], expected, rtol=1e-4)
    assert list(records.gsnr[records.gsnr.dims[1]].values) == ["embed", "head"]
    assert list(records.filter_norm[records.filter_norm.dims[1]].values) == [*layers, "aux"]  # weights alone: all
    lines = [str(one.message) for one in recwarn]
    notes = dict(line.split(" leaves out ") for line in lines if " leaves out " in line and "'aux'" in line)
    assert not {"FilterProbe", "GradientProbe"} & set(notes)
    assert notes["CategoryProbe"].startswith("aux. A probe looks at layers that the images pass; 'aux' was not reached")
    assert notes["TokenGradientProbe"].startswith("aux. ")
    assert all(line.count("'aux'") == 1 and "\n" not in line for line in notes.values())


_OF_LAYERS = [
    ((le.Activations(),), "was not reached"),
    ((le.Pooled(),), "was not reached"),
    ((le.Inputs(),), "was not reached"),
    ((le.Network(), le.Images()), "was not reached"),
    ((le.BankGradients(),), "not among them"),
    ((le.TokenGradients(),), "not among them"),
    ((le.GradientSquares(),), "not among them"),
]


@pytest.mark.parametrize(("needs", "reason"), _OF_LAYERS)
def test_a_layer_that_is_named_and_not_reached_switches_off_who_named_it_alone(needs, reason, fit, recwarn):
    probes = [
        Own(needs, "named", ["aux"]),
        Own(needs, "other", ["conv"]),
        Own((le.Activations(), le.Outputs()), "all"),
        le.CategoryProbe(AT),
        le.TokenGradientProbe(AT, ["conv", "fc"]),
    ]
    network, records = fit(Convolutions, probes)
    assert [probe.failed_at for probe in probes] == [0, None, None, None, None]
    told = [str(one.message) for one in recwarn if "switched off" in str(one.message)]
    assert len(told) == 1
    assert told[0].startswith("Own failed at step 0")
    assert "'aux'" in told[0]
    assert reason in told[0]
    assert "\n" not in told[0]
    assert "named" not in records
    assert list(records.step.values) == [0, 2, 3]
    assert np.isfinite(records.other_2.values).all()
    assert np.isfinite(records.token_gradient_norm.values).all()
    assert_means(records.all_3, network, ["conv", "fc"], make_stimuli(1, 8, 8)[0][:STIMULI])


@pytest.mark.parametrize(
    "give",
    [lambda logits, hidden: {"answers": logits, "hidden": hidden}, lambda logits, hidden: None],
    ids=["dict", "nothing"],
)
def test_probes_of_layers_look_where_outputs_cannot_be_told(give, fit, recwarn):
    probes = [*probes_of_all_kinds(), le.CouplingProbe(AT, ["conv", "aux"])]
    network, records = fit(lambda: Convolutions(give), probes)
    lost = {"TokenGradientProbe", "GradientNoiseProbe", "CurvatureProbe", "CouplingProbe"}
    assert off(probes) == lost
    told = [str(one.message) for one in recwarn if "switched off" in str(one.message)]
    assert sorted(line.partition(" failed")[0] for line in told) == sorted(lost)
    assert all("\n" not in line for line in told)
    assert_means(records.own, network, ["conv", "fc"], make_stimuli(1, 8, 8)[0][:STIMULI])
    for name in ("rdm", "distances", "top_activation", "filter_norm", "gradient_norm", "maximising_activation"):
        assert name in records
    assert_category_of_layers_alone(records, recwarn, "the network gives a (dict with answers, hidden|NoneType)")


def assert_category_of_layers_alone(records: Any, recwarn: Any, why: str) -> None:
    notes = [str(one.message) for one in recwarn if "CategoryProbe has no bank_accuracy" in str(one.message)]
    assert len(notes) == 1
    assert re.search(why, notes[0])
    assert np.isfinite(records.ridge_accuracy.values).all()
    assert {"silhouette", "collapse_norms", "class_selectivity"} <= set(records)
    assert not {"bank_accuracy", "bank_confidence", "collapse_disagreement", "collapse_duality"} & set(records)


@pytest.mark.parametrize(
    "give",
    [
        lambda logits, hidden: {"hidden": hidden, "logits": logits},
        lambda logits, hidden: (logits, hidden),
        lambda logits, hidden: {"anything": logits},
        Answer,
    ],
    ids=["logits", "tuple", "one", "dataclass"],
)
def test_outputs_are_found_in_what_networks_give(give, fit, recwarn):
    probes = probes_of_all_kinds()
    network, records = fit(lambda: Convolutions(give), probes)
    assert off(probes) == set()
    assert not any("has no bank_accuracy" in str(one.message) for one in recwarn)
    images, labels = (part[:STIMULI] for part in make_stimuli(1, 8, 8))
    logits = network.fc(network.relu(network.conv(images)).mean(dim=(2, 3)))
    shares = [(logits.argmax(dim=1) == labels)[labels == token].float().mean().item() for token in range(TOKENS)]
    np.testing.assert_allclose(records.bank_accuracy.sel(step=0).values, shares, rtol=1e-6)
    (gradient,) = torch.autograd.grad(cross_entropy(logits[labels == 0], labels[labels == 0]), network.fc.weight)
    norms = records.token_gradient_norm.sel(step=0)
    np.testing.assert_allclose(norms.values[1, 0], gradient.norm().item(), rtol=1e-4)


def test_a_loss_that_does_not_fit_costs_those_alone_that_need_it(fit, recwarn):
    probes = probes_of_all_kinds()
    network, records = fit(Autoencoder, probes)
    assert off(probes) == {"TokenGradientProbe", "GradientNoiseProbe", "CurvatureProbe"}
    told = [str(one.message) for one in recwarn if "switched off" in str(one.message)]
    assert all("outputs (stimulus, token); the network gives" in line and "1, 8, 8)" in line for line in told)
    assert_means(records.own, network, ["encoder", "decoder"], make_stimuli(1, 8, 8)[0][:STIMULI])
    assert {"rdm", "distances", "top_crop", "kernels", "gradient_norm", "maximising_image"} <= set(records)
    assert_category_of_layers_alone(records, recwarn, r"outputs \(stimulus, token\); the network gives \(")


def test_labels_beyond_the_outputs_cost_those_alone_that_need_answers(fit, recwarn):
    probes = probes_of_all_kinds()
    network, records = fit(lambda: Convolutions(lambda logits, _: logits[:, : TOKENS - 1]), probes)
    assert off(probes) == {"TokenGradientProbe", "GradientNoiseProbe", "CurvatureProbe"}
    told = [str(one.message) for one in recwarn if "switched off" in str(one.message)]
    assert_category_of_layers_alone(records, recwarn, f"where labels go up to {TOKENS - 1}")
    assert all(f", {TOKENS - 1}) where labels go up to {TOKENS - 1}" in line for line in told)
    assert_means(records.own, network, ["conv", "fc"], make_stimuli(1, 8, 8)[0][:STIMULI])


@pytest.mark.parametrize("shape", [(7,), (6, 7)])
def test_stimuli_that_are_no_images_cost_what_shows_pictures_alone(shape, fit, tmp_path, recwarn):
    def make() -> Trainee:
        network = Trainee()
        network.fc1, network.relu, network.fc2 = (
            nn.Linear(7 * (shape[0] if shape[1:] else 1), 6),
            nn.ReLU(),
            nn.Linear(6, TOKENS),
        )
        network.forward = lambda rows: network.fc2(network.relu(network.fc1(rows.flatten(1))))  # type: ignore[method-assign]
        return network

    probes = probes_of_all_kinds()
    network, records = fit(make, probes, *shape)
    assert off(probes) == {"MaximisationProbe"}
    told = [
        str(one.message) for one in recwarn if issubclass(one.category, UserWarning) and "srun" not in str(one.message)
    ]
    told = [line for line in told if "workers" not in line]
    assert len(told) == 2, told
    (without,) = [line for line in told if line.startswith("TopExemplarProbe has no top_crop and no top_span")]
    (without_images,) = [line for line in told if line != without]
    assert "looks at images (stimulus, channel, y, x); the bank's stimuli are (20, " in without_images
    assert "top_activation" in records
    assert "top_crop" not in records
    assert len(list((tmp_path / "run").glob("stimuli.*"))) == 2
    assert_means(records.own, network, ["fc1", "fc2"], make_stimuli(*shape)[0][:STIMULI])


class Counted(Convolutions):
    """Counts its passes of the bank; it does not run where gradients are taken, if it is told so."""

    def __init__(self, *, breaks: bool) -> None:
        super().__init__()
        self.breaks, self.passes = breaks, 0

    def forward(self, images: torch.Tensor) -> Any:
        if not self.training:
            self.passes += len(images) == STIMULI // TOKENS  # else they are few, to see what can be had
            if torch.is_grad_enabled() and self.breaks:
                raise RuntimeError("planted")
        return super().forward(images)


@pytest.mark.parametrize(
    ("breaks", "needs", "more"),
    [
        (True, (le.TokenGradients(),), 1),  # the chunk at which it breaks
        (False, (le.TokenGradients(), le.Activations()), 0),
        (False, (le.GradientSquares(),), 0),
        (False, (le.Inputs(), le.Pooled()), 0),
    ],
)
def test_a_need_that_fails_costs_no_further_pass_or_one_if_nothing_passes_with_it(
    breaks, needs, more, make_trainer, tmp_path
):
    counts: list[int] = []
    for failing in ([], [Own(needs, "failing", ["aux"])]):
        plain, (images, labels) = Own((le.Activations(), le.Outputs()), layers=["conv"]), make_stimuli(1, 8, 8)
        callbacks = [plain, *failing, bank_of(images, labels)]
        trainer = make_trainer(callbacks, max_steps=3, logger=False, default_root_dir=tmp_path / f"{len(failing)}")
        network, loader = Counted(breaks=breaks), DataLoader(TensorDataset(images, labels), 10)
        with pytest.warns(UserWarning, match="failed at step 0") if failing else nullcontext():
            trainer.fit(network, loader)
        assert plain.failed_at is None
        counts.append(network.passes)
    assert counts[1] - counts[0] == more


class Unsteady(Trainee):
    """Layers that give what is no row a stimulus, or not always as many numbers; and one that writes to a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))
        self.place, self.tokens, self.drop = nn.Linear(12, 12), nn.Linear(8, 12), nn.Dropout(0.5)
        self.mixed, self.head = nn.Linear(12, 12), nn.Linear(12, TOKENS)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.count += 1
        rows = self.tokens(images[:, 0]) + self.place(torch.ones(1, 12))
        flat = self.mixed(self.drop(rows).flatten(0, 1))
        return self.head(flat.view(len(images), 8, 12).mean(dim=1))


def test_layers_without_a_row_a_stimulus_are_left_out_and_never_spread_over_stimuli(fit, recwarn):
    probes = [Own((le.Activations(),)), Own((le.Activations(),), "broad", ["place"])]
    network, records = fit(Unsteady, probes)
    assert [probe.failed_at for probe in probes] == [None, 0]
    (told,) = (str(one.message) for one in recwarn if "switched off" in str(one.message))
    assert told.startswith("Own_2 failed at step 0")
    assert "a row for each stimulus; layer 'place' gives (1, 12) for 3 stimuli" in told
    assert_means(records.own, network, ["tokens", "head"], make_stimuli(1, 8, 8)[0][:STIMULI])
    (note,) = (str(one.message) for one in recwarn if "leaves out" in str(one.message))
    assert note.startswith("Own leaves out place, mixed. ")


@pytest.mark.parametrize("make", [Attention, Unsteady])
def test_seeing_what_is_reached_changes_nothing(make, make_trainer, tmp_path, recwarn):
    left = []
    for looked in (False, True):
        torch.manual_seed(1)
        network, (images, labels) = make(), make_stimuli(1, 8, 8)
        modes: list[dict[str, bool]] = []
        network.on_train_batch_start = lambda *_, n=network, m=modes: m.append(
            {k: p.training for k, p in n.named_modules()}
        )
        probes = [*probes_of_all_kinds(), bank_of(images, labels)] if looked else []
        trainer = make_trainer(probes, max_steps=3, logger=False, default_root_dir=tmp_path)
        trainer.fit(network, DataLoader(TensorDataset(images, labels), 10))
        left.append((network.state_dict(), torch.get_rng_state(), np.random.get_state()[1], modes))  # noqa: NPY002
        assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())
    for name, value in left[0][0].items():
        assert torch.equal(value, left[1][0][name]), name
    assert torch.equal(left[0][1], left[1][1])
    assert (left[0][2] == left[1][2]).all()
    assert left[0][3] == left[1][3]


def test_a_probe_that_has_no_layer_left_says_so_and_costs_no_other(fit, recwarn):
    class Functional(Convolutions):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            hidden = nn.functional.conv2d(images, self.conv.weight, self.conv.bias, padding=1).relu()
            return nn.functional.linear(hidden.mean(dim=(2, 3)), self.fc.weight, self.fc.bias)

    probes = [le.SimilarityProbe(AT), le.CouplingProbe(AT), le.CategoryProbe(AT), le.TokenGradientProbe(AT)]
    _, records = fit(Functional, probes)
    assert off(probes) == {"SimilarityProbe", "CouplingProbe"}
    lines = [str(one.message) for one in recwarn if "switched off" in str(one.message)]
    assert (
        "SimilarityProbe looks at layers that give what it needs when images pass; none of conv, aux, fc does"
        in lines[0]
    )
    assert "CouplingProbe looks at" in lines[1]
    assert all("'conv' was not reached" in line and "'aux' was not reached" in line for line in lines)
    assert np.isfinite(records.bank_accuracy.values).all()
    assert list(records.token_gradient_norm[records.token_gradient_norm.dims[1]].values) == ["conv", "fc"]
