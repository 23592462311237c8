"""Steps against each other and against rsatoolbox, from records alone."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import rsatoolbox
import torch

import lightning_emerge as le
from lightning_emerge.measures.cka import debiased_cka
from lightning_emerge.measures.geometry import layer_geometry
from lightning_emerge.store.write import ArraySink

LABELS = torch.arange(15) % 3


def responses(step: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    first, last = torch.randn(2, 15, 40, generator=generator)
    return {"conv": (first * (3 - step) + last * step).relu(), "fc": last + step}


@pytest.fixture
def run(tmp_path):
    ids = tuple(f"bank/{k:02d}" for k in range(15))
    bank = le.StimulusBank(torch.rand(15, 3, 4, 4), LABELS, ids, ("a", "b", "c"))
    sink = ArraySink(tmp_path / "records.zarr", None)
    for step in range(4):
        seen = responses(step)
        sink.write(step, list(le.SimilarityProbe().measure(le.Capture(step, tuple(seen), bank, activations=seen))))
    sink.close()
    return tmp_path


def test_a_layer_is_compared_with_itself_at_all_steps(run):
    found = le.step_cka(run, "conv")
    assert found.dims == ("step", "step_b")
    patterns = [responses(step)["conv"].double() for step in range(4)]
    patterns = [(rows - rows.mean(dim=1, keepdim=True)) for rows in patterns]
    grams = [layer_geometry(rows / rows.norm(dim=1, keepdim=True)).gram for rows in patterns]
    np.testing.assert_allclose(found, debiased_cka(torch.stack(grams)), atol=1e-4)
    assert found.sel(step=0, step_b=1) > found.sel(step=0, step_b=3)
    np.testing.assert_allclose(le.step_cka(run, "fc"), 1, atol=1e-4)  # its patterns do not change


def test_a_layer_that_was_not_looked_at_is_said_with_those_that_were(run, tmp_path):
    with pytest.raises(ValueError, match="conv, fc; got 'conv9'"):
        le.step_cka(run, "conv9")


def test_rsatoolbox_gets_what_was_recorded_with_its_names(run):
    found = le.to_rsatoolbox(run, step=[0, 3], layer="conv")
    assert isinstance(found, rsatoolbox.rdm.RDMs)
    assert found.rdm_descriptors["step"].tolist() == [0, 3]
    assert found.rdm_descriptors["layer"].tolist() == ["conv", "conv"]
    assert list(found.pattern_descriptors["token"]) == ["a", "b", "c"] * 5
    assert found.pattern_descriptors["stimulus"][3] == "bank/03"
    data = rsatoolbox.data.Dataset(responses(3)["conv"].double().numpy())
    expected = rsatoolbox.rdm.calc_rdm(data, "correlation")
    np.testing.assert_allclose(found.get_vectors()[1], expected.get_vectors()[0], atol=1e-5)


def test_rdms_of_tokens_are_given_too_and_all_steps_and_layers_unless_chosen(run):
    found = le.to_rsatoolbox(run, "token_rdm")
    assert found.n_rdm == 8
    assert list(found.pattern_descriptors["token"]) == ["a", "b", "c"]
    assert found.rdm_descriptors["layer"].tolist() == ["conv", "fc"] * 4
    with pytest.raises(ValueError, match="has no 'distances'"):
        le.to_rsatoolbox(run, "distances")


def test_without_rsatoolbox_it_is_said_what_to_install(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "rsatoolbox.rdm.rdms", None)
    with pytest.raises(ImportError, match="pip install rsatoolbox"):
        le.to_rsatoolbox(run)
