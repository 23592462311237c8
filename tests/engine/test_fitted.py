"""What a fit keeps of itself."""

from __future__ import annotations

import json
from importlib.metadata import version

import pytest

import lightning_emerge as le


def test_a_fit_that_ended_keeps_its_costs_and_versions(make_trainer, make_data, make_model, tmp_path):
    model = make_model()
    probe = le.CategoryProbe(le.EverySteps(2), on_error="raise")
    make_trainer([probe]).fit(model, make_data())
    kept = json.loads((tmp_path / "run" / "fit.json").read_text())
    assert (kept["began"], kept["step"], kept["processes"], kept["device"]) == (0, 5, 1, "cpu")
    assert kept["weights"] == sum(parameter.numel() for parameter in model.parameters())
    assert kept["rows"]["CategoryProbe"]["looks"] == 4  # at 0, 2, 4, and the last step
    assert sum(row["seconds"] for row in kept["rows"].values()) <= kept["seconds"]
    assert kept["versions"]["torch"] == version("torch")
    assert "train/loss" in kept["metrics"]


def test_a_fast_run_keeps_nothing(make_trainer, make_data, make_model, tmp_path):
    make_trainer([le.CategoryProbe(on_error="raise")], fast_dev_run=True).fit(make_model(), make_data())
    assert not list(tmp_path.rglob("fit.json"))


def test_a_disk_that_fails_does_not_cost_the_run(make_trainer, make_data, make_model, tmp_path):
    (tmp_path / "run" / "fit.json").mkdir(parents=True)
    trainer = make_trainer([le.CategoryProbe(on_error="raise")])
    with pytest.warns(UserWarning, match="What the fit cost was not kept"):
        trainer.fit(make_model(), make_data())
    assert trainer.global_step == 5
