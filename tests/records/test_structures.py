"""Nested structures of tensors: what a network gets."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import nn

import lightning_emerge as le
from lightning_emerge.records.structures import call, change_all, describe, leaves, move, take


class Pair(NamedTuple):
    left: torch.Tensor
    right: torch.Tensor


NESTED = {"ids": torch.arange(6).view(3, 2), "rest": (torch.ones(3, 4), [torch.zeros(3, dtype=torch.bool)])}


def test_tensors_are_named_by_where_they_are():
    assert list(leaves(NESTED)) == ["ids", "rest.0", "rest.1.0"]
    assert list(leaves(torch.ones(2))) == [""]
    assert describe(NESTED) == "ids (3, 2), rest.0 (3, 4), rest.1.0 (3,)"
    assert describe(torch.ones(2, 5)) == "(2, 5)"


@pytest.mark.parametrize("other", ["a text", None, {}, {"ids": torch.ones(2), "mask": None}, [torch.ones(2), 3]])
def test_anything_else_is_refused_where_it_is(other):
    with pytest.raises(ValueError, match=r"tensors with the stimulus first.*got (str|NoneType|dict|int)"):
        leaves(other)


def test_rows_and_changes_keep_the_form():
    rows = take(NESTED, torch.tensor([2, 0]))
    assert rows["ids"].tolist() == [[4, 5], [0, 1]]
    assert isinstance(rows["rest"], tuple)
    assert isinstance(rows["rest"][1], list)
    pair = change_all(Pair(torch.ones(2), torch.zeros(2)), lambda one: one + 1)
    assert isinstance(pair, Pair)
    assert pair.right.tolist() == [1, 1]


def test_numbers_that_count_or_name_stay_whole_and_others_become_the_networks():
    moved = move(
        {
            "x": torch.ones(1),
            "pixels": torch.ones(1, dtype=torch.uint8),
            "ids": torch.arange(1),
            "mask": torch.ones(1) > 0,
        },
        torch.device("cpu"),
        torch.float64,
    )
    assert [tensor.dtype for tensor in moved.values()] == [torch.float64, torch.float64, torch.int64, torch.bool]


def test_a_network_is_called_as_its_inputs_are():
    class Takes(nn.Module):
        def forward(self, a, b=None, *, c=None):
            return a, b, c

    assert call(Takes(), torch.ones(1)) == (torch.ones(1), None, None)
    assert call(Takes(), [torch.ones(1), torch.zeros(1)]) == (torch.ones(1), torch.zeros(1), None)
    assert call(Takes(), {"c": torch.ones(1), "a": torch.zeros(1)}) == (torch.zeros(1), None, torch.ones(1))


def _bank(inputs) -> le.StimulusBank:
    return le.StimulusBank(inputs, torch.tensor([0, 0, 1]), ("x", "y", "z"), ("a", "b"))


def test_a_bank_has_a_row_of_each_tensor_for_each_stimulus():
    assert len(_bank(NESTED)) == 3
    with pytest.raises(ValueError, match="got 3 ids, 2 mask, 3 labels and 3 ids"):
        _bank({"ids": torch.arange(3), "mask": torch.ones(2)})
    with pytest.raises(ValueError, match="got 0 x, 3 labels"):
        _bank({"x": torch.tensor(1.0)})


def test_images_are_the_one_tensor_whatever_it_is_called():
    images = torch.rand(3, 1, 2, 2)
    for inputs in (images, {"pixel_values": images}, (images,)):
        bank = _bank(inputs)
        assert bank.pictured
        assert bank.images is images
        assert next(iter(leaves(bank.like(images + 1)).values())).equal(images + 1)
        assert type(bank.like(images)) is type(inputs)
    assert not _bank(torch.arange(3)[:, None, None, None]).pictured
    assert not _bank(torch.rand(3, 5)).pictured
    several = _bank(NESTED)
    assert not several.pictured
    with pytest.raises(ValueError, match=r"one tensor.* it gets 3: ids"):
        several.images  # noqa: B018 - a property that raises
