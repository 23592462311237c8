"""What probes make of activations, once for all of them at a look."""

from __future__ import annotations

import gc
import weakref

import torch

from lightning_emerge.records import Capture
from lightning_emerge.records.capture import MadeOnce


class Counting:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return rows.sum(dim=1)


def test_it_is_made_once_for_all_probes_of_a_look_and_again_of_what_was_written_to_or_is_another():
    rows, count, made = torch.rand(5, 3), Counting(), MadeOnce()
    one, other = (Capture(0, ("a",), _made=made, activations={"a": rows, **more}) for more in ({}, {"b": rows + 1}))
    assert one.once(count, "a") is other.once(count, "a")
    assert count.calls == 1
    torch.testing.assert_close(other.once(count, "b"), rows.sum(dim=1) + 3)
    rows[0] = 7
    assert one.once(count, "a")[0] == 21
    assert count.calls == 3
    assert Capture(1, ("a",), _made=made, activations={"a": rows.clone()}).once(count, "a")[0] == 21
    assert count.calls == 4


def test_it_keeps_no_activations_alive_beyond_the_look():
    rows = torch.rand(5, 3)
    Capture(0, ("a",), activations={"a": rows}).once(torch.sum, "a")
    gone = weakref.ref(rows)
    del rows
    gc.collect()
    assert gone() is None


def test_activations_of_inference_mode_are_made_something_of_too():
    with torch.inference_mode():
        rows = torch.rand(4, 6)
    assert torch.equal(Capture(0, ("a",), activations={"a": rows}).once(torch.relu, "a"), rows)
