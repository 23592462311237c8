"""A run that an older version has made is read, reported, resumed and replayed.

`old_run.tar.xz` is a run of 8 optimizer steps, made before records were declared and the store had a room of its own:
its records, configuration, `fit.json` and `emergence.json`, weights at each look, and its last checkpoint at step 4
(`killed.ckpt`). `old_run.json` says what reading it gave then.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import lightning_emerge as le
from lightning_emerge.cli import main
from lightning_emerge.cli import report as command
from lightning_emerge.report.content import Report

HOME = Path(__file__).parent
STEPS = [0, 1, 2, 3, 6, 8]
TOKENS = ["dax", "wug", "blick", "fep", "toma"]


@pytest.fixture
def run(tmp_path, monkeypatch) -> Path:
    """The old run, where it was made."""
    monkeypatch.chdir(tmp_path)
    folder = Path("runs/old/version_0")
    with tarfile.open(HOME / "old_run.tar.xz") as packed:
        packed.extractall(folder, filter="data")
    return folder


def _tell(array: xr.Variable) -> dict[str, Any]:
    values = array.values
    if values.dtype.kind in "TUO":
        words = [str(word) for word in values.ravel()]
        kind, raw, first = "text", "\0".join(words).encode(), words[:3]
    else:
        kind, raw = str(values.dtype), values.astype(values.dtype.newbyteorder("<")).tobytes()
        first = [None if np.isnan(value) else float(value) for value in values.ravel()[:3]]
    return {
        "dims": list(array.dims),
        "shape": list(array.shape),
        "dtype": kind,
        "attrs": array.attrs,
        "sha256": hashlib.sha256(raw).hexdigest(),
        "begins": first,
    }


def _then() -> dict[str, Any]:
    return json.loads((HOME / "old_run.json").read_text())


@pytest.mark.parametrize("reader", ["open_run", "xarray"])
def test_it_is_read_bit_by_bit(reader, run):
    then = _then()
    records = le.open_run(run).load() if reader == "open_run" else xr.open_zarr(run / "records.zarr").load()
    assert records.step.values.tolist() == STEPS
    assert {name: _tell(array) for name, array in records.variables.items()} == then["variables"]
    if reader == "open_run":
        assert records.attrs == then["attrs"]


def test_it_is_reported_with_all_its_sections(run, capfd, monkeypatch):
    made: list[Report] = []
    monkeypatch.setattr(command, "make_report", lambda runs: made.append(le.make_report(runs)) or made[0])
    main(["report", str(run)])
    page, (report,) = (run / "report/report.html").read_text(), made
    assert all(name in page for name in ("TokenClassifier", *TOKENS, "looks"))
    assert not [sentence for sentence in report.missing if "could not be made" in sentence or "read" in sentence]
    for chapter in ("trained", "learning", "geometry", "embeddings", "filters", "gradients", "construction", "costs"):
        section = next(one.section for one in report.chapters if one.id == chapter)
        assert section.pictures or section.tables, chapter


def test_what_emerged_is_what_it_said_then(run):
    then = json.loads((run / "emergence.json").read_text())["events"]
    now = le.run_timeline(run)
    assert [(one.group, one.name, one.measure) for one in now] == [
        (one["group"], one["name"], one["measure"]) for one in then
    ]
    assert all(one.emergence.step is None for one in now)  # nothing emerges in 8 steps
    assert [one["step"] for one in then] == [None] * len(now)


@pytest.mark.parametrize("begin", [4, 8])
def test_it_resumes_with_each_step_once(begin, run, capfd):
    old = le.open_run(run).load()
    if begin == 4:  # as a run leaves it that is killed after its look at step 8
        (run / "killed.ckpt").replace(run / "checkpoints/last.ckpt")
    main(["fit", "--config", f"{run}/config.yaml", "--ckpt_path", "last", "--trainer.max_steps", "12"])
    assert "Failed" not in capfd.readouterr().out
    assert [path.parent for path in Path("runs").rglob("records.zarr")] == [run]
    new = le.open_run(run).load()
    # Step 8 was looked at because the fit ended there; one that goes on through it has no look at it.
    assert new.step.values.tolist() == ([0, 1, 2, 3, 6, 8, 10, 12] if begin == 8 else [0, 1, 2, 3, 6, 10, 12])
    assert set(old.variables) <= set(new.variables)
    before = [step for step in STEPS if step <= begin]
    for name in old.variables:
        assert new[name].attrs == old[name].attrs, name
    xr.testing.assert_identical(new[list(old.data_vars)].sel(step=before), old.sel(step=before))
    for name in ("rdm", "filter_norm", "bank_confidence", "gradient_norm") if begin == 4 else ():
        made, before, anew = old[name].sel(step=6), old[name].sel(step=3), new[name].sel(step=6)
        np.testing.assert_allclose(anew, made, rtol=1e-2, atol=1e-3, err_msg=name)  # as another machine's threads add
        assert float(abs(made - before).max()) > 10 * float(abs(anew - made).max()), name
    for name in old.data_vars:
        was, now = (np.isfinite(records[name].sel(step=step).values).any() for records, step in ((old, 6), (new, 10)))
        assert now or not was, name


def test_its_checkpoints_replay_to_its_records(run, capfd):
    main(["replay", "--config", f"{run}/config.yaml", "--checkpoints", f"{run}/checkpoints"])
    said = capfd.readouterr().out
    assert "Left out  GradientProbe, which needs the training batch" in said
    assert "Failed" not in said
    recorded, replayed = le.open_run(run).load(), le.open_run(run / "replay_0").load()
    of_training = {name for name in recorded.data_vars if recorded[name].attrs["source"] == "GradientProbe"}
    assert replayed.step.values.tolist() == STEPS
    assert len(of_training) >= 5
    assert set(replayed.data_vars) == set(recorded.data_vars) - of_training
    assert replayed.kernels.shape[1] == 1  # the axis of their layer, which they did not have then
    replayed["kernels"] = replayed.kernels[:, 0].drop_vars("layer_of_kernels")
    for name in replayed.data_vars:
        assert replayed[name].dims == recorded[name].dims, name
        np.testing.assert_allclose(replayed[name], recorded[name], rtol=1e-3, atol=1e-4, err_msg=name)
