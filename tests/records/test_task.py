"""What of a network's result is its outputs, and what their loss compares with."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch

import lightning_emerge as le
from lightning_emerge.records import check_outputs
from lightning_emerge.records.task import Task, answers

A, B = torch.zeros(4, 3), torch.ones(4, 5)


class Named(NamedTuple):
    aux: Any
    logits: torch.Tensor


@dataclass
class Held:
    state: torch.Tensor
    cache: Any = None


class ModelOutput(OrderedDict):
    """As that of transformers: parts by name, by attribute and by number."""

    def __getitem__(self, key):
        return super().__getitem__(key) if isinstance(key, str) else tuple(self.values())[key]

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


@pytest.mark.parametrize(
    "result",
    [
        A,
        (A, B),
        [None, A, B],
        {"logits": A, "hidden": B},
        {"anything": A, "loss": None},
        Named(B, A),
        Held(A),
        ModelOutput(loss=B, logits=A),
    ],
)
def test_outputs_are_found_where_they_usually_are(result):
    assert Task().read(result) is A


@pytest.mark.parametrize(
    ("where", "result"),
    [
        (1, (B, A)),
        ("state", {"logits": B, "state": A}),
        ("state", Held(A, B)),
        ("aux", Named(A, B)),
        (0, ModelOutput(x=A, y=B)),
        (lambda result: result["rows"][1], {"rows": [B, A]}),
    ],
)
def test_they_are_where_they_are_said_to_be(where, result):
    assert Task(outputs=where).read(result) is A


@pytest.mark.parametrize(
    ("where", "result", "words"),
    [
        (None, {"x": A, "y": B}, "gives a dict with x, y"),
        (None, None, "gives a NoneType"),
        (None, Held(A, B), "gives a Held with state, cache"),
        (None, [None, {"x": A}], "gives a list"),
        ("z", {"x": A, "y": B}, "outputs='z' is .*it gives a dict with x, y"),
        ("logits", A, "outputs='logits' is .*it gives a Tensor"),
        (3, (A, B), "outputs=3 is .*it gives a tuple"),
        ("x", {"x": [A]}, "gives a list there"),
    ],
)
def test_what_cannot_be_told_is_refused_with_what_there_is(where, result, words):
    with pytest.raises(ValueError, match=words):
        Task(outputs=where).read(result)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"outputs": 1.5}, "outputs is a name"),
        ({"loss": 3}, "loss is a function"),
        ({"positions": "cls"}, "positions is one of all, mean, first, last"),
        ({"targets": "labels"}, "tensors, or 'inputs'"),
    ],
)
def test_other_arguments_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Task(**arguments)


def test_a_method_that_a_module_has_not_is_refused():
    Task(loss="forward").check(torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="Linear has no method 'learn'"):
        Task(loss="learn").check(torch.nn.Linear(1, 1))


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_one_logit_of_two_tokens_is_the_second_ones(shape):
    logit = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    two = answers(logit, 2)
    torch.testing.assert_close(two.softmax(dim=1)[:, 1], logit.flatten().sigmoid())
    assert answers(logit, 3) is logit


def _bank(tokens: int, task: Task | None = None) -> le.StimulusBank:
    labels = torch.arange(4) % tokens
    return le.StimulusBank(torch.ones(4, 2), labels, tuple("abcd"), tuple("pqr"[:tokens]), task=task or Task())


@pytest.mark.parametrize(
    ("outputs", "bank", "words"),
    [
        (torch.ones(4, 3, 2), _bank(3), r"gives \(4, 3, 2\) where labels go up to 2"),
        (torch.ones(4, 2), _bank(3), r"gives \(4, 2\) where labels go up to 2"),
        (torch.ones(4, 9), _bank(1), "two tokens at least"),
        (torch.ones(4, 9), _bank(3, Task(loss="own")), "one for each of the 3 tokens"),
    ],
)
def test_outputs_that_are_no_answers_are_refused(outputs, bank, words):
    check_outputs(torch.ones(4, 3), _bank(3))
    check_outputs(torch.ones(4, 9), _bank(3))
    check_outputs(torch.ones(4, 3), _bank(3, Task(loss="own")))
    with pytest.raises(ValueError, match=words):
        check_outputs(outputs, bank)


def test_targets_are_labels_or_inputs_or_what_is_given():
    rows = torch.tensor([3, 1])
    assert _bank(3).targets(rows).tolist() == [0, 1]
    assert _bank(3, Task(targets="inputs")).targets(rows).tolist() == [[1, 1], [1, 1]]
    assert _bank(3, Task(targets={"y": torch.arange(4)})).targets(rows)["y"].tolist() == [3, 1]
    with pytest.raises(ValueError, match=r"targets have a row for each stimulus; y has \(3,\) for 4"):
        _bank(3, Task(targets={"y": torch.arange(3)}))
