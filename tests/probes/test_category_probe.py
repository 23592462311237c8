"""CategoryProbe on outputs that are known."""

from __future__ import annotations

import numpy as np
import torch

import lightning_emerge as le


def test_accuracy_and_confidence_by_token():
    bank = le.StimulusBank(torch.zeros(4, 3, 2, 2), torch.tensor([0, 0, 1, 1]), ("p", "q", "r", "s"), ("a", "b"))
    logits = torch.tensor([[9.0, 0.0], [0.0, 0.0], [9.0, 0.0], [9.0, 0.0]])
    measured = {found.name: found for found in le.CategoryProbe().measure(le.Capture(5, (), bank, outputs=logits))}
    np.testing.assert_allclose(measured["bank_accuracy"].values, [1, 0])
    np.testing.assert_allclose(measured["bank_accuracy_mean"].values, 0.5)
    sure = 1 / (1 + np.exp(-9.0))
    np.testing.assert_allclose(measured["bank_confidence"].values, [(sure + 0.5) / 2, 1 - sure], rtol=1e-3)
