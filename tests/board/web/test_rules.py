"""What the tab's JavaScript and the package both hold is one fixture, which tests of both read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import lightning_emerge as le
from lightning_emerge.measures.coupling import KINDS, count_edges
from lightning_emerge.records.names import join_pair, split_pair
from lightning_emerge.store.write import ArraySink

RULES = json.loads(Path(__file__).with_name("rules.json").read_text(encoding="utf-8"))


def test_kinds_that_claim_edges():
    assert {kind for kind, claims in RULES["claims"].items() if claims} == {*KINDS}
    names = {record.name.removeprefix("coupling_") for record in le.CouplingProbe.records}
    assert {*RULES["claims"]} <= names


@pytest.mark.parametrize("case", RULES["pairs"], ids=lambda case: case["label"])
def test_pairs(case):
    assert list(split_pair(case["label"])) == case["layers"]
    assert join_pair(*case["layers"]) == case["label"]


@pytest.mark.parametrize("case", RULES["edges"], ids=lambda case: case["kind"])
def test_edges(case):
    given = ([np.nan if one is None else one for one in case[key]] for key in ("strengths", "least"))
    strengths, least = (torch.tensor(values, dtype=torch.float32) for values in given)
    counted = count_edges(strengths.reshape(case["shape"]), least, case["kind"])
    assert counted.nonzero().tolist() == case["counted"]


def test_ranges_and_axes(make_ask, tmp_path):
    made, sizes = [], {"layer": 3, "token": 2}
    for number, case in enumerate(RULES["ranges"]):
        record = le.Record(f"range_{number}", ("token",), range=tuple(case["declared"]))
        made.append(record.of(np.array(case["seen"]), le.Axis("token", list("xy"))))
    for number, case in enumerate(RULES["axes"]):
        axes = [le.Axis(name, list("abcd")[: sizes.get(name.removesuffix("_b"), 4)]) for name in case["axes"]]
        record, shape = le.Record(f"axes_{number}", tuple(case["axes"])), [len(one.labels) for one in axes]
        made.append(record.of(np.ones(shape), *axes))
    sink = ArraySink(tmp_path / "run" / "records.zarr", None)
    assert sink.write(0, made) == {}
    sink.close()
    measures = make_ask(tmp_path)("run", run="run").json["measures"]
    for number, case in enumerate(RULES["ranges"]):
        found = measures[f"range_{number}"]
        assert (found["known"], found["range"]) == (case["known"], case["range"]), case
    for number, case in enumerate(RULES["axes"]):
        assert measures[f"axes_{number}"]["views"] == case["views"], case
