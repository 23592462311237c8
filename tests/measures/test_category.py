"""Accuracy and confidence by token, against scikit-learn, SciPy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import recall_score

from lightning_emerge.measures.category import accuracy_by_token, confidence_by_token

PROPERTY = settings(max_examples=20, deadline=None, derandomize=True, database=None)
NAN = float("nan")


def draw(seed: int, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and labels of a bank in which every token has a stimulus."""
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(tokens), random.integers(0, tokens, 30)])
    return torch.from_numpy(random.normal(0, 3, (len(labels), tokens))).float(), torch.from_numpy(labels)


@given(seed=st.integers(0, 2**32 - 1), tokens=st.integers(2, 7))
@PROPERTY
def test_accuracy_is_scikit_learns_recall(seed, tokens):
    logits, labels = draw(seed, tokens)
    expected = recall_score(labels, logits.numpy().argmax(axis=1), labels=range(tokens), average=None, zero_division=0)
    np.testing.assert_allclose(accuracy_by_token(logits, labels), expected, rtol=1e-6)


@given(seed=st.integers(0, 2**32 - 1), tokens=st.integers(2, 7))
@PROPERTY
def test_confidence_is_the_mean_softmax_of_the_right_token(seed, tokens):
    logits, labels = draw(seed, tokens)
    probabilities = softmax(logits.double().numpy(), axis=1)
    expected = [probabilities[labels.numpy() == token, token].mean() for token in range(tokens)]
    np.testing.assert_allclose(confidence_by_token(logits, labels), expected, rtol=1e-5)


@pytest.mark.parametrize("measure", [accuracy_by_token, confidence_by_token])
def test_a_token_without_stimuli_has_no_value(measure):
    logits, labels = draw(0, 4)
    keep = labels != 2
    found, whole = measure(logits[keep], labels[keep]), measure(logits, labels)
    assert found.isnan().tolist() == [False, False, True, False]
    torch.testing.assert_close(found[[0, 1, 3]], whole[[0, 1, 3]])


def test_on_a_tie_the_lowest_label_wins():
    logits = torch.tensor([[1.0, 1, 0], [1, 1, 0], [0, 2, 2], [0, 2, 2], [5, 5, 5]])
    assert accuracy_by_token(logits, torch.tensor([0, 1, 1, 2, 2])).tolist() == [1, 0.5, 0]
    assert accuracy_by_token(torch.zeros(4, 2), torch.tensor([0, 0, 1, 1])).tolist() == [1, 0]


def test_sure_and_right_sure_and_wrong_and_no_idea():
    logits, labels = torch.diag(torch.full((3,), 80.0)), torch.arange(3)
    assert confidence_by_token(logits, labels).tolist() == [1, 1, 1]
    torch.testing.assert_close(confidence_by_token(-logits, labels), torch.zeros(3), rtol=0, atol=1e-30)
    torch.testing.assert_close(confidence_by_token(torch.full((3, 3), 7.0), labels), torch.full((3,), 1 / 3))


@pytest.mark.parametrize("bad", [NAN, float("inf")])
def test_a_stimulus_whose_logits_overflow_leaves_the_other_tokens_alone(bad):
    logits, labels = draw(1, 3)
    expected = confidence_by_token(logits, labels)
    logits[0] = bad
    torch.testing.assert_close(confidence_by_token(logits, labels)[1:], expected[1:])


def test_a_network_that_has_diverged_tells_no_token_right():
    found = accuracy_by_token(torch.full((6, 3), NAN), torch.arange(6) % 3)
    assert not (found > 0).any(), f"all logits are NaN, and the accuracy is {found.tolist()}"
