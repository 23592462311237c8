"""Promise 2: however many probes look, the bank goes through the network once."""

from __future__ import annotations

import pytest
import torch

import lightning_emerge as le


def _count_bank_passes(model: le.TokenClassifier) -> list[int]:
    seen: list[int] = []
    model.network.register_forward_hook(
        lambda module, images, output: None if torch.is_grad_enabled() else seen.append(len(images[0]))
    )
    return seen


@pytest.mark.parametrize("copies", [1, 3])
def test_probes_that_are_due_share_one_pass(copies, make_data, make_model, make_trainer, tmp_path):
    model = make_model()
    seen = _count_bank_passes(model)
    probes = [
        le.SimilarityProbe(le.At([0, 2]), ["conv*"]),
        le.SimilarityProbe(le.At([0, 2]), ["fc1"]),
        le.CategoryProbe(le.At([0, 2])),
    ]
    trainer = make_trainer(probes[:copies], max_steps=3, logger=False, default_root_dir=tmp_path)
    trainer.fit(model, datamodule=make_data())
    # Three stimuli, to see what they reach; three, to see what can be measured of it; one, to see how large that is.
    # Then three of each of five tokens, at steps 0 and 2 and the last.
    assert seen == [3, 3, 1] + [3] * 15


def test_probes_of_weights_need_no_pass(make_data, make_model, make_trainer, tmp_path):
    model = make_model()
    seen = _count_bank_passes(model)
    trainer = make_trainer([le.FilterProbe(), le.GradientProbe()], logger=False, default_root_dir=tmp_path)
    trainer.fit(model, datamodule=make_data())
    assert seen == []
