"""CategoryProbe on outputs that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lightning_emerge as le

NO_MORE = {"unfiltered": {}, "features": None, "readout": None}


def test_accuracy_and_confidence_by_token():
    bank = le.StimulusBank(torch.zeros(4, 3, 2, 2), torch.tensor([0, 0, 1, 1]), ("p", "q", "r", "s"), ("a", "b"))
    logits = torch.tensor([[9.0, 0.0], [0.0, 0.0], [9.0, 0.0], [9.0, 0.0]])
    capture = le.Capture(5, (), bank, outputs=logits, activations={}, **NO_MORE)
    measured = {found.name: found for found in le.CategoryProbe().measure(capture)}
    np.testing.assert_allclose(measured["bank_accuracy"].values, [1, 0])
    np.testing.assert_allclose(measured["bank_accuracy_mean"].values, 0.5)
    assert list(measured["bank_confidence"].axes[0].notes["stimuli"]) == [2, 2]  # how sure it is, for emergence times
    sure = 1 / (1 + np.exp(-9.0))
    np.testing.assert_allclose(measured["bank_confidence"].values, [(sure + 0.5) / 2, 1 - sure], rtol=1e-3)


def test_planted_tokens_are_found_in_the_layer_that_holds_them():
    generator = torch.Generator().manual_seed(0)
    labels, ids = torch.arange(40) % 4, tuple(map(str, range(40)))
    bank = le.StimulusBank(torch.zeros(40, 3, 2, 2), labels, ids, ("a", "b", "c", "d"))
    held = torch.eye(4)[labels].repeat(1, 2) + 0.05 * torch.rand(40, 8, generator=generator)
    layers = {"noise": torch.rand(40, 6, 3, 3, generator=generator), "held": held, "out": held[:, :4]}
    readout = torch.eye(4).repeat(1, 2) - 0.25
    capture = le.Capture(
        5, tuple(layers), bank, activations=layers, unfiltered={}, outputs=held[:, :4], features=held, readout=readout
    )
    measured = {found.name: found for found in le.CategoryProbe().measure(capture)}
    for name in ("nearest_mean_accuracy", "ridge_accuracy"):
        assert measured[name].values[0] < 0.5
        assert measured[name].values[1:].tolist() == [1, 1]
    assert measured["silhouette"].values[1] > 0.9 > measured["silhouette"].values[0] + 0.8
    assert measured["collapse_variability"].values[1] < 0.01 < measured["collapse_variability"].values[0]
    assert measured["collapse_disagreement"].values[1] == 0
    assert measured["collapse_duality"].values < 0.01
    index = measured["class_selectivity"]
    assert [axis.name for axis in index.axes] == ["layer", "filter"]
    assert index.values.shape == (3, 8)
    assert np.isnan(index.values[0, 6:]).all()
    assert measured["filter_selective"].values[1].tolist() == [1] * 8
    assert np.isnan(measured["filter_selective"].values[0, 6:]).all()
    np.testing.assert_allclose(measured["selective_share"].values, [[0] * 4, [0.25] * 4, [0.25] * 4])


def test_without_a_last_linear_map_there_is_no_duality_and_it_says_so_once():
    ids = tuple(map(str, range(20)))
    bank = le.StimulusBank(torch.zeros(20, 3, 2, 2), torch.arange(20) // 10, ids, ("a", "b"))
    layers = {"conv": torch.rand(20, 3, 2, 2), "next": torch.rand(20, 5, 2, 2)}
    capture = le.Capture(0, ("conv", "next"), bank, activations=layers, outputs=torch.rand(20, 2), **NO_MORE)
    probe = le.CategoryProbe()
    with pytest.warns(UserWarning, match="CategoryProbe has no collapse_duality here"):
        measured = {found.name: found.values for found in probe.measure(capture)}
    assert np.isnan(measured["collapse_duality"])
    assert np.isfinite(measured["selective_share"]).all()
    list(probe.measure(capture))  # a second warning would be an error


def test_a_bank_with_too_few_stimuli_for_selective_filters_says_so_once():
    bank = le.StimulusBank(torch.zeros(4, 3, 2, 2), torch.tensor([0, 0, 1, 1]), ("p", "q", "r", "s"), ("a", "b"))
    rows, weight = torch.rand(4, 3), torch.rand(2, 3)
    capture = le.Capture(
        0,
        ("fc",),
        bank,
        activations={"fc": rows},
        unfiltered={},
        outputs=torch.rand(4, 2),
        features=rows,
        readout=weight,
    )
    probe = le.CategoryProbe()
    with pytest.warns(UserWarning, match="no filter_selective and no selective_share"):
        measured = {found.name: found.values for found in probe.measure(capture)}
    assert np.isfinite(measured["class_selectivity"]).all()
    assert np.isnan(measured["filter_selective"]).all()
    assert np.isnan(measured["selective_share"]).all()
    list(probe.measure(capture))  # a second warning would be an error


def test_more_outputs_than_tokens_are_said_once():
    bank = le.StimulusBank(torch.zeros(4, 2), torch.tensor([0, 0, 1, 1]), ("p", "q", "r", "s"), ("a", "b"))
    capture = le.Capture(0, (), bank, outputs=torch.rand(4, 9), activations={}, **NO_MORE)
    probe = le.CategoryProbe()
    with pytest.warns(UserWarning, match="7 of the network's 9 outputs, as the bank has 2 tokens"):
        list(probe.measure(capture))
    list(probe.measure(capture))  # a second warning would be an error


def test_without_answers_there_are_records_of_layers_alone_and_it_says_why_once():
    ids = tuple(map(str, range(20)))
    bank = le.StimulusBank(torch.zeros(20, 3), torch.arange(20) // 10, ids, ("a", "b"))
    layers = {"fc": torch.rand(20, 5, generator=torch.Generator().manual_seed(0))}
    capture = le.Capture(0, ("fc",), bank, activations=layers, outputs=None, unread="The reason.", **NO_MORE)
    probe = le.CategoryProbe()
    with pytest.warns(UserWarning, match=r"has no bank_accuracy and nothing else .*The reason"):
        measured = {found.name for found in probe.measure(capture)}
    assert {"ridge_accuracy", "silhouette", "class_selectivity"} <= measured
    assert not {"bank_accuracy", "bank_confidence", "collapse_disagreement", "collapse_duality"} & measured
    list(probe.measure(capture))  # a second warning would be an error
