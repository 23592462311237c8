"""A need, a record and a probe of one's own: one module, and no other line anywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

import lightning_emerge as le

AT = le.EverySteps(2)


@dataclass(frozen=True)
class Loudest(le.Rows):
    """The largest responses of each stimulus, in the order of their size."""

    count: int

    def hook(self, view, layer):
        view.output(layer)

    def rows(self, chunk, layer):
        return chunk.output(layer).flatten(1).topk(self.count, dim=1).values


class LoudnessProbe(le.Probe):
    needs = (Loudest(3),)
    records = (le.Record("loudness", ("layer",), range=(0, None), about="Mean of the three largest responses"),)

    def measure(self, capture):
        means = np.array([rows.mean().item() for rows in capture.loudest.values()])
        yield self.records[0].of(means, le.Axis("layer", capture.layers))


def test_a_need_of_ones_own_is_looked_for_and_recorded(make_data, make_model, make_trainer, tmp_path):
    model, data, probe = make_model(), make_data(), LoudnessProbe(AT, ["conv*"], on_error="raise")
    data.setup("fit")
    with torch.no_grad():
        first = model.eval().network.conv1_1(data.stimulus_bank().images)
        layers = first, model.network.conv2_1(model.network.pool1(first))
        expected = [rows.flatten(1).sort(dim=1).values[:, -3:].mean() for rows in layers]
    make_trainer([probe, le.SimilarityProbe(AT)], max_steps=3).fit(model.train(), datamodule=data)
    found = le.open_run(tmp_path / "run").loudness
    assert found.step.values.tolist() == [0, 2, 3]
    np.testing.assert_allclose(found.isel(step=0), expected, rtol=1e-5)
