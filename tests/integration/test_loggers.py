"""Any logger: the scalars of probes at their steps, a folder for each run, and a run that survives its loggers."""

from __future__ import annotations

import random
from csv import DictReader
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import lightning_emerge as le

STEPS = 3
TRUTH = "bank_accuracy_mean"


class OwnLogger(Logger):
    """Somebody's own, which knows nothing but scalars; it fails when it is told of what it is to fail at."""

    def __init__(self, version: int | str | None = None, fails_at: str = "", draws: bool = False) -> None:
        super().__init__()
        self._version, self.fails_at, self.draws = version, fails_at, draws
        self.got: list[tuple[int | None, dict[str, float]]] = []
        self.threads: set[str] = set()

    @property
    def name(self) -> str:
        return "own"

    @property
    def version(self) -> int | str | None:
        return self._version

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if self.fails_at in metrics:
            raise ConnectionError("the server is gone")
        if self.draws and TRUTH in metrics:
            _ = random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
        self.got.append((step, dict(metrics)))

    def log_hyperparams(self, *_: Any, **__: Any) -> None: ...

    def of(self, name: str) -> dict[int | None, float]:
        return {step: metrics[name] for step, metrics in self.got if name in metrics}


@pytest.fixture
def fit(make_data, make_model, make_trainer, tmp_path):
    """Trains with a probe and loggers, and gives the trainer."""

    def fit(logger: Any, *callbacks: Any, **changes: Any) -> Any:
        settings = {"max_steps": STEPS, "default_root_dir": tmp_path, "logger": logger, **changes}
        trainer = make_trainer([le.CategoryProbe(le.EverySteps(1)), *callbacks], **settings)
        trainer.fit(make_model(), datamodule=make_data())
        return trainer

    return fit


def recorded(folder: Path, name: str = TRUTH) -> dict[int, float]:
    values = le.open_run(folder)[name]
    return dict(zip(values.step.values.tolist(), values.values.tolist(), strict=True))


def read_csv(folder: Path, name: str = TRUTH) -> dict[int, float]:
    with (folder / "metrics.csv").open() as file:
        return {int(row["step"]): float(row[name]) for row in DictReader(file) if row[name]}


def test_metrics_csv_has_the_scalars_of_probes_beside_those_of_the_module(fit, tmp_path, said):
    for version in (0, 1):  # twice in the same folder
        fit(CSVLogger(tmp_path, name="runs"))
        folder = tmp_path / "runs" / f"version_{version}"
        assert read_csv(folder) == pytest.approx(recorded(folder))
        assert sorted(read_csv(folder)) == list(range(STEPS + 1))
        token = le.open_run(folder).token.values[0]
        assert f"bank_accuracy/{token}" in (folder / "metrics.csv").read_text().partition("\n")[0]
        assert len(read_csv(folder, "train/loss")) == STEPS
        assert f"Records of the probes: {folder}/records.zarr" in said


def test_all_of_several_loggers_get_the_same_and_the_first_names_the_folder(fit, tmp_path):
    own, board = OwnLogger("second"), TensorBoardLogger(tmp_path, name="", version="board")
    fit([own, CSVLogger(tmp_path, name="", version="csv"), board])
    truth = recorded(tmp_path / "own" / "second")
    assert own.of(TRUTH) == pytest.approx(truth)
    assert read_csv(tmp_path / "csv") == pytest.approx(truth)
    events = EventAccumulator(str(tmp_path / "board"))
    events.Reload()
    assert {event.step: event.value for event in events.Scalars(TRUTH)} == pytest.approx(truth)
    assert not (tmp_path / "board" / "records.zarr").exists()


@pytest.mark.parametrize(
    ("version", "folder"), [(None, "own"), (7, "own/version_7"), ("a/b", "own/a/b"), ("/etc", "own/etc")]
)
def test_a_folder_is_called_as_the_logger_calls_the_run(version, folder, fit, tmp_path):
    fit(OwnLogger(version), max_steps=1)
    assert list(recorded(tmp_path / folder)) == [0, 1]


def test_without_a_logger_records_are_in_the_root_and_a_second_run_is_told_so(fit, tmp_path):
    fit(False)
    before = recorded(tmp_path)
    with pytest.raises(ValueError, match=r"without records.*steps of an earlier run.*another version or folder"):
        fit(False)
    assert recorded(tmp_path) == before


def test_a_logger_that_fails_is_named_once_and_costs_neither_run_nor_records_nor_another_logger(fit, tmp_path):
    bad, good = OwnLogger("bad", fails_at=TRUTH), OwnLogger("good")
    with pytest.warns(UserWarning, match=r"OwnLogger could not log step 0.*training goes on.*server is gone") as caught:
        trainer = fit([bad, good])
    assert len([one for one in caught if "OwnLogger" in str(one.message)]) == 1
    assert trainer.global_step == STEPS
    truth = recorded(tmp_path / "own" / "bad")
    assert sorted(truth) == list(range(STEPS + 1))
    assert good.of(TRUTH) == pytest.approx(truth)
    assert not any(TRUTH in metrics for _, metrics in bad.got)
    assert any("train/loss" in metrics for _, metrics in bad.got), "it got nothing of the module's either"


def test_a_logger_whose_name_raises_costs_no_run(fit, tmp_path):
    class Nameless(OwnLogger):
        @property
        def name(self) -> str:
            raise ConnectionError("no server to name the run")

    with pytest.warns(UserWarning, match="Nameless raised ConnectionError") as caught:
        fit(Nameless(), max_steps=1)
    assert len([one for one in caught if "Nameless" in str(one.message)]) == 1
    assert list(recorded(tmp_path)) == [0, 1]


def test_what_a_logger_does_to_random_streams_does_not_reach_training(make_data, make_model, make_trainer, tmp_path):
    states = []
    for logger, probes in ((False, []), (OwnLogger(draws=True), [le.CategoryProbe(le.EverySteps(1))])):
        model = make_model()
        make_trainer(probes, max_steps=STEPS, logger=logger, default_root_dir=tmp_path).fit(model, make_data())
        assert not logger or len(logger.of(TRUTH)) == STEPS + 1
        states.append((model.state_dict(), torch.get_rng_state()))
    (weights, stream), (others, other) = states
    assert all(torch.equal(weight, others[name]) for name, weight in weights.items())
    assert torch.equal(stream, other)
