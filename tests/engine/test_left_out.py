"""Layers of which something cannot be measured, in a fit: left out by name, or their probe is off if it named them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parametrizations, prune
from torch.utils.data import DataLoader, TensorDataset
from torchvision.models import ResNet
from torchvision.models.resnet import BasicBlock

import lightning_emerge as le
from lightning_emerge.engine.conductor import LAYERS, PAST, Conductor
from lightning_emerge.engine.replay import replay
from lightning_emerge.engine.reporting import Sinks
from lightning_emerge.measures.collapse import self_duality
from lightning_emerge.measures.selectivity import class_selectivity

STEPS = 4


class Learner(LightningModule):
    """Trains any network of images by gradient descent."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.network(images)

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> torch.Tensor:
        return cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), lr=0.01)


def make_stimuli(count: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, 8, 8, generator=generator), torch.arange(count) % 3


@pytest.fixture
def fit(make_trainer, tmp_path) -> Callable[..., tuple[Any, list[str]]]:
    """Trains a learner; gives its records and what was said of what cannot be measured."""

    def run(learner: LightningModule, *callbacks: Any, **changes: Any) -> tuple[Any, list[str]]:
        stimuli = le.Stimuli(make_stimuli()[0][:18], make_stimuli()[1][:18])
        loader = DataLoader(TensorDataset(*make_stimuli()), batch_size=6)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            make_trainer([stimuli, *callbacks], max_steps=STEPS, **changes).fit(learner, loader)
        said = [str(one.message) for one in caught]
        said = [line for line in said if re.search("leaves out|failed at|has no|taken of", line)]
        return le.open_run(tmp_path / "run").load(), said

    return run


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.again, self.relu = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()
        self.wide, self.fc = nn.Conv2d(4, 6, 3), nn.Linear(6, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = self.relu(self.again(self.relu(self.again(self.relu(self.stem(images))))))
        return self.fc(self.relu(self.wide(maps)).mean(dim=(2, 3)))


def test_each_call_of_a_layer_is_looked_at_by_what_looks_at_outputs(fit):
    looks = le.At([0, STEPS])
    of_outputs = [le.SimilarityProbe(looks), le.CategoryProbe(looks), le.TopExemplarProbe(looks)]
    others = [kind(looks) for kind in (le.GradientNoiseProbe, le.TokenGradientProbe, le.FilterProbe, le.GradientProbe)]
    records, said = fit(Learner(Twice()), *of_outputs, *others, le.MaximisationProbe(looks, filters=1, iterations=1))
    assert not said
    for name in ("rdm", "silhouette", "top_activation", "maximising_activation"):
        assert records[records[name].dims[1]].values.tolist() == ["stem", "again", "again#2", "wide", "fc"], name
    assert "layer_channels" not in records.coords
    for name in ("gsnr", "token_gradient_norm", "filter_norm", "dead_share"):
        assert records[records[name].dims[1]].values.tolist() == ["stem", "again", "wide", "fc"], name
    assert np.isfinite(records.dead_share.isel(step=0).values[:-1]).all()


@pytest.mark.parametrize("kind", [le.SimilarityProbe, le.TopExemplarProbe, le.MaximisationProbe])
def test_a_probe_that_names_a_call_that_there_is_not_is_off_and_no_other(kind, fit):
    looks = le.EverySteps(2)
    probe, other = kind(looks, layers=["stem", "again#3"]), le.CategoryProbe(looks, layers=["stem", "fc"])
    records, said = fit(Learner(Twice()), probe, other)
    assert len(said) == 1
    assert re.search(f"{kind.__name__} failed at step 0 and is switched off; .*'again#3' is not among the 2", said[0])
    assert np.isfinite(records.silhouette.values).all()
    assert records.step.values.tolist() == [0, 2, 4]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.flat, self.one, self.two = nn.Flatten(), nn.Linear(192, 192), nn.Linear(192, 192)
        self.two.weight, self.relu, self.fc = self.one.weight, nn.ReLU(), nn.Linear(192, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.relu(self.two(self.relu(self.one(self.flat(images))))))


def test_a_weight_that_two_layers_share_counts_once_where_weights_are_taken_together(fit):
    looks = le.At([0])
    curvature = le.CurvatureProbe(eigenvalues=1, iterations=2, vectors=2, schedule=looks)
    records, said = fit(Learner(Tied()), le.GradientNoiseProbe(looks), curvature, le.TokenGradientProbe(looks))
    assert said == [
        f"{name} leaves out two. Weights that are taken together count once; 'two' has that of 'one'."
        for name in ("GradientNoiseProbe", "CurvatureProbe")
    ]
    total = records.gradient_variance.sel(step=0).sum() / records.gradient_signal.sel(step=0).sum()
    assert records.noise_scale_total.sel(step=0) == pytest.approx(float(total), rel=1e-5)
    assert records.hessian_layer_trace.shape[1] == 2
    norms = records.token_gradient_norm.sel(step=0)
    np.testing.assert_array_equal(norms.values[0], norms.values[1])


class Patches(nn.Module):
    """Positions with a filter each on the last axis."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.relu, self.mix, self.fc = nn.Conv2d(3, 5, 2, 2), nn.ReLU(), nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(self.relu(self.mix(self.relu(self.embed(images)).flatten(2).transpose(1, 2))).mean(dim=1))


def test_filters_are_not_taken_from_an_axis_of_positions(fit):
    looks = le.At([0, STEPS])
    probes = [le.CategoryProbe(looks), le.SimilarityProbe(looks), le.TopExemplarProbe(looks), le.EmbeddingProbe(looks)]
    learner = Learner(Patches())
    records, said = fit(learner, *probes)
    assert not said
    assert records[records.top_activation.dims[1]].values.tolist() == ["embed", "mix", "fc"]
    assert records.layer_channels.values.tolist() == [1, 2, 1]  # of each layer's own output
    network, (images, labels) = learner.network.eval(), make_stimuli()
    with torch.no_grad():
        rows = network.mix(network.relu(network.embed(images[:18])).flatten(2).transpose(1, 2))
    expected, _ = class_selectivity(rows.mean(dim=1), labels[:18])
    found = records.class_selectivity.values[-1, 1]
    np.testing.assert_allclose(found[:5], expected.numpy(), rtol=1e-4)
    assert np.isnan(found[5:]).all()
    for name in ("rdm", "silhouette", "distances", "ridge_accuracy"):
        assert records[name].shape[1] == 3, name
        assert np.isfinite(records[name].values).all(), name


class Residual(ResNet):
    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(BasicBlock, [1, 1, 1, 1], num_classes=3)


def test_a_resnet_has_self_duality_and_dead_channels(fit):
    learner, (images, labels) = Learner(Residual()), make_stimuli()
    learner.network.bn1.bias.data[:16] = -50
    probes = [le.CategoryProbe(le.At([0, STEPS])), le.GradientProbe(le.EverySteps(1))]
    records, said = fit(learner, *probes)
    assert not said
    network = learner.network.eval()
    last, network.fc = network.fc, nn.Identity()
    with torch.no_grad():
        expected = self_duality(network(images[:18]), last.weight, labels[:18])
    assert records.collapse_duality.values[-1] == pytest.approx(expected.item(), rel=1e-4)
    dead = records.dead_share.values[:-1]
    assert np.isfinite(dead[:, :-1]).all()
    assert np.isnan(dead[:, -1]).all()
    assert (dead[:, 0] == 0.25).all()


# One trial


class Spare(Tied):
    """Also with a layer that is not called, and one that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.spare, self.again, self.passes = nn.Linear(3, 3), nn.Linear(3, 3), list[int]()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if not self.training:
            self.passes.append(len(images))
        return self.again(self.again(super().forward(images)))


def test_layers_are_tried_once_and_what_is_left_out_for_several_reasons_is_said_at_once(fit):
    looks, learner = le.At([0]), Learner(Spare())
    curvature = le.CurvatureProbe(eigenvalues=1, iterations=2, vectors=2, schedule=le.At([99]))
    _, said = fit(learner, le.GradientNoiseProbe(looks), le.SimilarityProbe(looks), curvature)
    twin = "Weights that are taken together count once; 'two' has that of 'one'."
    assert [line.partition(". ")[0] for line in said] == [
        "GradientNoiseProbe leaves out two, spare",
        "SimilarityProbe leaves out spare",
        "CurvatureProbe leaves out two, spare",
    ]
    assert twin in said[0]
    assert "those of 'spare' are not among them" in said[0]
    assert "'spare' was not reached" in said[1]
    assert learner.network.passes[:4] == [3, 3, 1, 6]  # what is reached, the trial, the budget, the first token


class Silencing(le.Probe):
    """One of its layers at most, the last of those that there are."""

    needs = (le.Activations(),)
    records = (le.Record("chosen", ("layer",)),)

    def choose(self, module: nn.Module, layers: tuple[str, ...]) -> tuple[str, ...]:
        return layers[-1:]

    def measure(self, capture: le.Capture) -> list[le.Measurement]:
        return [self.records[0].of(np.zeros(1), le.Axis("layer", capture.layers))]


def test_a_probe_chooses_among_the_layers_that_are_left(fit):
    records, said = fit(Learner(Spare()), Silencing(le.At([0])))
    assert records.layer.values.tolist() == ["again#2"]
    assert not said


class Routed(nn.Module):
    """What is reached depends on a weight."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.flat, self.one, self.two, self.fc = nn.Flatten(), nn.Linear(192, 3), nn.Linear(3, 3), nn.Linear(3, 3)
        nn.init.ones_(self.fc.bias)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = self.one(self.flat(images))
        return self.fc(self.two(rows) if self.fc.bias.sum() > 0 else rows)


@pytest.mark.parametrize("reached", [True, False])
def test_a_run_that_goes_on_or_is_replayed_keeps_to_the_layers_that_it_had(reached, tmp_path, recwarn):
    def make(*, open_: bool) -> Routed:
        network = Routed()
        network.fc.bias.data *= 1 if open_ else -1
        return network

    def layers(conductor: Conductor) -> list[tuple[str, ...]]:
        conductor.close()
        return [member.layers for member in conductor.members]

    images, labels = make_stimuli()
    bank = le.StimulusBank(images, labels, tuple(map(str, range(len(labels)))), ("a", "b", "c"))
    probes = [le.SimilarityProbe(), le.MaximisationProbe(), le.TokenGradientProbe(), le.SimilarityProbe(layers=["one"])]
    before = Conductor(make(open_=reached), probes, bank, Sinks(), step=0)
    had = ("one", "two", "fc") if reached else ("one", "fc")
    assert layers(before) == [had, had, had, ("one",)]
    past = before.remember()
    after = Conductor(make(open_=not reached), probes, bank, Sinks(), step=1, past=past)
    assert layers(after) == layers(before)
    assert not {layer for _, layer in after.refused} & {*had}
    fresh = Conductor(make(open_=not reached), probes, bank, Sinks(), step=1, past={LAYERS: {"SimilarityProbe": ["x"]}})
    assert layers(fresh)[0] == (("one", "fc") if reached else ("one", "two", "fc"))
    state = {"global_step": 0, "state_dict": make(open_=not reached).state_dict(), PAST: past}
    torch.save(state, tmp_path / "a.ckpt")
    again = [le.SimilarityProbe()]
    conductor = replay(make(open_=True), again, bank, {0: tmp_path / "a.ckpt"}, Sinks(), lambda: None)
    assert layers(conductor) == [had]


# Weights that are made of others


@pytest.mark.parametrize("normalise", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_probes_leave_a_normalised_network_as_it_is_and_see_the_weight_in_use(normalise, fit):
    def make() -> Learner:
        network = Twice()
        normalise(network.stem)
        normalise(network.fc)
        return Learner(network)

    looks = le.EverySteps(1)
    bare, watched = make(), make()
    torch.manual_seed(0)
    fit(bare, le.GradientProbe(le.At([99]), layers=["wide"]))
    torch.manual_seed(0)
    kinds = [le.FilterProbe, le.GradientProbe, le.GradientNoiseProbe, le.TokenGradientProbe, le.CurvatureProbe]
    probes = [kind(schedule=looks) for kind in (*kinds, le.CategoryProbe)]
    records, said = fit(watched, *probes)
    state = bare.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in watched.state_dict().items())
    assert [line for line in said if "taken of" in line] == [
        "Gradients of training batches are taken of weights that are parameters; those of stem, fc are made of others, "
        "by a normalisation or a pruning, so that their gradients are NaN. Their updates are those of the weights in "
        "use."
    ]
    norms = records.filter_norm.sel(layer="stem").values[-1, :4]
    expected = watched.network.eval().stem.weight.flatten(1).norm(dim=1)
    np.testing.assert_allclose(norms, expected.detach().numpy(), rtol=1e-5)
    gradients = records.gradient_norm.values[:-1]
    assert np.isnan(gradients[:, [0, 3]]).all()
    assert np.isfinite(gradients[:, [1, 2]]).all()
    assert np.isnan(records.gradient_magnitude.values[:-1, 0]).all()
    assert (records.update_ratio.values[:-1] > 0).all()


class Prunes(Callback):
    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 2:
            prune.l1_unstructured(module.network.stem, "weight", 54)


def test_what_is_pruned_while_training_is_measured_as_pruned(fit):
    learner = Learner(Twice())
    records, said = fit(learner, le.FilterProbe(le.EverySteps(1)), le.GradientProbe(le.EverySteps(1)), Prunes())
    kernels = records.kernels.values
    zeros = (kernels == 0).sum(axis=(1, 2, 3, 4, 5))
    assert zeros.tolist() == [0, 0, 0, 54, 54]  # the look at step 2 was before the batch
    (line,) = (line for line in said if "taken of" in line)
    assert "those of stem are made of others" in line
    assert np.isnan(records.gradient_norm.values[:, 0]).tolist() == [False, False, True, True, True]


# Which weights an optimizer steps


def _norm(gradient: torch.Tensor | None) -> float:
    return 0 if gradient is None else gradient.norm().item()


class Two(Learner):
    """A generator and a discriminator of sorts: each step's loss gives both gradients, and one of them steps."""

    automatic_optimization = False

    def __init__(self, *, toggled: bool = False, kept: bool = False) -> None:
        super().__init__(Twice())
        self.automatic_optimization = False
        self.toggled, self.kept = toggled, kept
        self.seen: list[dict[str, tuple[float, float]]] = []

    def configure_optimizers(self) -> Any:
        first = [*self.network.stem.parameters(), *self.network.again.parameters()]
        return [torch.optim.SGD(own, 0.1) for own in (first, [*self.network.wide.parameters()])]

    def training_step(self, batch: list[torch.Tensor], batch_idx: int) -> None:
        for optimizer in self.optimizers():
            if self.toggled:
                self.toggle_optimizer(optimizer)
            optimizer.zero_grad(set_to_none=not self.kept)
            self.manual_backward(cross_entropy(self(batch[0]), batch[1]))
            weights = {name: self.network.get_submodule(name).weight for name in ("stem", "again", "wide")}
            self.seen.append({name: (w.norm().item(), _norm(w.grad)) for name, w in weights.items()})
            optimizer.step()
            if self.toggled:
                self.untoggle_optimizer(optimizer)


@pytest.mark.parametrize("settings", [{}, {"toggled": True}, {"kept": True}])
def test_what_does_not_step_has_no_gradient_and_no_update(settings, fit):
    learner = Two(**settings)
    records, said = fit(learner, le.GradientProbe(le.EverySteps(1)))
    assert not said
    assert learner.trainer.global_step == STEPS
    norms, ratios = records.gradient_norm.sel(step=slice(0, 3)), records.update_ratio.sel(step=slice(0, 3))
    for step in range(STEPS):
        steps, waits = (("stem", "again"), ("wide",)) if step % 2 == 0 else (("wide",), ("stem", "again"))
        for layer in steps:
            weight, own = learner.seen[step][layer]
            assert norms.sel(layer=layer, step=step) == pytest.approx(own, rel=1e-5)
            assert ratios.sel(layer=layer, step=step) == pytest.approx(0.1 * own / weight, rel=1e-3)
        for layer in waits:
            for name in ("gradient_norm", "update_ratio", "gradient_magnitude", "filter_gradient_norm"):
                assert np.isnan(records[name].sel(layer=layer, step=step).values).all(), name
        # No optimizer has it: its gradient is added up over steps, and it does not move.
        assert np.isnan(norms.sel(layer="fc", step=step))
        assert ratios.sel(layer="fc", step=step) == 0
    assert np.isfinite(records.start_distance.sel(step=slice(0, 3))).all()


class Partly(Learner):
    """A layer that the loss does not reach, and one that is frozen."""

    def __init__(self) -> None:
        super().__init__(Twice())
        self.network.spare = nn.Linear(6, 3)
        self.network.stem.requires_grad_(False)


def test_a_gradient_of_zero_is_told_apart_from_none(fit):
    records, _ = fit(Partly(), le.GradientProbe(le.EverySteps(1)), accumulate_grad_batches=2)
    norms, ratios = (records[name].sel(step=slice(0, 3)) for name in ("gradient_norm", "update_ratio"))
    assert np.isnan(norms.sel(layer="stem")).all()  # none was taken
    assert (ratios.sel(layer="stem") == 0).all()
    assert (norms.sel(layer="spare") == 0).all()  # the loss does not depend on it
    assert (norms.sel(layer="wide") > 0).all()
