"""Any logger: the scalars of probes at their steps, a folder for each run, and a run that survives its loggers."""

from __future__ import annotations

import io
import json
import random
import struct
from collections.abc import Iterator
from csv import DictReader
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import lightning_emerge as le

STEPS = 2
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
        trainer = make_trainer([*callbacks, le.CategoryProbe(le.EverySteps(1))], **settings)
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


def read_picture(source: Any) -> npt.NDArray[np.uint8]:
    with Image.open(source) as picture:
        return np.asarray(picture.convert("RGB"))


def pictures_on_board(folder: Path, name: str) -> dict[int, npt.NDArray[np.uint8]]:
    events = EventAccumulator(str(folder), {"images": 0})
    events.Reload()
    return {event.step: read_picture(io.BytesIO(event.encoded_image_string)) for event in events.Images(name)}


def children() -> set[str]:
    return set(" ".join(path.read_text() for path in Path("/proc/self/task").glob("*/children")).split())


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """W&B without a network and outside of the user's folders; its process ends with the test."""
    for name in ("DIR", "CACHE_DIR", "CONFIG_DIR", "DATA_DIR", "ARTIFACT_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path))
    for name, value in {"MODE": "offline", "SILENT": "true", "CONSOLE": "off", "DISABLE_GIT": "true"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    import wandb

    before = children()
    yield wandb
    wandb.teardown()
    assert children() <= before


def read_wandb(folder: Path, run: str) -> Iterator[Any]:
    """What W&B has written of a run: records of protobuf in a log as LevelDB has it, in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob(f"wandb/offline-run-*-{run}/run-{run}.wandb")
    data, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        _, length, kind = struct.unpack_from("<IHB", data, at)
        if left < 7 or kind == 0:
            at += left
            continue
        parts += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(parts)
            parts = b""


@pytest.mark.slow
def test_two_runs_of_wandb_in_one_folder(wandb, fit, tmp_path):
    for number in range(2):
        logger = WandbLogger(project="tokens", save_dir=tmp_path)
        board = TensorBoardLogger(tmp_path, name="", version=f"board_{number}")
        callbacks = [*([le.RecordsArtifact()] if number else []), le.FilterProbe(le.EverySteps(1))]
        fit([logger, board], *callbacks)
        run = logger.experiment.id
        wandb.finish()
        wandb.teardown()  # its process has written all of the run only when it ends

        truth = recorded(tmp_path / "tokens" / run)
        assert sorted(truth) == list(range(STEPS + 1))
        records = list(read_wandb(tmp_path, run))
        rows = [
            {"/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            for record in records
            if record.HasField("history")
        ]
        assert [row["_step"] for row in rows] == list(range(len(rows)))
        assert {row["trainer/global_step"]: row[TRUTH] for row in rows if TRUTH in row} == pytest.approx(truth)
        shown = {row["trainer/global_step"]: row for row in rows if "kernels/filenames" in row}
        drawn = pictures_on_board(tmp_path / f"board_{number}", "kernels")
        assert sorted(shown) == sorted(drawn) == list(range(STEPS + 1))
        (home,) = tmp_path.glob(f"wandb/offline-run-*-{run}/files")
        for step, row in shown.items():
            (path,) = row["kernels/filenames"]
            assert np.array_equal(read_picture(home / path), drawn[step])
            assert row["kernels/captions"] == [f"Step {step}"]
        axes = {record.metric.name or record.metric.glob_name: record.metric.step_metric for record in records}
        assert axes["*"] == "trainer/global_step"
        artifacts = [record.artifact for record in records if record.HasField("artifact")]
        assert [(one.name, one.type) for one in artifacts] == [(f"records-{run}", "records")] * number
    paths = {entry.path: Path(entry.local_path) for entry in artifacts[0].manifest.contents}
    assert {"records.zarr/zarr.json", "fit.json"} <= paths.keys()
    whole = tmp_path / "tokens" / run / "records.zarr/zarr.json"
    assert paths["records.zarr/zarr.json"].read_bytes() == whole.read_bytes(), "uploaded before all was written"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*noload.*")  # MLflow asks a newer SQLAlchemy for it
def test_two_runs_of_mlflow_in_one_folder(monkeypatch, fit, tmp_path):
    place = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    for number in range(2):
        logger = MLFlowLogger(tracking_uri=place, artifact_location=str(tmp_path / "artifacts"))
        board = TensorBoardLogger(tmp_path, name="", version=f"board_{number}")
        fit([logger, board], le.RecordsArtifact(), le.FilterProbe(le.EverySteps(1)))
        run = logger.run_id
        folder, kept = tmp_path / logger.experiment_id / run, tmp_path / "artifacts" / run / "artifacts"
        truth = recorded(folder)
        assert sorted(truth) == list(range(STEPS + 1))
        history = logger.experiment.get_metric_history(run, TRUTH)
        assert {one.step: one.value for one in history} == pytest.approx(truth)
        drawn = pictures_on_board(tmp_path / f"board_{number}", "kernels")
        for step in range(STEPS + 1):
            (path,) = (kept / "images").glob(f"kernels?step?{step}?*.png")
            assert np.array_equal(read_picture(path), drawn[step])
        assert recorded(kept) == truth
        assert (kept / "fit.json").read_bytes() == (folder / "fit.json").read_bytes()


def test_an_artifact_that_nobody_takes_is_refused_before_training(fit, tmp_path):
    with pytest.raises(ValueError, match=r"WandbLogger or an MLFlowLogger.*are CSVLogger"):
        fit(CSVLogger(tmp_path), le.RecordsArtifact())
    assert not list(tmp_path.rglob("records.zarr"))
