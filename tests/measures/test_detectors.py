"""Which filters count as detectors: how many, and the best first."""

from __future__ import annotations

import torch

from lightning_emerge.measures.detectors import best_detectors, detector_count


def test_a_twentieth_of_the_filters_are_detectors_and_one_at_least():
    assert [detector_count(n) for n in (1, 3, 16, 64, 128)] == [1, 1, 1, 3, 6]


def test_the_best_come_first_the_lower_number_on_a_tie_and_what_is_not_known_last():
    areas = torch.tensor([[0.5, torch.nan], [0.9, 0.7], [0.9, 0.2], [torch.nan, 0.7]])
    assert best_detectors(areas, 3).T.tolist() == [[1, 2, 0], [1, 3, 2]]
