"""Small pictures of stimuli that are no images."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_emerge.figures.stimuli import SIDE, curve_tiles, text_tiles


def test_a_ramp_falls_from_corner_to_corner_and_a_constant_lies_on_its_height():
    rows = np.stack([np.linspace(1, 0, SIDE), np.full(SIDE, 0.0)])[:, None]
    ramp, constant = curve_tiles(rows)[..., 0] == 0
    assert ramp[0, 0]
    assert ramp[-1, -1]
    assert ramp.sum(axis=0).max() <= 2
    assert constant[-1].all()
    assert not constant[:-1].any()


def test_numbers_that_are_no_numbers_are_drawn_as_zero():
    assert (curve_tiles(np.array([[[np.nan, 0.0, 1.0]]])) == curve_tiles(np.array([[[0.0, 0.0, 1.0]]]))).all()


@pytest.mark.parametrize("text", ["price$x^$y", "a\0b", "long" * 75, "%s{0}", "\U0001f600"])
def test_each_text_is_in_a_tile_of_its_own_letter_by_letter(text):
    alone, blank, again = text_tiles([text, "", text])
    assert alone.shape == (SIDE, SIDE, 3)
    assert (blank == 255).all()
    assert (alone < 255).any()
    assert (again < 255).any()
