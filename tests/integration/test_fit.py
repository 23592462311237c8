"""The commands as a user gives them, in processes of their own."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml
from children import run_group
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"


def lightning(
    *arguments: str | Path, folder: Path, limit: float = 240, **variables: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lightning_emerge", *map(str, arguments)]
    return run_group(command, limit, cwd=folder, ready=True, env={**os.environ, **variables})


def test_fit_says_where_the_run_is_and_how_to_look_at_it(smoke):
    run, said = smoke
    assert "20 optimizer steps" in said
    assert "validation accuracy" in said
    assert "lightning board runs/smoke/version_0" in said
    assert {path.name for path in run.iterdir()} >= {
        "records.zarr",
        "config.yaml",
        "checkpoints",
        "emergence.png",
        "fit.json",
    }


def test_records_open_with_xarray_alone(smoke):
    records = xr.open_zarr(smoke[0] / "records.zarr")
    assert records.rdm.dims == ("step", "layer", "stimulus", "stimulus_b")
    assert records.step.values.tolist() == [0, 1, 2, 3, 6, 10, 18, 20]
    assert records.layer.values.tolist()[:2] == ["conv1_1", "conv2_1"]
    assert records.stimulus.values.tolist()[0] == "bank/dax/000000"
    assert records.stimulus_token.values.tolist()[::8] == ["dax", "wug", "blick", "fep", "toma"]
    assert records.rdm.attrs["units"] == "1 - Pearson r"
    assert np.isfinite(records.rdm.values).all()
    measured_once_an_update = records.gradient_norm.sel(step=slice(0, 18))
    assert np.isfinite(measured_once_an_update.values).all()


def test_tensorboard_gets_every_look_at_its_optimizer_step(smoke):
    events = EventAccumulator(str(smoke[0]), {"scalars": 0, "images": 0, "histograms": 0, "tensors": 0})
    events.Reload()
    tags = events.Tags()
    steps = [0, 1, 2, 3, 6, 10, 18, 20]
    assert [event.step for event in events.Images("rdm")] == steps
    assert [event.step for event in events.Images("kernels")] == steps
    assert [event.step for event in events.Scalars("bank_accuracy/dax")] == steps
    assert [event.step for event in events.Histograms("gradient_magnitude/conv1_1")] == steps[:-1]
    wanted = {
        "train/loss",
        "learning_rate",
        "val/accuracy",
        "val/accuracy/dax",
        "distance_ratio/fc2",
        "update_ratio/fc1",
    }
    assert wanted <= set(tags["scalars"])
    assert "val/confusion" in tags["images"]


def test_the_run_can_be_tested_and_predicted_with_its_own_configuration(smoke, tmp_path):
    folder = tmp_path
    shutil.copytree(smoke[0].parents[1], folder / "runs")
    run = folder / "runs" / "smoke" / "version_0"
    checkpoint = next((run / "checkpoints").glob("*.ckpt"))
    tested = lightning("test", "--config", run / "config.yaml", "--ckpt_path", checkpoint, folder=folder)
    assert "test/accuracy/dax" in tested.stdout, tested.stderr
    predicted = lightning("predict", "--config", run / "config.yaml", "--ckpt_path", checkpoint, folder=folder)
    assert "100 predictions are in" in predicted.stdout, predicted.stderr
    with (folder / predicted.stdout.split(" are in ")[1].strip()).open() as file:
        rows = list(csv.DictReader(file))
    assert len({row["id"] for row in rows}) == 100
    for row in rows:
        probabilities = {token: float(row[f"p_{token}"]) for token in ("dax", "wug", "blick", "fep", "toma")}
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-4)
        assert row["token"] == max(probabilities, key=lambda token: probabilities[token])


def test_later_configurations_and_options_win(tmp_path):
    (tmp_path / "short.yaml").write_text("trainer: {max_epochs: 7}\ndata: {init_args: {batch_size: 50}}\n")
    arguments = ("--config", "short.yaml", "--data.seed", "9", "--print_config")
    printed = lightning("fit", "--config", CONFIGS / "smoke.yaml", *arguments, folder=tmp_path)
    settings = yaml.safe_load(printed.stdout)
    assert settings["trainer"]["max_epochs"] == 7
    assert settings["data"]["init_args"] | {"batch_size": 50, "seed": 9} == settings["data"]["init_args"]
    assert [path.name for path in tmp_path.iterdir()] == ["short.yaml"]


@pytest.mark.parametrize("name", [path.name for path in sorted(CONFIGS.glob("*.yaml")) if path.name != "ddp.yaml"])
def test_every_configuration_parses(name, tmp_path):
    printed = lightning(
        "fit", "--config", CONFIGS / name, "--config", CONFIGS / "ddp.yaml", "--print_config", folder=tmp_path
    )
    assert printed.returncode == 0, printed.stderr
    assert yaml.safe_load(printed.stdout)["trainer"]["devices"] == 2


def test_fast_dev_run_writes_nothing(tmp_path):
    arguments = ("--trainer.fast_dev_run", "true")
    ended = lightning("fit", "--config", CONFIGS / "smoke.yaml", *arguments, folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.distributed
def test_two_processes_take_the_same_steps_and_measure_the_same_as_one(smoke, tmp_path):
    arguments = ("--config", CONFIGS / "smoke.yaml", "--config", CONFIGS / "ddp.yaml", "--trainer.max_steps", "3")
    ended = lightning("fit", *arguments, folder=tmp_path, READY_SPARE="1")
    assert ended.returncode == 0, ended.stderr
    one = xr.open_zarr(smoke[0] / "records.zarr").isel(step=slice(0, 4)).load()
    two = xr.open_zarr(tmp_path / "runs/smoke/version_0/records.zarr").load()
    assert two.step.values.tolist() == [0, 1, 2, 3]
    assert set(two.data_vars) == set(one.data_vars)
    for name in sorted(str(name) for name in two.data_vars if name != "gradient_magnitude"):
        first = slice(0, 3) if two[name].attrs["source"] == "GradientProbe" else slice(0, 4)
        np.testing.assert_allclose(two[name][first], one[name][first], rtol=1e-4, atol=1e-5, err_msg=name)
    # Rounding moves an entry over the edge of its bin now and then; at step 0 hardly any.
    assert np.abs(two.gradient_magnitude[0] - one.gradient_magnitude[0]).sum() <= 20


@pytest.mark.distributed
def test_a_probe_that_fails_in_one_process_is_off_in_all_and_nothing_hangs(tmp_path):
    (tmp_path / "own_probe.py").write_text(
        "import lightning_emerge as le\n\n\nclass Fails(le.Probe):\n    needs = (le.Activations(),)\n\n"
        "    def measure(self, capture):\n        raise RuntimeError('planted')\n"
    )
    text = (CONFIGS / "smoke.yaml").read_text()
    (tmp_path / "own.yaml").write_text(text.replace("lightning_emerge.ConfusionPicture", "own_probe.Fails"))
    arguments = ("--config", "own.yaml", "--config", CONFIGS / "ddp.yaml", "--trainer.max_steps", "3")
    ended = lightning("fit", *arguments, folder=tmp_path, limit=120, READY_SPARE="1")
    assert ended.returncode == 0, ended.stderr
    assert "Fails failed at step 0 and is switched off; training goes on. RuntimeError: planted" in ended.stderr
    records = xr.open_zarr(tmp_path / "runs/smoke/version_0/records.zarr")
    assert records.step.values.tolist() == [0, 1, 2, 3]
