"""What is made of a stimulus bank, and kept with it."""

from __future__ import annotations

from dataclasses import replace

import torch

from lightning_emerge.records import StimulusBank


def test_what_is_made_of_a_bank_is_made_once_for_each_way_to_make_it_and_anew_for_another_bank():
    made = []

    def count(of: StimulusBank, factor: int, more: int = 0) -> int:
        made.append(of)
        return factor * len(of) + more

    bank = StimulusBank(torch.zeros(3, 3, 4, 4), torch.arange(3), ("a", "b", "c"), ("p", "q", "r"))
    assert [bank.once(count, 2), bank.once(count, 3), bank.once(count, 2), bank.once(count, 2, more=1)] == [6, 9, 6, 7]
    assert len(made) == 3
    other = replace(bank, inputs=bank.images + 1)
    assert other.once(count, 2) == 6
    assert made[-1] is other
