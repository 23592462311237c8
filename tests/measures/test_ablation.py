"""Ablation: planted detectors are chosen, noise is not; lots do not change; what is put in place is the mean."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_emerge.measures.ablation import (
    confidence_drop,
    deal_controls,
    find_detectors,
    mean_output,
    silence,
)
from lightning_emerge.measures.auc import auc

LABELS = torch.arange(100) % 5
HELD = torch.stack([LABELS < 2, LABELS == 4], dim=1)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def test_planted_detectors_are_found_the_best_first_and_what_none_detects_has_none():
    scores = noise(100, 60)
    for filter_, strength in ((8, 2.0), (40, 3.0), (11, 4.0)):
        scores[:, filter_] += strength * HELD[:, 0]
    first, second = find_detectors(auc(scores, HELD), HELD)
    assert first is not None
    assert first.tolist() == [11, 40, 8]
    assert second is None


def test_noise_has_detectors_no_more_often_than_one_in_twenty():
    found = [find_detectors(auc(noise(100, 16, seed=s), HELD), HELD)[0] is not None for s in range(200)]
    assert sum(found) <= 15


def test_lots_are_the_same_each_time_apart_and_of_filters_that_respond():
    scores = noise(100, 60)
    scores[:, 5] = 0
    before = torch.get_rng_state()
    groups = deal_controls(scores, 5)
    assert torch.equal(torch.get_rng_state(), before)
    assert [group.tolist() for group in groups] == [group.tolist() for group in deal_controls(scores, 5)]
    drawn = torch.cat(groups).tolist()
    assert len(drawn) == len(set(drawn)) == 15
    assert 5 not in drawn
    assert len(deal_controls(scores[:, :2], 5)) == 2
    assert deal_controls(torch.zeros(9, 4), 5) == []


def test_a_filter_that_falls_silent_takes_its_own_lot_away_and_no_other():
    scores = noise(100, 60)
    every = [group.tolist() for group in deal_controls(scores, 20)]
    assert len(every) == 20
    scores[:, every[1][2]] = 0
    assert [group.tolist() for group in deal_controls(scores, 20)] == [every[0], *every[2:]]


@pytest.mark.parametrize("places", [(), (4, 4)])
def test_silenced_filters_say_their_mean_and_others_what_they_said(places):
    outputs = noise(10, 6, *places)
    values = mean_output(outputs)
    changed = silence(outputs, torch.tensor([1, 4]), values)
    np.testing.assert_allclose(values, outputs.numpy().swapaxes(0, 1).reshape(6, -1).mean(axis=1))
    assert torch.equal(changed[:, [0, 2, 3, 5]], outputs[:, [0, 2, 3, 5]])
    assert (changed[:, 1] == values[1]).all()
    assert not torch.equal(outputs[:, 1], changed[:, 1])
    torch.testing.assert_close(mean_output(changed), values)


def test_the_drop_is_that_of_the_right_tokens_probability():
    labels = torch.tensor([0, 0, 1])
    intact = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8]]).log()
    silenced = torch.tensor([[0.5, 0.5], [0.7, 0.3], [0.1, 0.9]]).log()
    torch.testing.assert_close(confidence_drop(intact, silenced, labels), torch.tensor([0.2, -0.1]))
