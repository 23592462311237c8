"""Random streams go on where they stood, each of them."""

from __future__ import annotations

import json
import random

import numpy as np
import torch

from lightning_emerge.engine.random_streams import random_states, restore_random_state


def _draw() -> list[float]:
    # Python's and NumPy's Gaussian numbers come in pairs, of which the second is kept.
    return [torch.randn(1).item(), torch.rand(1).item(), np.random.normal(), random.gauss(0, 1), random.random()]  # noqa: NPY002


def test_each_stream_goes_on_where_it_stood(make_trainer):
    trainer = make_trainer([])
    _draw()
    (state,) = random_states(trainer)
    expected = [_draw() for _ in range(3)]
    assert not np.isclose(expected[0], expected[1]).any(), "each draw is another"
    restore_random_state(json.loads(json.dumps(state)))
    assert [_draw() for _ in range(3)] == expected
