"""The timeline of records whose emergence was planted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lightning_emerge.analysis.timeline import FILE, draw_timeline, run_series, run_timeline, write_timeline
from lightning_emerge.records import Axis, Measurement
from lightning_emerge.store.write import ArraySink

STEPS = [*range(12), *range(12, 60, 3)]
TOKEN = Axis("token", ["dax", "wug"])
LAYER = Axis("layer", ["conv1_1", "fc1"])
FEATURE = Axis("feature", ["ring", "ring above bar"], notes={"kind": ["part", "pair"]})
PAIR, KIND = Axis("pair", ["conv1_1 > conv1_2"]), Axis("kind", ["weight", "effective"])


def write(folder: Path, *wanted: str) -> None:
    """Records in which each thing rises at a look of its own, counted from 0, or never."""
    rng = np.random.default_rng(0)
    rises: dict[str, tuple[tuple[Axis, ...], object]] = {
        "bank_confidence": ((TOKEN,), [20, 99]),
        "ridge_accuracy": ((LAYER,), [8, 16]),
        "part_filter_auc": ((LAYER, FEATURE), [[99, 99], [10, 18]]),
        "coupling_edges": ((PAIR, KIND), [[99, 14]]),
    }
    sink = ArraySink(folder / "records.zarr", None)
    for look, step in enumerate(STEPS):
        found = []
        for name in wanted or rises:
            axes, at = rises[name]
            values = 0.2 + 0.6 * (look >= np.asarray(at)) + 0.02 * rng.standard_normal(np.shape(at))
            found.append(Measurement(name, values.astype(np.float32), axes, step, unit="share"))
        sink.write(step, found)
    sink.close()


def test_what_was_planted_is_found_where_it_was(tmp_path):
    write(tmp_path)
    events = run_timeline(tmp_path)
    looks = {"dax": 20, "conv1_1": 8, "fc1": 16, "ring": 10, "ring above bar": 18, "conv1_1 > conv1_2": 14}
    for event in events:
        if event.name == "wug":
            assert event.emergence.step is None
            continue
        look = looks[event.name]
        assert event.emergence.low <= STEPS[look] <= event.emergence.high
        assert event.emergence.high - event.emergence.low <= STEPS[look + 1] - STEPS[look - 2]
        assert event.emergence.baseline == pytest.approx(0.2, abs=0.03)
        assert event.emergence.level == pytest.approx(0.8, abs=0.03)
    groups = [event.group for event in events]
    assert groups == ["token", "token", "layer", "layer", "part", "pair", "coupling"]


def test_a_feature_is_followed_in_the_layer_that_tells_it_best(tmp_path):
    write(tmp_path, "part_filter_auc")
    assert [one.measure for one in run_series(tmp_path)] == ["part_filter_auc of fc1"] * 2


def test_the_least_rise_is_that_of_as_many_stimuli_and_edges_as_there_were(tmp_path):
    feature = Axis("feature", ["ring"], notes={"kind": ["part"], "stimuli": [100], "others": [150]})
    pair = Axis("pair", ["conv1_1 > conv1_2"], notes={"filters_out": [16], "filters_in": [32]})
    rows = {
        "bank_confidence": (Axis("token", ["dax", "wug", "fep"], notes={"stimuli": [50, 0, 8]}),),
        "ridge_accuracy": (LAYER,),
        "part_filter_auc": (LAYER, feature),
        "coupling_edges": (pair, KIND),
    }
    sink = ArraySink(tmp_path / "records.zarr", None)
    sizes = {name: tuple(len(axis.labels) for axis in axes) for name, axes in rows.items()}
    sink.write(0, [Measurement(name, np.ones(sizes[name], np.float32), axes, 0) for name, axes in rows.items()])
    sink.close()
    found = {one.name: one.least for one in run_series(tmp_path)}
    two = 3 * 2**0.5
    both = 3.19 * 2**0.5  # the better of two layers
    wanted = dict.fromkeys(("conv1_1", "fc1"), two * (0.25 / 50 + 0.25 / 8) ** 0.5 / 2)
    wanted |= {"dax": two * 0.5 / 50**0.5, "fep": two * 0.5 / 8**0.5}
    wanted |= {"wug": 0.1, "ring": both * (251 / (12 * 100 * 150)) ** 0.5, "conv1_1 > conv1_2": 6 / 512}
    assert found == pytest.approx(wanted, rel=0.01)


def test_a_few_edges_by_chance_are_no_graph_and_one_that_grows_is(tmp_path):
    pair = Axis("pair", ["a > b", "b > c"], notes={"filters_out": [32, 32], "filters_in": [32, 32]})
    rng = np.random.default_rng(0)
    sink = ArraySink(tmp_path / "records.zarr", None)
    for look in range(40):
        edges = rng.poisson(3, 2) * (rng.random(2) < 0.05) + [0, 20 * (look >= 20)] + [look >= 20, 0]
        shares = np.tile(edges[:, None] / 1024, (1, 2)).astype(np.float32)
        sink.write(look, [Measurement("coupling_edges", shares, (pair, KIND), look)])
    sink.close()
    few, grows = run_timeline(tmp_path)
    assert few.emergence.step is None
    assert grows.emergence.low <= 20 <= grows.emergence.high


def test_a_token_of_a_run_that_diverged_has_not_emerged_for_good(tmp_path):
    sink = ArraySink(tmp_path / "records.zarr", None)
    for look in range(30):
        values = {
            "bank_accuracy": [1.0, 0.0],
            "bank_confidence": [np.nan] * 2 if look > 25 else [0.2 + 0.7 * (look > 9)] * 2,
        }
        sink.write(look, [Measurement(name, np.array(own, np.float32), (TOKEN,), look) for name, own in values.items()])
    sink.close()
    assert [event.emergence.step for event in run_timeline(tmp_path)] == [None, None]


def test_it_is_written_as_plain_json_and_drawn(tmp_path):
    write(tmp_path)
    events = run_timeline(tmp_path)
    write_timeline(tmp_path, events)
    kept = json.loads((tmp_path / FILE).read_text())
    assert "onset" in kept["about"]
    assert "mastery" in kept["about"]
    assert kept["events"][0]["least"] == 0.1
    assert [row["name"] for row in kept["events"]] == [event.name for event in events]
    wug = kept["events"][1]
    assert [wug[name] for name in ("step", "low", "high", "mastery", "looks_inside")] == [None] * 5
    assert (wug["whether"], kept["events"][0]["whether"]) == ("never", "emerged")
    assert kept["events"][0]["mastery_low"] <= kept["events"][0]["mastery"] <= kept["events"][0]["mastery_high"]
    assert kept["events"][0]["change"] == pytest.approx(0.6, abs=0.03)
    assert wug["detectable"] >= wug["least"] == 0.1
    assert kept["events"][0]["unit"] == "share"
    figure = draw_timeline(tmp_path, events)
    assert figure is not None
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert texts == ["never"]
    names = [label.get_text() for axes in figure.axes for label in axes.get_yticklabels()]
    assert names == [event.name for event in events]
    lines = [line.get_xdata() for line in figure.axes[0].lines]
    assert list(lines[0]) == [events[0].emergence.low, events[0].emergence.high]
    assert list(lines[1]) == [events[0].emergence.step]


def test_measures_that_were_not_recorded_are_left_out(tmp_path):
    write(tmp_path, "bank_confidence")
    assert {one.group for one in run_series(tmp_path)} == {"token"}


def test_nothing_recorded_is_nothing_drawn(tmp_path):
    sink = ArraySink(tmp_path / "records.zarr", None)
    sink.write(0, [Measurement("gradient_norm", np.ones(()), (), 0)])
    sink.close()
    assert draw_timeline(tmp_path, run_timeline(tmp_path)) is None


def test_a_folder_without_records_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"records\.zarr"):
        run_timeline(tmp_path)
