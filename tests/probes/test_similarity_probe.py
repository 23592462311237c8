"""SimilarityProbe on planted geometry."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lightning_emerge as le
from lightning_emerge.figures.canvas import to_pixels


def _capture(activations: dict[str, torch.Tensor]) -> le.Capture:
    labels = torch.arange(3).repeat_interleave(4)
    ids = tuple(f"bank/{k}" for k in range(12))
    bank = le.StimulusBank(torch.zeros(12, 3, 4, 4), labels, ids, ("a", "b", "c"))
    return le.Capture(7, tuple(activations), bank, activations=activations)


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


def test_the_rdm_carries_ids_tokens_layers_and_its_unit():
    rdm = next(iter(le.SimilarityProbe().measure(_capture({"conv": torch.randn(12, 2, 3, 3)}))))
    assert [axis.name for axis in rdm.axes] == ["layer", "stimulus", "stimulus_b"]
    assert rdm.axes[1].notes["token"] == ["a"] * 4 + ["b"] * 4 + ["c"] * 4
    assert rdm.unit == "1 - Pearson r"
    assert (rdm.range, rdm.distance) == ((0, 2), "square")
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
    capture = le.Capture(0, ("conv",), bank, activations={"conv": torch.randn(len(bank), 8)})
    fit = next(found for found in le.SimilarityProbe().measure(capture) if found.name == "model_fit")
    assert fit.axes[1].labels == ["token", "parts", "conjunctions", "pose", "colour", "pixels"]
    assert np.isfinite(fit.values).all()


@pytest.mark.parametrize("metric", ["correlation", "cosine", "euclidean", "mahalanobis"])
def test_every_metric_tells_planted_clusters_is_drawn_and_names_its_unit(metric):
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(3, 50, generator=generator).repeat_interleave(4, dim=0)
    rows = 5 + centres + 0.3 * torch.randn(12, 50, generator=generator)
    probe = le.SimilarityProbe(metric=metric)
    measured = {found.name: found for found in probe.measure(_capture({"clusters": rows, "dead": torch.zeros(12, 5)}))}
    assert measured["distance_ratio"].values[0] < 0.5
    assert measured["model_fit"].values[0, 0] > 0.8
    off = np.triu_indices(3, 1)
    assert (measured["token_rdm"].values[0][off] > measured["distance_within"].values[0] / 4).all()
    assert len({measured[name].unit for name in ("rdm", "token_rdm", "distance_within")}) == 1
    for name in ("rdm", "token_rdm"):
        to_pixels(probe.draw(measured[name]))


def test_crossnobis_of_tokens_is_about_zero_for_noise_and_far_above_for_clusters():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat_interleave(60)
    ids = tuple(map(str, range(180)))
    bank = le.StimulusBank(torch.zeros(180, 3, 4, 4), labels, ids, ("a", "b", "c", "without stimuli"))
    noise = torch.randn(180, 50, generator=generator)
    layers = {"noise": noise, "clusters": noise + 2 * torch.randn(3, 50, generator=generator)[labels]}
    found = le.SimilarityProbe().measure(le.Capture(0, tuple(layers), bank, activations=layers))
    crossnobis = next(one for one in found if one.name == "token_crossnobis").values
    assert np.isnan(crossnobis[:, 3]).all()
    off = np.triu_indices(3, 1)
    assert abs(crossnobis[0, :3, :3][off].mean()) < 0.02
    # The squared distance of two centres is 2 x 4 a unit, over a noise variance of 1.
    assert crossnobis[1, :3, :3][off].mean() == pytest.approx(8, rel=0.3)


def test_a_metric_or_comparison_that_there_is_not_is_said_with_those_that_there_are():
    with pytest.raises(ValueError, match=r"comparison .*bures; got 'kendall'"):
        le.SimilarityProbe(comparison="kendall")
    with pytest.raises(ValueError, match=r"metric .*mahalanobis; got 'corr'"):
        le.SimilarityProbe(metric="corr")
