"""SimilarityProbe on planted geometry."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lightning_emerge as le


def _capture(activations: dict[str, torch.Tensor]) -> le.Capture:
    labels = torch.arange(3).repeat_interleave(4)
    ids = tuple(f"bank/{k}" for k in range(12))
    bank = le.StimulusBank(torch.zeros(12, 3, 4, 4), labels, ids, ("a", "b", "c"))
    return le.Capture(7, tuple(activations), bank, activations)


def test_it_finds_planted_clusters_in_one_layer_and_none_in_noise():
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(3, 200, generator=generator).repeat_interleave(4, dim=0)
    noise = torch.randn(12, 200, generator=generator)
    measured = {
        found.name: found
        for found in le.SimilarityProbe().measure(_capture({"clusters": centres + 0.1 * noise, "noise": noise}))
    }
    ratio = measured["distance_ratio"].values
    assert ratio[0] < 0.05
    assert ratio[1] == pytest.approx(1, abs=0.1)
    assert {found.step for found in measured.values()} == {7}


def test_the_rdm_carries_ids_tokens_layers_and_its_unit():
    rdm = next(iter(le.SimilarityProbe().measure(_capture({"conv": torch.randn(12, 2, 3, 3)}))))
    assert [axis.name for axis in rdm.axes] == ["layer", "stimulus", "stimulus_b"]
    assert rdm.axes[1].notes["token"] == ["a"] * 4 + ["b"] * 4 + ["c"] * 4
    assert rdm.unit == "1 - Pearson r"
    assert rdm.source == "SimilarityProbe"
    np.testing.assert_array_equal(rdm.values[0], rdm.values[0].T)


def test_the_rdms_and_the_alignment_of_layers_are_drawn():
    probe = le.SimilarityProbe()
    drawn = [found.name for found in probe.measure(_capture({"conv": torch.randn(12, 9)})) if probe.draw(found)]
    assert drawn == ["rdm", "token_rdm", "cka"]


def test_a_layer_that_does_not_respond_is_nan_and_does_not_fail():
    measured = {found.name: found for found in le.SimilarityProbe().measure(_capture({"dead": torch.zeros(12, 5)}))}
    assert np.isnan(measured["rdm"].values).all()
    assert np.isnan(measured["distance_ratio"].values).all()


def test_planted_clusters_fit_the_token_model_and_layers_that_hold_them_are_alike():
    generator = torch.Generator().manual_seed(1)
    centres = torch.randn(3, 200, generator=generator).repeat_interleave(4, dim=0)
    layers = {name: centres + 0.3 * torch.randn(12, 200, generator=generator) for name in ("one", "two")}
    layers["noise"] = torch.randn(12, 200, generator=generator)
    measured = {found.name: found for found in le.SimilarityProbe().measure(_capture(layers))}
    fit, cka = measured["model_fit"], measured["cka"].values
    assert fit.axes[1].labels == ["token", "pixels"]
    assert fit.values[:2, 0].min() > 0.6
    assert abs(fit.values[2, 0]) < 0.3
    assert cka[0, 1] > 0.9
    assert abs(cka[0, 2]) < 0.3
    # Unrelated centres: the mean responses of two tokens do not correlate.
    assert measured["token_rdm"].values[0][np.triu_indices(3, 1)] == pytest.approx(1, abs=0.25)


def test_a_bank_of_rendered_tokens_has_all_models(make_data):
    data = make_data()
    data.setup("fit")
    bank = data.stimulus_bank()
    capture = le.Capture(0, ("conv",), bank, {"conv": torch.randn(len(bank), 8)})
    fit = next(found for found in le.SimilarityProbe().measure(capture) if found.name == "model_fit")
    assert fit.axes[1].labels == ["token", "parts", "conjunctions", "pose", "colour", "pixels"]
    assert np.isfinite(fit.values).all()


def test_a_comparison_that_there_is_not_is_said_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"comparison is one of pearson, .* bures; got 'kendall'"):
        le.SimilarityProbe(comparison="kendall")
