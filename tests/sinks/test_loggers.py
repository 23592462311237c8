"""What goes to loggers, and under which names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_emerge.records import Axis, Measurement
from lightning_emerge.sinks.loggers import LoggerSink, MLflowSink


class Known:
    """A logger that keeps what it is told, as MLflow's and its client would be."""

    run_id = "abc"

    def __init__(self) -> None:
        self.logged: list[tuple[dict[str, float], int]] = []
        self.calls: list[tuple[Any, ...]] = []
        self.experiment = self

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.logged.append((metrics, step))

    def save(self) -> None: ...

    def log_image(self, run: str, pixels: Any, *, key: str, step: int) -> None:
        self.calls.append((run, pixels.shape, key, step))

    def log_artifact(self, *given: Any) -> None:
        self.calls.append(given)

    log_artifacts = log_artifact


def make(name: str, values: Any, *axes: Axis) -> Measurement:
    return Measurement(name, np.asarray(values, dtype=np.float32), axes, 5)


MEAN = make("mean", 0.5)
BY_LAYER = make("norm", [1, np.nan, 3], Axis("layer", ["conv1", "conv2", "fc"]))
BY_BOTH = make("rdm", np.zeros((2, 2)), Axis("a", "xy"), Axis("b", "xy"))


def test_measurements_with_no_axis_or_one_are_scalars_at_their_step_and_nan_is_none():
    logger = Known()
    LoggerSink(logger).write(5, [MEAN, BY_LAYER, BY_BOTH])  # pyright: ignore[reportArgumentType]
    assert logger.logged == [({"mean": 0.5, "norm/conv1": 1.0, "norm/fc": 3.0}, 5)]


def test_a_step_without_scalars_is_not_logged():
    logger = Known()
    LoggerSink(logger).write(5, [BY_BOTH])  # pyright: ignore[reportArgumentType]
    assert logger.logged == []


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["disk+bar", "disk_bar", "disk*bar"], ["of/disk_bar", "of/disk_bar_2", "of/disk_bar_3"]),
        (["rec#2", "ä", "../up", "a//b"], ["of/rec_2", "of/_", "of/up", "of/a/b"]),
        (["", "x" * 400], ["of", "of/" + "x" * 237]),
    ],
)
def test_names_are_in_letters_that_mlflow_takes_and_no_two_become_one(labels, names):
    logger = Known()
    sink = MLflowSink(logger)  # pyright: ignore[reportArgumentType]
    for _ in range(2):
        sink.write(5, [make("of", range(len(labels)), Axis("feature", labels))])
    assert logger.logged == [(dict(zip(names, map(float, range(len(names))), strict=True)), 5)] * 2


def test_mlflow_gets_no_more_metrics_at_once_than_it_takes():
    logger = Known()
    sink = MLflowSink(logger)  # pyright: ignore[reportArgumentType]
    sink.write(5, [make("of", range(2500), Axis("filter", range(2500)))])
    assert [len(metrics) for metrics, _ in logger.logged] == [1000, 1000, 500]
    assert sorted(value for metrics, _ in logger.logged for value in metrics.values()) == list(range(2500))


def test_pictures_and_records_go_to_the_run_of_mlflow(tmp_path):
    logger = Known()
    sink = MLflowSink(logger)  # pyright: ignore[reportArgumentType]
    (tmp_path / "records.zarr").mkdir()
    Path(tmp_path, "fit.json").touch()
    sink.show(5, {"val/confusion": np.zeros((2, 3, 3), np.uint8)})
    sink.keep(tmp_path, ["records.zarr", "fit.json"])
    folder, file = str(tmp_path / "records.zarr"), str(tmp_path / "fit.json")
    assert logger.calls == [("abc", (2, 3, 3), "val/confusion", 5), ("abc", folder, "records.zarr"), ("abc", file)]
