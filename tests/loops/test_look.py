"""One look: what a run would record at that step, of a network that stays as it is."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import lightning_emerge as le

TOKENS = 3


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    parts = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(64, TOKENS)
    return nn.Sequential(*parts)


@pytest.fixture
def stimuli() -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(30) % TOKENS
    generator = torch.Generator().manual_seed(1)
    return torch.randn(30, 1, 6, 6, generator=generator) + labels[:, None, None, None], labels


def make_probes() -> list[le.Probe]:
    return [le.CategoryProbe(), le.SimilarityProbe(), le.FilterProbe(), le.TokenGradientProbe()]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files for a while go."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_is_what_a_run_records_at_a_step(network, stimuli, tmp_path):
    found = le.look(network, stimuli, make_probes())
    with le.watch(network, make_probes(), stimuli, tmp_path):
        pass
    recorded = le.open_run(tmp_path).load().isel(step=0, drop=True)
    assert {"rdm", "bank_accuracy", "kernels"} <= set(found.data_vars)
    xr.testing.assert_identical(found, recorded)
    assert found.bank_accuracy.attrs["valid_max"] == 1.0
    assert found.rdm.attrs["units"]


def test_the_answers_are_those_of_the_network(network, stimuli):
    found = le.look(network, stimuli, [le.CategoryProbe()])
    answers = network.eval()(stimuli[0]).argmax(1)
    own = [float((answers == stimuli[1])[stimuli[1] == token].float().mean()) for token in range(TOKENS)]
    np.testing.assert_allclose(found.bank_accuracy, own)


def test_nothing_is_changed_and_nothing_is_left(network, stimuli, home):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    streams = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # noqa: NPY002
    le.look(network, stimuli, [*make_probes(), le.CurvatureProbe(iterations=3, vectors=2)])
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(streams[0], torch.get_rng_state())
    assert streams[1:] == (np.random.get_state()[1].tolist(), random.getstate())  # noqa: NPY002
    assert network.training
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())
    assert not list(home.iterdir()), "files were left"


@pytest.mark.parametrize("given", ["bank", "stimuli", "pair", "pair of lists"])
def test_stimuli_are_given_in_several_ways(given, network, stimuli):
    images, labels = stimuli
    same: dict[str, Any] = {
        "bank": le.Stimuli(images, labels).bank(),
        "stimuli": le.Stimuli(images, labels),
        "pair": [images, labels],
        "pair of lists": (images, labels.tolist()),
    }
    found = le.look(network, same[given], [le.CategoryProbe()])
    assert found.token.values.tolist() == ["0", "1", "2"]


def test_stimuli_without_labels_are_of_one_token(network, stimuli):
    assert le.look(network, stimuli[0], [le.SimilarityProbe()]).sizes["stimulus"] == 30


class Sum(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(36, TOKENS)

    def forward(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return self.head((one + other).flatten(1))


@pytest.mark.parametrize("given", [tuple, lambda both: dict(zip(("one", "other"), both, strict=True))])
def test_a_pair_that_has_no_labels_is_what_the_network_gets(given, stimuli):
    network, (images, labels) = Sum(), stimuli
    inputs = given([images, images])
    alone, labelled = (le.look(network, one, [le.SimilarityProbe()]) for one in (inputs, (inputs, labels)))
    np.testing.assert_array_equal(alone.rdm, labelled.rdm)
    assert (alone.sizes["token"], labelled.sizes["token"]) == (1, TOKENS)


class Failing(le.Probe):
    needs = (le.Weights(),)

    def measure(self, capture: le.Capture) -> Any:
        raise LookupError("planted")


def test_what_a_probe_raises_is_raised_and_its_setting_is_put_back(network, stimuli, home):
    probe = Failing()
    with pytest.raises(LookupError, match="planted"):
        le.look(network, stimuli, [probe])
    assert probe.on_error == "report"
    assert not list(home.iterdir())


def test_a_probe_of_updates_has_none(network, stimuli):
    with pytest.raises(ValueError, match=r"GradientProbe looks at the update.*lightning_emerge\.watch"):
        le.look(network, stimuli, [le.GradientProbe()])


def test_a_single_probe_needs_no_list(network):
    assert "kernels" in le.look(network, None, le.FilterProbe())
