"""configs/probes/full.yaml: every probe that the package ships looks at the default task, and none of them fails."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml
from children import run_group

import lightning_emerge as le

CONFIGS = Path(__file__).parents[2] / "configs"
PROBES = {name for name in le.__all__ if name.endswith("Probe") and name != "Probe"}
SMALL = {
    "trainer": {"max_epochs": 1, "limit_train_batches": 3, "limit_val_batches": 1, "accelerator": "cpu"},
    "model": {"init_args": {"network": {"init_args": {"width": 2, "head": [8, 8], "image_size": 32}}}},
    "data": {"init_args": {"val_exemplars": 4, "test_exemplars": 4, "bank_exemplars": 6, "image_size": 32}},
}


def test_every_probe_that_is_shipped_is_in_it():
    callbacks = yaml.safe_load((CONFIGS / "probes" / "full.yaml").read_text())["trainer"]["callbacks"]
    names = [callback["class_path"].rsplit(".", 1)[-1] for callback in callbacks]
    assert sorted(name for name in names if name.endswith("Probe")) == sorted(PROBES)


@pytest.mark.slow
def test_every_probe_looks_and_none_is_switched_off(tmp_path):
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(SMALL))
    configs = [CONFIGS / "vgg5.yaml", CONFIGS / "probes" / "full.yaml", tmp_path / "small.yaml"]
    given = [argument for config in configs for argument in ("--config", str(config))]
    command = [sys.executable, "-m", "lightning_emerge", "fit", *given]
    ended = run_group(command, 280, cwd=tmp_path, ready=True)
    assert ended.returncode == 0, ended.stderr
    assert "switched off" not in ended.stderr
    assert "nothing more of it is drawn" not in ended.stderr
    run = tmp_path / "runs" / "vgg5" / "version_0"
    costs = json.loads((run / "fit.json").read_text())["rows"]
    assert {name for name, cost in costs.items() if cost["looks"]} >= PROBES
    records = xr.open_zarr(run / "records.zarr").load()
    for name, values in records.items():
        low, high = values.attrs.get("valid_min", -np.inf), values.attrs.get("valid_max", np.inf)
        assert float(values.min()) >= low - 1e-5 or not bool(values.notnull().any()), name
        assert float(values.max()) <= high + 1e-5 or not bool(values.notnull().any()), name
    sources = {json.loads(array.attrs["probe"])["class_path"] for array in records.values()}
    assert {source.rsplit(".", 1)[-1] for source in sources} >= PROBES
