"""The axis of steps: the same places and names as in the tab, which reads the same file in its own tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lightning_emerge.figures.canvas import new_figure, to_pixels
from lightning_emerge.figures.steps import STEPS, place, scale_steps, ticks

AXES = json.loads(Path(__file__).with_name("steps.json").read_text(encoding="utf-8"))
LONG = [axis for axis in AXES if axis["last"]]


@pytest.mark.parametrize("axis", AXES, ids=lambda axis: axis["last"])
def test_places_and_names_are_those_of_the_tab(axis):
    last = axis["last"]
    assert ticks(last) == axis["ticks"]
    for step, expected in axis["places"]:
        assert place(step, last) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("axis", LONG, ids=lambda axis: axis["last"])
def test_a_picture_has_steps_at_their_places(axis):
    last, panel = axis["last"], new_figure(5, 2).subplots()
    panel.plot([0, last], [0, 1])
    scale_steps(panel, last)
    to_pixels(panel.figure)
    first, end = (panel.transData.transform((step, 0))[0] for step in (0, last))
    for step, expected in axis["places"]:
        assert (panel.transData.transform((step, 0))[0] - first) / (end - first) == pytest.approx(expected, abs=1e-5)
    assert [label.get_text() for label in panel.get_xticklabels()] == [str(step) for step in axis["ticks"]]
    assert panel.get_xlabel() == STEPS


@pytest.mark.parametrize("last", [0, 1, 10, 100, 50_000, 10_000_000])
def test_the_first_and_the_last_step_are_just_inside(last):
    panel = new_figure(5, 2).subplots()
    scale_steps(panel, last, named=False)
    (left, right), (start, end) = (
        panel.transAxes.inverted().transform(panel.transData.transform([(0, 0), (last, 0)]))[:, 0],
        (0, 1),
    )
    assert start < left < 0.05
    assert right < end
    assert last == 0 or right > 0.95
    assert panel.get_xlabel() == ""
