"""The tab's routes give what xarray reads from the same store."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

import lightning_emerge as le
from lightning_emerge.board.plugin import find_folders
from lightning_emerge.store.write import ArraySink

RUN = "first/version_0"
OLD_RUN = Path(__file__).parents[1] / "contracts/old_run.tar.xz"


@pytest.fixture
def records(ask, tmp_path):
    return le.open_run(tmp_path / "runs" / RUN)


def _numbers(answer, dtype="<f4"):
    assert answer.status_code == 200, answer.text
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    return np.frombuffer(answer.data, dtype).reshape([int(size) for size in answer.headers["X-Shape"].split(",")])


def _steps(answer):
    return [int(step) for step in answer.headers["X-Steps"].split(",")]


def test_the_index_names_runs_as_tensorboard_does(ask, make_run, tmp_path):
    make_run(tmp_path / "runs" / "second", steps=(0, 2))
    expected = [
        {"run": RUN, "steps": 6, "last": 50, "trouble": None},
        {"run": "second", "steps": 2, "last": 2, "trouble": None},
    ]
    assert ask("index").json == {"runs": expected}


def test_a_log_directory_that_is_a_run_is_a_dot(make_ask, make_run, tmp_path):
    make_run(tmp_path / "runs")
    ask = make_ask(tmp_path / "runs")
    assert [run["run"] for run in ask("index").json["runs"]] == ["."]
    assert ask("stamp", run=".").json == {"steps": 6, "last": 50}


@pytest.mark.parametrize("name", ["a::b", "a:b", "file:x", "memory::x", "$HOME"])
def test_a_log_directory_is_taken_literally(name, make_ask, make_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / name / "run::lr0.1")
    ask = make_ask(name)
    assert [run["run"] for run in ask("index").json["runs"]] == ["run::lr0.1"]
    assert ask("stamp", run="run::lr0.1").json == {"steps": 6, "last": 50}


def test_tensorboards_tilde_is_a_home(make_ask, make_run, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    make_run(tmp_path / "runs" / "one")
    assert [run["run"] for run in make_ask("~/runs")("index").json["runs"]] == ["one"]


def test_an_empty_log_directory_has_no_runs(make_ask, tmp_path):
    ask = make_ask(tmp_path)
    assert ask("index").json == {"runs": []}
    assert not ask.plugin.is_active()
    assert make_ask(tmp_path / "nowhere")("index").json == {"runs": []}


def test_the_tab_is_active_where_there_are_runs(ask):
    assert ask.plugin.is_active()
    assert ask.plugin.frontend_metadata().es_module_path == "/index.js"


def test_a_run_is_described_as_it_was_recorded(ask, records):
    run = ask("run", run=RUN).json
    assert run["steps"] == records.step.values.tolist()
    assert run["tokens"] == ["dax", "wug"]
    assert run["stimuli"][0] == {"id": "bank/0", "token": "dax"}
    assert [one["token"] for one in run["stimuli"]] == records.stimulus_token.values.tolist()
    assert (run["has_images"], run["events"]) == (False, [])
    assert set(run["measures"]) == set(records.data_vars)
    for name, measure in run["measures"].items():
        array = records[name]
        assert measure["about"] == array.attrs["long_name"]
        assert measure["unit"] == ("" if array.attrs["units"] == "1" else array.attrs["units"])
        assert [axis["name"] for axis in measure["axes"]] == [
            str(d).removesuffix(f"_of_{name}") for d in array.dims[1:]
        ]
        assert [axis["labels"] for axis in measure["axes"]] == [array[d].values.tolist() for d in array.dims[1:]]
        assert measure["steps"] == array.dropna("step", how="all").step.values.tolist()
        assert measure["range"] == pytest.approx(_widest(array))


def _widest(array):
    low, high = (array.attrs.get(end) for end in ("valid_min", "valid_max"))
    return [float(array.min()), float(array.max())] if low is None or high is None else [low, high]


def test_notes_along_an_axis_are_given(ask, records):
    axes = ask("run", run=RUN).json["measures"]["rdm"]["axes"]
    assert axes[1]["notes"] == {"token": records.stimulus_token.values.tolist()}


@pytest.mark.parametrize("name", ["rdm", "bank_accuracy", "bank_accuracy_mean", "kernels", "top_crop"])
def test_values_are_those_of_xarray(name, ask, records):
    for step in records.step.values.tolist():
        found = _numbers(ask("values", run=RUN, measure=name, step=step)) if records[name].ndim > 1 else None
        if found is None:
            found = np.frombuffer(ask("values", run=RUN, measure=name, step=step).data, "<f4").reshape(())
        np.testing.assert_array_equal(found, records[name].sel(step=step).values.astype(np.float32))


def test_one_layers_values_and_the_range(ask, records):
    answer = ask("values", run=RUN, measure="rdm", step=10, first=2)
    np.testing.assert_array_equal(_numbers(answer), records.rdm.sel(step=10).values[2])
    assert answer.headers["X-Range"] == "0.0,2.0"


@pytest.mark.parametrize("first", [None, 1])
def test_a_frame_has_a_measure_to_a_254th_of_its_range(first, ask, records):
    part = {} if first is None else {"first": first}
    answer = ask("frame", run=RUN, measure="distances", step=10, **part)
    found = _numbers(answer, np.uint8)
    low, high = (float(end) for end in answer.headers["X-Range"].split(","))
    expected = records.distances.sel(step=10).values
    expected = expected if first is None else expected[first]
    np.testing.assert_allclose(low + found / 254 * (high - low), expected, atol=(high - low) / 254 / 2 * 1.001)


def test_a_run_of_an_earlier_version_has_the_ranges_that_its_probes_declare_now(make_ask, tmp_path):
    with tarfile.open(OLD_RUN) as packed:
        packed.extractall(tmp_path, filter="data")
    ask = make_ask(tmp_path)
    (run,) = ask("index").json["runs"]
    measures = ask("run", run=run["run"]).json["measures"]
    known = {name: one["known"] for name, one in measures.items()}
    assert (known["rdm"], known["bank_accuracy"], known["model_fit"]) == ([0, 2], [0, 1], [-1, 1])
    assert (known["distances"], known["kernels"], known["gradient_norm"]) == (None, None, None)
    assert [name for name in ("rdm", "distances", "cka") if "points" in measures[name]["views"]] == ["rdm", "distances"]
    assert measures["gradient_norm"]["scale"] == "log"


LAYERS = le.Axis("layer", ["a", "b", "c"])
PAIR = (le.Axis("stimulus", range(4)), le.Axis("stimulus_b", range(4)))
DRAWN: dict[str, tuple[tuple[le.Axis, ...], str, list[str]]] = {
    "one": ((), "", ["curves"]),
    "tokens": ((le.Axis("token", list("xy")),), "", ["curves"]),
    "stimuli": ((le.Axis("stimulus", range(30)),), "", []),
    "by_layer": ((LAYERS, le.Axis("model", list("xy"))), "", ["curves"]),
    "bins": ((LAYERS, le.Axis("bin", range(44))), "", []),
    "norm": ((LAYERS, le.Axis("filter", range(5))), "", ["curves", "filter"]),
    "wide": ((LAYERS, le.Axis("filter", range(50))), "", ["filter"]),
    "response": ((LAYERS, le.Axis("filter", range(5)), le.Axis("token", list("xy"))), "", ["filter"]),
    "crop": ((LAYERS, le.Axis("filter", range(5)), le.Axis("y", range(3))), "", []),
    "cka": ((LAYERS, le.Axis("layer_b", LAYERS.labels)), "", ["matrix"]),
    "agree": ((le.Axis("token", list("xy")), le.Axis("token_b", list("xy"))), "", ["matrix"]),
    "odd": ((LAYERS, le.Axis("token", list("xy")), le.Axis("token_b", list("xyz"))), "", []),
    "rdm": ((LAYERS, *PAIR), "square", ["matrix", "points"]),
    "distances": ((LAYERS, *PAIR), "length", ["matrix", "points"]),
    "alike": ((LAYERS, *PAIR), "", ["matrix"]),  # no distances, so that no plane is made of them
    "flat": (PAIR, "square", ["matrix"]),
    "parts": ((le.Axis("part", list("pq")), *PAIR), "square", []),
}


def test_each_view_is_offered_what_it_can_draw(make_ask, tmp_path):
    random = np.random.default_rng(0)
    sink = ArraySink(tmp_path / "run" / "records.zarr", None)
    made = [
        le.Record(name, tuple(axis.name for axis in axes), distance=distance).of(
            random.normal(size=[len(axis.labels) for axis in axes]), *axes
        )
        for name, (axes, distance, _) in DRAWN.items()
    ]
    assert sink.write(0, made) == {}
    sink.close()
    ask = make_ask(tmp_path)
    measures = ask("run", run="run").json["measures"]
    assert {name: one["views"] for name, one in measures.items()} == {
        name: views for name, (*_, views) in DRAWN.items()
    }
    for name, (axes, _, views) in DRAWN.items():
        assert (ask("points", run="run", measure=name, first=0).status_code == 200) >= ("points" in views)
        assert ask("series", run="run", measure=name).status_code == 200, axes


def test_what_could_not_be_measured_at_the_newest_look_is_told(make_ask, tmp_path):
    sink = ArraySink(tmp_path / "run" / "records.zarr", None)
    whole, nothing = np.ones((3, 2)), np.full((3, 2), np.nan)
    gap = whole.copy()
    gap[1] = np.nan
    axes = (LAYERS, le.Axis("model", list("xy")))
    for step, parts in enumerate([(whole, nothing, gap), (gap, gap, nothing)]):
        made = [le.Measurement(name, part, axes, step) for name, part in zip("pqr", parts, strict=True)]
        sink.write(step, [*made, le.Measurement("single", np.full((), np.nan), (), step)])
    sink.close()
    measures = make_ask(tmp_path)("run", run="run").json["measures"]
    found = {name: (one["blank"], one["full"]) for name, one in measures.items()}
    assert found == {"p": ([1], True), "q": ([1], True), "r": ([0, 1, 2], False), "single": ([0], False)}


@pytest.mark.parametrize("lists", [["bd", "abcde", "e"], ["ab", "bc", "cd"], ["c"], []])
def test_layers_are_in_an_order_that_all_lists_agree_on(lists, make_ask, tmp_path):
    sink = ArraySink(tmp_path / "run" / "records.zarr", None)
    made = [
        le.Measurement(f"m{k}", np.ones(len(one)), (le.Axis("layer", list(one)),), 0) for k, one in enumerate(lists)
    ]
    sink.write(0, made)
    sink.close()
    assert make_ask(tmp_path)("run", run="run").json["layers"] == sorted({*"".join(lists)})


def test_stimuli_are_ordered_by_token(ask, records):
    run = ask("run", run=RUN).json
    of = [["dax", "wug"].index(token) for token in records.stimulus_token.values.tolist()]
    assert run["token_of"] == of
    assert run["order"] == sorted(range(len(of)), key=lambda k: (of[k], k))


def test_runs_are_in_the_order_of_their_numbers(make_ask, make_run, tmp_path):
    names = ["a/version_2", "a/version_10", "a2", "b1/version_0", "b01/version_0", "b9", "b10"]
    for name in reversed(names):
        make_run(tmp_path / name)
    found = [run["run"] for run in make_ask(tmp_path)("index").json["runs"]]
    assert found == ["a2", "a/version_2", "a/version_10", "b01/version_0", "b1/version_0", "b9", "b10"]


def test_a_run_without_looks_is_among_the_runs(make_ask, make_run, tmp_path):
    make_run(tmp_path / "first")
    ArraySink(tmp_path / "just_begun" / "records.zarr", None).close()
    make_run(tmp_path / "torn")  # in its first look: its arrays are there, and none is committed
    shutil.copy(tmp_path / "just_begun/records.zarr/zarr.json", tmp_path / "torn/records.zarr/zarr.json")
    ask = make_ask(tmp_path)
    runs = {run["run"]: (run["steps"], run["last"], run["trouble"]) for run in ask("index").json["runs"]}
    assert runs == {"first": (6, 50, None), "just_begun": (0, None, None), "torn": (0, None, None)}
    for name in ("just_begun", "torn"):
        run = ask("run", run=name).json
        assert (run["steps"], run["measures"], run["layers"], run["tokens"], run["order"]) == ([], {}, [], [], [])


def test_a_series_is_all_of_a_small_measure(ask, records):
    answer = ask("series", run=RUN, measure="bank_confidence")
    np.testing.assert_array_equal(_numbers(answer), records.bank_confidence.values)
    assert _steps(answer) == records.step.values.tolist()


def test_a_filters_series(ask, records):
    answer = ask("series", run=RUN, measure="filter_response", filter="2,1")
    np.testing.assert_array_equal(_numbers(answer), records.filter_response.values[:, 2, 1])
    crops = ask("series", run=RUN, measure="top_crop", filter="0,1")
    np.testing.assert_array_equal(_numbers(crops), records.top_crop.values[:, 0, 1])
    assert ask("series", run=RUN, measure="filter_response", filter="3,0").status_code == 404
    assert ask("series", run=RUN, measure="filter_response", filter="0,4").status_code == 404
    assert ask("series", run=RUN, measure="bank_confidence", filter="0,0").status_code == 404


def test_points_keep_distances_that_a_plane_has(make_ask, tmp_path):
    random = np.random.default_rng(0)
    flat = random.normal(size=(2, 8, 2))
    _write(tmp_path / "run", {step: np.linalg.norm(p[:, None] - p, axis=-1)[None] for step, p in enumerate(flat)})
    answer = make_ask(tmp_path)("points", run="run", measure="distances", first=0)
    found = _numbers(answer)
    assert found.shape == (2, 8, 2)
    for points, given in zip(found, flat, strict=True):
        expected = np.linalg.norm(given[:, None] - given, axis=-1)
        np.testing.assert_allclose(np.linalg.norm(points[:, None] - points, axis=-1), expected, atol=1e-5)


def _write(folder, looks, name="distances"):
    record = le.Record(name, ("layer", "stimulus", "stimulus_b"), distance="length")
    sink = ArraySink(folder / "records.zarr", None)
    for step, values in looks.items():
        layers = le.Axis("layer", [f"l{k}" for k in range(len(values))])
        ids = [f"s{k}" for k in range(values.shape[1])]
        axes = (layers, le.Axis("stimulus", ids), le.Axis("stimulus_b", ids))
        found = [] if values is None else [record.of(values.astype(np.float32), *axes)]
        sink.write(step, found)
    sink.close()


def test_what_was_not_measured_is_nan_and_255(make_ask, tmp_path):
    values = np.arange(9.0).reshape(1, 3, 3)
    values[0, 0, 1] = np.nan
    _write(tmp_path / "run", {0: values, 5: values + 1}, "rdm")
    ask = make_ask(tmp_path)
    assert np.isnan(_numbers(ask("values", run="run", measure="rdm", step=5))[0, 0, 1])
    frames = [_numbers(ask("frame", run="run", measure="rdm", step=step), np.uint8)[0] for step in (0, 5)]
    assert [int(frame[0, 1]) for frame in frames] == [255, 255]
    assert (frames[0][0, 0], frames[1][2, 2]) == (0, 254)


def test_a_measure_has_the_steps_at_which_it_was_taken(make_ask, tmp_path):
    sink = ArraySink(tmp_path / "run" / "records.zarr", None)
    layer = (le.Axis("layer", ["a", "b"]),)
    for step in range(6):
        found = [le.Measurement("often", np.full(2, step, np.float32), layer, step)]
        if step % 3 == 0:
            found.append(le.Measurement("seldom", np.full(2, step, np.float64), layer, step))
        sink.write(step, found)
    sink.close()
    ask = make_ask(tmp_path)
    assert ask("run", run="run").json["measures"]["seldom"]["steps"] == [0, 3]
    answer = ask("series", run="run", measure="seldom")
    assert (_numbers(answer).tolist(), _steps(answer)) == ([[0, 0], [3, 3]], [0, 3])
    refused = ask("values", run="run", measure="seldom", step=1)
    assert (refused.status_code, refused.json) == (404, {"error": "seldom was not taken at step 1."})
    assert ask("run", run="run").json["stimuli"] == []


def test_a_run_that_is_being_written_grows(make_ask, tmp_path):
    sink = ArraySink(tmp_path / "run" / "records.zarr", None)
    ask = make_ask(tmp_path)
    assert ask("index").json["runs"] == [{"run": "run", "steps": 0, "last": None, "trouble": None}]
    for step in (0, 4, 9):
        sink.write(step, [le.Measurement("m", np.array(step, np.float32), (), step)])
        assert ask("stamp", run="run").json == {"steps": {0: 1, 4: 2, 9: 3}[step], "last": step}
        assert ask("run", run="run").json["measures"]["m"]["range"] == [0, step]
        assert _steps(ask("series", run="run", measure="m"))[-1] == step
    sink.close()


def test_a_run_that_was_begun_anew_shows_nothing_of_the_one_before(make_ask, tmp_path):
    ask = make_ask(tmp_path)
    for number in (1, 2):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        _write(tmp_path / "run", {0: np.full((1, 3, 3), float(number))}, "rdm")
        ask("index")
        assert _numbers(ask("values", run="run", measure="rdm", step=0)).max() == number
        assert ask("values", run="run", measure="rdm", step=0).headers["X-Range"] == f"{number}.0,{number}.0"


def test_a_larger_measure_is_asked_for_in_parts(make_ask, tmp_path):
    _write(tmp_path / "run", {0: np.zeros((5, 1000, 1000))}, "rdm")
    ask = make_ask(tmp_path)
    assert ask("values", run="run", measure="rdm", step=0).status_code == 413
    assert _numbers(ask("values", run="run", measure="rdm", step=0, first=4)).shape == (1000, 1000)
    assert ask("series", run="run", measure="rdm").status_code == 413
    assert ask("run", run="run").json["measures"]["rdm"]["range"] is None


def test_events_come_with_the_measures_whose_lines_they_are_of(ask, tmp_path):
    rows = [
        {"group": "token", "name": "dax", "measure": "bank_confidence", "step": 10},
        {"group": "token", "name": "wug", "measure": "bank_confidence", "step": None},
        {"group": "layer", "name": "fc", "measure": "ridge_accuracy", "step": 3.5},
        {"group": "conjunction", "name": "disk", "measure": "part_auc", "step": 3},
        {"group": "part", "name": "disk", "measure": "part_filter_auc of conv1", "step": 4},
        {"group": "token"},
        {"group": [], "measure": {}, "step": 1},
        {"group": "token", "name": "fep", "measure": "bank_confidence", "step": None, "whether": "unresolved"},
        {"group": "token", "name": "toma", "measure": "bank_confidence", "step": None, "whether": ["never"]},
    ]
    (tmp_path / "runs" / RUN / "emergence.json").write_text(json.dumps({"events": rows}))
    measures = ask("run", run=RUN).json["measures"]
    assert measures["bank_confidence"]["events"] == [0, 7]
    assert measures["ridge_accuracy"]["events"] == [2]
    assert measures["part_auc"]["events"] == [3]
    assert measures["bank_accuracy"]["events"] == measures["bank_accuracy_mean"]["events"] == []


def test_the_timeline_and_the_pictures_of_stimuli(ask, tmp_path):
    folder = tmp_path / "runs" / RUN
    rows = [{"group": "token", "name": "dax", "step": 10, "low": 3, "high": 10, "p_value": float("nan")}]
    (folder / "emergence.json").write_text(json.dumps({"events": rows}))
    assert ask("run", run=RUN).json["events"] == [{**rows[0], "p_value": None}]
    assert ask("sprite", run=RUN).status_code == 404
    (folder / "stimuli.png").write_bytes(b"\x89PNG\r\n\x1a\nrest")
    (folder / "stimuli.json").write_text(json.dumps({"columns": 3, "width": 16, "height": 12}))
    assert ask("run", run=RUN).json["has_images"]
    picture = ask("sprite", run=RUN)
    assert (picture.content_type, picture.headers["X-Sprite"]) == ("image/png", "3,16,12")
    assert picture.data == b"\x89PNG\r\n\x1a\nrest"


def test_what_an_embedding_left_is_no_run(ask, make_run, tmp_path):
    make_run(tmp_path / "runs" / RUN / "embedding")
    make_run(tmp_path / "runs" / RUN / "replay_0")
    assert [run["run"] for run in ask("index").json["runs"]] == [RUN, f"{RUN}/replay_0"]


@pytest.mark.parametrize(
    ("spec", "folders"),
    [
        ("a:/one,b:/two", {"a": "/one", "b": "/two"}),
        ("/one", {"one": "/one"}),
        ("far:s3://bucket/runs", {"far": "s3://bucket/runs"}),
        ("s3://bucket/runs", {"s3://bucket/runs": "s3://bucket/runs"}),
    ],
)
def test_several_log_directories(spec, folders):
    assert find_folders("", spec) == folders
    assert find_folders("/one", spec) == {"": "/one"}


def test_runs_of_several_log_directories(make_ask, make_run, tmp_path):
    make_run(tmp_path / "one" / "run")
    make_run(tmp_path / "two")
    ask = make_ask("", f"a:{tmp_path}/one,b:{tmp_path}/two")
    assert [run["run"] for run in ask("index").json["runs"]] == ["a/run", "b"]
    assert ask("stamp", run="b").json == {"steps": 6, "last": 50}


def test_records_behind_a_url(make_ask, make_run, tmp_path):
    import fsspec

    make_run(tmp_path / "run")
    far = fsspec.filesystem("memory")
    far.put(str(tmp_path / "run"), "/board/far/run", recursive=True)
    try:
        ask = make_ask("memory://board")
        assert [run["run"] for run in ask("index").json["runs"]] == ["far/run"]
        assert len(ask("run", run="far/run").json["steps"]) == 6
        expected = le.open_run(tmp_path / "run").rdm.sel(step=50).values
        np.testing.assert_array_equal(_numbers(ask("values", run="far/run", measure="rdm", step=50)), expected)
        assert ask("sprite", run="far/run").status_code == 404
    finally:
        far.rm("/board", recursive=True)
