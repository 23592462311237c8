"""Promise 5: killed at any moment and gone on with, a run ends as if it had been left alone."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from children import run_group

import lightning_emerge as le
from lightning_emerge.engine.checkpoint_files import read_checkpoint

SCRIPT = Path(__file__).with_name("killed.py")
KILLS = 20
STEPS, EPOCHS = 17, 7  # no start gets from one kill to the end

PACE = '''
import os
from pathlib import Path
from lightning.pytorch import Callback

class Pace(Callback):
    """Tells how far training has come; a kill must not leave an empty file, which reads as step 0."""

    def on_train_batch_end(self, trainer, *arguments):
        Path("step.new").write_text(str(trainer.global_step))
        os.replace("step.new", "step")
'''


def _run(folder: Path, kills: int, configuration: dict[str, Any]) -> Path:
    """Runs a fit that is killed so many times, and gives the folder of the run that ends."""
    folder.mkdir()
    (folder / "run.yaml").write_text(yaml.safe_dump(configuration))
    (folder / "pace.py").write_text(PACE)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)}
    command = [sys.executable, str(SCRIPT), str(folder), "1", str(kills)]
    ended = run_group(command, 800, env=environment, ready=True)
    assert ended.returncode == 0, (folder / "log.txt").read_text()[-3000:] + ended.stderr
    return max(folder.glob("runs/killed/version_*"), key=lambda path: int(path.name[8:]))


@pytest.mark.slow
@pytest.mark.timeout(900)  # two minutes on two free cores
def test_a_run_that_is_killed_20_times_ends_as_if_it_had_been_left_alone(tmp_path, small_run):
    small_run["trainer"] |= {"limit_train_batches": STEPS, "max_epochs": EPOCHS}
    alone, survivor = (_run(tmp_path / name, kills, small_run) for name, kills in (("alone", 0), ("killed", KILLS)))
    kills = json.loads((tmp_path / "killed/kills.json").read_text())
    hits = [kill for kill in kills if kill["killed"]]
    assert len(hits) == KILLS
    assert len([kill for kill in hits if kill["step"] % STEPS]) >= KILLS // 2  # inside an epoch
    assert len([kill for kill in hits if kill["torn"]]) >= 5  # inside a write
    assert max(kill["step"] for kill in hits) > STEPS * 2  # all over the run

    a, b = (read_checkpoint(run / "checkpoints/last.ckpt") for run in (alone, survivor))
    assert a["global_step"] == b["global_step"] == STEPS * EPOCHS
    assert a["lightning_emerge"] == b["lightning_emerge"]
    assert a["lr_schedulers"] == b["lr_schedulers"]
    for name, value in a["state_dict"].items():
        assert torch.equal(value, b["state_dict"][name]), name
    moments = [checkpoint["optimizer_states"][0]["state"] for checkpoint in (a, b)]
    for number, row in moments[0].items():
        assert all(torch.equal(value, moments[1][number][name]) for name, value in row.items())

    left, right = (le.open_run(run).load() for run in (alone, survivor))
    assert right.step.values.tolist() == left.step.values.tolist()
    assert np.all(np.diff(right.step) > 0)
    assert set(left.variables) == set(right.variables)
    for name in left.variables:
        assert left[name].equals(right[name]), name
        assert left[name].attrs == right[name].attrs, name

    kept = [{path.name for path in (run / "checkpoints").iterdir()} for run in (alone, survivor)]
    assert kept[0] == kept[1]
