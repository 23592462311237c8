"""The benchmark of a GPU, on a machine without one: its arithmetic, and all of it that does not need CUDA."""

from __future__ import annotations

import gpu
import pytest
import torch
from parts import CONFIGS, DEFAULT, read_probes

import lightning_emerge as le


@pytest.mark.parametrize(
    ("kernels", "idle", "span"),
    [
        ([(0, 1000)], 0, 1),
        ([(0, 1000), (3000, 4000)], 2, 4),
        ([(3000, 4000), (0, 1000)], 2, 4),
        ([(0, 5000), (1000, 2000), (6000, 8000)], 1, 8),  # two streams at once
        ([(500, 1500), (1500, 2500)], 0, 2),
    ],
)
def test_waiting_is_what_no_kernel_covers(kernels, idle, span):
    assert gpu.waiting(kernels) == {"ms": idle, "floor_ms": span, "ratio": idle / span}


def test_the_probes_are_those_of_the_configurations():
    default = read_probes(DEFAULT)
    kinds = [le.CategoryProbe, le.GradientProbe, le.FilterProbe, le.CouplingProbe, le.RegimeProbe]
    assert [type(probe) for probe in default] == [*kinds, le.TopExemplarProbe, le.SimilarityProbe, le.EmbeddingProbe]
    assert {probe.on_error for probe in default} == {"raise"}
    assert default[5].schedule.per_decade == 2
    assert [schedule.share for schedule in default[0].schedule.schedules[:1]] == [0.05]
    more = read_probes(DEFAULT, CONFIGS / "probes" / "gradients.yaml")
    assert [type(probe) for probe in more[:8]] == [type(probe) for probe in default]
    assert len(more) == 11


@pytest.mark.filterwarnings("ignore:.*number of training batches.*", "ignore:GPU available but not used.*")
def test_a_fit_is_compared_with_steps_on_one_batch():
    case = gpu.Case("cpu", image_size=32, batch_size=25, exemplars=10, epochs=1)
    (row,) = gpu.bench_constant_batch(1, case).values()
    assert row["ratio"] == row["ms"] / row["floor_ms"]
    assert row["floor_ms"] > 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*number of training batches.*", "ignore:GPU available but not used.*")
def test_a_fit_with_probes_is_compared_with_one_without():
    case = gpu.Case("cpu", image_size=32, batch_size=25, exemplars=10, epochs=1)
    (row,) = gpu.bench_fit(1, case).values()
    assert row["ratio"] > 1


def test_nothing_is_said_to_be_measured_without_a_gpu(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.bench_gpu(1) == {}
    assert "not measured: no GPU" in capsys.readouterr().out
