"""CouplingProbe on a network whose filters are wired by hand, and the graph that its records give."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from matplotlib.collections import LineCollection
from passed import run_bank
from torch import nn

import lightning_emerge as le
from lightning_emerge.capture import describe_convolution

WIRES = {
    layer: [(3 * k + shift, (5 * k) % 16) for k in range(10)] for shift, layer in enumerate(("conv2_1", "conv2_2"))
}
"""Filters of a layer, each with the filter before it that it is wired to."""


def make_bank() -> le.StimulusBank:
    images = torch.randn(40, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(40) % 4
    return le.StimulusBank(images, labels, tuple(f"s{k}" for k in range(40)), tuple("abcd"))


def make_network() -> le.VGG:
    torch.manual_seed(0)
    network = le.VGG(tokens=4, plan=[1, 2], width=16, head=[], image_size=16)
    for layer, wires in WIRES.items():
        weight = network.get_submodule(layer)[0].weight
        for to, fro in wires:
            weight.data[to, fro] = 5 * weight.data[to, fro].abs()
    network.conv2_2.conv.bias.data[31] = -1e3  # dead
    return network


def look(probe: le.CouplingProbe, step: int = 3) -> Mapping[str, le.Measurement]:
    network, bank = make_network(), make_bank()
    layers = probe.check(network)
    seen = run_bank(network, bank, [], pooled=layers, inputs=layers)
    capture = le.Capture(
        step,
        layers,
        bank,
        pooled=seen.pooled,
        inputs=seen.inputs,
        convolutions={layer: describe_convolution(network, layer) for layer in layers},
        weights={layer: network.get_submodule(layer)[0].weight.detach() for layer in layers},
        followers=tuple(pairwise(layers)),
    )
    return {found.name: found for found in probe.measure(capture)}


@pytest.fixture(scope="module")
def measured() -> Mapping[str, le.Measurement]:
    return look(le.CouplingProbe())


@pytest.mark.parametrize(("kind", "number"), [("weight", 0), ("effective", 1)])
def test_filters_that_are_wired_are_found(kind, number, measured):
    strengths = measured[f"coupling_{kind}"]
    assert strengths.axes[0].labels == ["conv1_1 > conv2_1", "conv2_1 > conv2_2"]
    found, there = set(), {(k, *wire) for k, wires in enumerate(WIRES.values()) for wire in wires}
    for pair in range(2):
        least = measured["coupling_threshold"].values[pair, number]
        found |= {(pair, *edge) for edge in np.argwhere(strengths.values[pair] >= least).tolist()}
    assert len(there & found) >= 0.9 * len(there)
    assert len(there & found) >= 0.9 * len(found)


def test_shares_are_of_the_edges_that_there_can_be(measured):
    strengths, least = measured["coupling_weight"].values, measured["coupling_threshold"].values
    expected = [(strengths[k] >= least[k, 0]).sum() / np.isfinite(strengths[k]).sum() for k in range(2)]
    np.testing.assert_allclose(measured["coupling_edges"].values[:, 0], expected, rtol=1e-6)


def test_there_is_nothing_beyond_the_last_filter_or_of_a_dead_one(measured):
    for kind in ("weight", "activation", "effective"):
        values = measured[f"coupling_{kind}"].values
        assert values.shape == (2, 32, 32)
        assert np.isnan(values[0, :, 16:]).all()
        assert np.isnan(values[1, 31]).all()
        assert np.isfinite(values[1, :31]).mean() > 0.9
    assert measured["coupling_weight"].axes[0].notes == {"filters_out": [32, 32], "filters_in": [16, 32]}


def test_correlations_are_as_they_are_and_claim_no_edge(measured):
    together = measured["coupling_activation"]
    known = together.values[np.isfinite(together.values)]
    assert -1 <= known.min() < -0.05
    assert 0.05 < known.max() <= 1
    assert (together.unit, together.range) == ("Pearson r", (-1, 1))
    assert "threshold" not in together.beside
    for name in ("coupling_threshold", "coupling_edges"):
        assert list(measured[name].axes[1].labels) == ["weight", "effective"]


def test_the_same_seed_gives_the_same_null(measured):
    again, other = look(le.CouplingProbe()), look(le.CouplingProbe(seed=1))
    assert np.array_equal(again["coupling_weight"].values, measured["coupling_weight"].values, equal_nan=True)
    assert not np.array_equal(other["coupling_weight"].values, measured["coupling_weight"].values, equal_nan=True)


def test_its_picture_has_the_edges_that_count(measured):
    probe = le.CouplingProbe()
    assert probe.draw(measured["coupling_weight"]) is None
    figure = probe.draw(replace(measured["coupling_effective"], step=3))
    assert figure is not None
    least = measured["coupling_threshold"].values[:, 1]
    count = int((np.abs(measured["coupling_effective"].values) >= least[:, None, None]).sum())
    assert figure.axes[0].get_title() == f"Effective couplings, step 3: {count} edges"
    drawn = [edges for edges in figure.axes[0].collections if isinstance(edges, LineCollection)]
    assert sum(len(edges.get_segments()) for edges in drawn) == count > 0


@pytest.mark.parametrize(
    ("probe", "layers"),
    [
        (le.CouplingProbe(), ["conv1_1", "conv2_1", "conv2_2"]),
        (le.CouplingProbe(layers=["conv2_*", "fc1"]), ["conv2_1", "conv2_2"]),
    ],
)
def test_it_looks_at_convolutions(probe, layers):
    assert list(probe.check(make_network())) == layers


@pytest.mark.parametrize("layers", [["conv1_1"], ["fc1"], ["conv1_1", "conv2_2"]])
def test_layers_that_do_not_follow_each_other_are_refused(layers):
    with pytest.raises(ValueError, match="two convolutions or more"):
        le.CouplingProbe(layers=layers).check(make_network())


def grouped_network() -> nn.Module:
    def block(filters: int, inputs: int, groups: int = 1) -> nn.Module:
        return nn.Sequential(nn.Conv2d(inputs, filters, 3, padding=1, groups=groups), nn.ReLU())

    return nn.Sequential(block(8, 3), block(8, 8), block(8, 8, 2), block(8, 8), block(8, 8), nn.Flatten())


def test_convolutions_with_groups_are_left_out_if_no_layers_are_named_and_none_reaches_across():
    probe = le.CouplingProbe()
    layers, bank = probe.check(grouped_network()), make_bank()
    assert list(layers) == ["0", "1", "3", "4"]
    network = grouped_network()
    seen = run_bank(network, bank, [], pooled=layers, inputs=layers)
    capture = le.Capture(
        0,
        layers,
        bank,
        pooled=seen.pooled,
        inputs=seen.inputs,
        convolutions={layer: describe_convolution(network, layer) for layer in layers},
        weights={layer: network.get_submodule(layer)[0].weight.detach() for layer in layers},
        followers=(("0", "1"), ("3", "4")),
    )
    assert next(iter(probe.measure(capture))).axes[0].labels == ["0 > 1", "3 > 4"]
    with pytest.raises(ValueError, match="Conv2d without groups"):
        le.CouplingProbe(layers=["[01234]"]).check(grouped_network())


def test_a_block_that_cannot_be_described_is_refused_before_training_and_what_comes_up_later_is_reported(
    make_trainer, make_model, make_data, monkeypatch
):
    blocks = [nn.Sequential(nn.BatchNorm2d(n), nn.ReLU(), nn.Conv2d(n, 8, 3)) for n in (3, 8)]
    with pytest.raises(ValueError, match="'0' is BatchNorm2d and ReLU and Conv2d"):
        le.CouplingProbe(layers=["[01]"]).check(nn.Sequential(*blocks, nn.Flatten()))

    def fail(*_: object) -> None:
        raise ValueError("planted")

    monkeypatch.setattr("lightning_emerge.capture.needs.inputs.describe_convolution", fail)
    trainer = make_trainer([le.CouplingProbe(layers=["conv*"])], max_steps=1)
    with pytest.warns(UserWarning, match="CouplingProbe failed at step 0 and is switched off.*planted"):
        trainer.fit(make_model(), datamodule=make_data())
    assert trainer.global_step == 1


class Chain(le.TokenClassifier):
    """Convolutions with a name each, one after the other, and then a mean over places; some are called twice."""

    def __init__(self, twice: str = "", **convolutions: nn.Module) -> None:
        super().__init__(nn.ModuleDict(convolutions))
        self.twice, self.fc = twice, nn.Linear(6, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = images
        for name, layer in self.network.items():
            maps = layer(layer(maps)) if name == self.twice else layer(maps)
        return self.fc(maps.mean(dim=(2, 3)))


def fit_chain(chain: Chain, trainer: Any, tmp_path: Any) -> tuple[list[str], list[str]]:
    """The pairs that a probe of no named layers records, and what it says."""
    data = le.TokenDataModule(val_exemplars=2, test_exemplars=2, bank_exemplars=3, image_size=16, batch_size=20)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(chain, datamodule=data)
    said = [str(one.message) for one in caught if "Coupling" in str(one.message)]
    return le.open_run(tmp_path).pair.values.tolist(), said


def test_no_pair_reaches_across_a_layer_that_is_left_out(make_trainer, tmp_path):
    convolutions = {name: nn.Conv2d(6, 6, 3, padding=1) for name in "bcd"}
    chain = Chain("b", a=nn.Conv2d(3, 6, 3), **convolutions)
    probe = le.CouplingProbe(le.At([0]), on_error="raise")
    trainer = make_trainer([probe], max_steps=1, logger=False, default_root_dir=tmp_path)
    pairs, (said,) = fit_chain(chain, trainer, tmp_path)
    assert pairs == ["network.c > network.d"]
    assert said.startswith("CouplingProbe leaves out network.b. A probe looks at layers that are called once a pass;")


@pytest.mark.parametrize(
    ("odd", "what"),
    [
        (nn.Conv2d(6, 6, 3, padding=1, padding_mode="reflect"), "Conv2d"),
        (
            nn.Sequential(nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6, track_running_stats=False)),
            "Conv2d and BatchNorm2d without running statistics",
        ),
        (nn.Sequential(nn.Conv2d(6, 6, 3), nn.PReLU()), "Conv2d and PReLU"),
    ],
)
def test_convolutions_that_nobody_named_and_cannot_be_described_are_left_out_by_name(odd, what, make_trainer, tmp_path):
    chain = Chain(a=nn.Conv2d(3, 6, 3), b=nn.Conv2d(6, 6, 3), odd=odd, c=nn.Conv2d(6, 6, 3), d=nn.Conv2d(6, 6, 3))
    probe = le.CouplingProbe(le.At([0]), on_error="raise")
    trainer = make_trainer([probe], max_steps=1, logger=False, default_root_dir=tmp_path)
    pairs, (said,) = fit_chain(chain, trainer, tmp_path)
    assert pairs == ["network.a > network.b", "network.c > network.d"]
    assert said.startswith("CouplingProbe leaves out network.odd. What a convolution gets is taken of layers that are")
    assert f"'network.odd' is {what}." in said
    with pytest.raises(ValueError, match=r"'network\.odd' is"):
        le.CouplingProbe(layers=["network.*"]).check(chain)


def test_it_keeps_nothing_of_a_network_that_it_has_seen(measured):
    probe = le.CouplingProbe()
    probe.check(make_network())
    fresh = dict(vars(probe))
    probe.check(grouped_network())
    assert vars(probe) == fresh
    assert look(probe)["coupling_weight"].axes[0].labels == measured["coupling_weight"].axes[0].labels


def test_too_few_stimuli_are_refused():
    with pytest.raises(ValueError, match=r"stimuli is at least 2; got 1\."):
        le.CouplingProbe(stimuli=1)


def test_a_network_of_bare_convolutions_can_be_looked_at(make_trainer, tmp_path):
    class Bare(le.TokenClassifier):
        def __init__(self) -> None:
            layers = (nn.Conv2d(3, 6, 3, 2), nn.BatchNorm2d(6), nn.Conv2d(6, 5, 3, dilation=2), nn.AdaptiveAvgPool2d(1))
            super().__init__(nn.Sequential(*layers, nn.Flatten(), nn.Linear(5, 5)))

    torch.manual_seed(0)
    data = le.TokenDataModule(val_exemplars=2, test_exemplars=2, bank_exemplars=3, image_size=16, batch_size=20)
    probe = le.CouplingProbe(le.At([0]), on_error="raise")
    make_trainer([probe], max_steps=1, logger=False, default_root_dir=tmp_path).fit(Bare(), datamodule=data)
    run = le.open_run(tmp_path)
    assert run.coupling_weight.isel(pair=0).notnull().sum() == 2 * 30
    assert run.pair.values.tolist() == ["0 > 2"]
    assert nx.is_directed_acyclic_graph(le.coupling_graph(tmp_path, 0))
