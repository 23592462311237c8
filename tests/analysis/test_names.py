"""Names of filters from records that are planted."""

from __future__ import annotations

import numpy as np
import pytest

import lightning_emerge as le
from lightning_emerge.store.write import ArraySink

NAMES = ("ring", "bar", "ring left of bar (b)")
NOTES = {
    "kind": ["part", "part", "pair"],
    "also": ["", "", ""],
    "tokens": ["a/b", "b/c", "b"],
    "stimuli": [100, 100, 50],
    "others": [150, 150, 200],
}


def record(folder, areas: list[list[list[float]]], steps: int = 1):
    values = np.array(areas, np.float32)
    axes = (
        le.Axis("layer", [f"l{k}" for k in range(values.shape[0])]),
        le.Axis("filter", range(values.shape[1])),
        le.Axis("feature", NAMES, notes=NOTES),
    )
    sink = ArraySink(folder / "records.zarr", None)
    for step in range(steps):
        sink.write(step, [le.Measurement("filter_part_auc", values if step == 0 else 0 * values + 0.5, axes, step)])
    sink.close()
    return folder


def test_a_filter_is_named_after_what_it_surely_detects_best(tmp_path):
    rows = [
        [0.95, 0.55, 0.80],  # rings
        [0.80, 0.80, 0.99],  # the pair
        [0.60, 0.55, 0.50],  # nothing
        [0.95, 0.94, 0.90],  # rings as well as bars
        [0.77, 0.50, 0.50],  # rings, but not surely above 0.75
        [1.00, 0.60, 1.00],  # both: the smaller conjunction
        [np.nan, np.nan, np.nan],
    ]
    found = le.name_filters(record(tmp_path, [rows]))
    assert found.columns.tolist() == ["layer", "filter", "name", "kind", "auc", "low", "high"]
    assert found.name.fillna("").tolist() == ["ring", "ring left of bar (b)", "", "", "", "ring"]
    assert found.kind.fillna("").tolist() == ["part", "pair", "", "", "", "part"]
    assert found["filter"].tolist() == [0, 1, 2, 3, 4, 5]
    assert found.auc.tolist() == pytest.approx([0.95, 0.99, 0.60, 0.95, 0.77, 1.0])
    assert ((found.low < found.auc) & (found.auc <= found.high)).all()


def test_noise_gets_no_names(tmp_path):
    random = np.random.default_rng(0)
    # As AUC of noise vary: by about 0.04 with so many stimuli.
    areas = 0.5 + 0.04 * random.normal(size=(10, 100, 3))
    found = le.name_filters(record(tmp_path, areas.tolist()), at_least=0.5)
    assert len(found) == 1000
    assert found.name.notna().sum() <= 1


def test_a_step_can_be_chosen_and_one_without_a_look_is_said(tmp_path):
    run = record(tmp_path, [[[0.95, 0.55, 0.80]]], steps=2)
    assert le.name_filters(run).name.isna().all()
    assert le.name_filters(run, step=0).name.tolist() == ["ring"]
    with pytest.raises(ValueError, match="at which a PartProbe looked: 0, 1; got 9"):
        le.name_filters(run, step=9)
    with pytest.raises(ValueError, match=r"at_least is 0.5 to 1; got 0.2"):
        le.name_filters(run, at_least=0.2)


def test_without_a_part_probe_there_are_no_names(tmp_path):
    ArraySink(tmp_path / "records.zarr", None).close()
    with pytest.raises(ValueError, match="none has looked in"):
        le.name_filters(tmp_path)
