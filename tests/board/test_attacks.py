"""What is refused: ways out of the log directory, queries that are none, and stores that lie."""

from __future__ import annotations

import copy
import json
import os
import re
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numcodecs.zstd import Zstd

import lightning_emerge as le
from lightning_emerge.board.runs import Runs
from lightning_emerge.board.store import Records
from lightning_emerge.store.format import seal
from lightning_emerge.store.write import ArraySink

RUN = "first/version_0"
SECRET = b"what nobody may read"
OUT = [
    "..",
    "../..",
    "../../secret",
    "/etc/passwd",
    "....//....//etc/passwd",
    "..\\..\\secret",
    "first/../first/version_0",
]
OUT += [
    "%2e%2e%2fsecret",
    "file:///etc/passwd",
    "first/version_0/records.zarr",
    "first",
    "",
    "\x00",
    "first/version_0\x00",
]
ROUTES = {
    "run": {"run": RUN},
    "stamp": {"run": RUN},
    "sprite": {"run": RUN},
    "values": {"run": RUN, "measure": "rdm", "step": "0", "first": "0"},
    "frame": {"run": RUN, "measure": "rdm", "step": "0", "first": "0"},
    "series": {"run": RUN, "measure": "filter_response", "filter": "0,0"},
    "points": {"run": RUN, "measure": "distances", "first": "0"},
}


def _refused(answer, *statuses: int) -> str:
    assert answer.status_code in statuses, (answer.status_code, answer.data[:200])
    assert answer.content_type == "application/json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert set(answer.json) == {"error"}
    assert answer.json["error"].endswith(".")
    return answer.json["error"]


@pytest.mark.parametrize("route", ROUTES)
def test_no_parameter_leads_out(route, ask, tmp_path):
    (tmp_path / "secret").write_bytes(SECRET)
    if route != "sprite":  # this run has none
        assert ask(route, **ROUTES[route]).status_code == 200
    for parameter in ROUTES[route]:
        for way in OUT:
            _refused(ask(route, **{**ROUTES[route], parameter: way}), 400, 404)


@pytest.mark.parametrize(
    "way", [*OUT, "__init__.py", "../plugin.py", "..%2fplugin.py", "web/index.js", "./index.js", "//index.js"]
)
def test_only_the_tabs_own_files_are_sent(way, ask):
    _refused(ask(way.replace("%", "%25")), 404)
    _refused(ask(way), 404)


def _link(place: Path, target: Path) -> None:
    place.unlink()
    place.symlink_to(target)


@pytest.mark.parametrize("name", ["zarr.json", "step/c.1", "token/c.0", "rdm/c.0.0.0.0"])
def test_links_in_a_store_that_lead_out_are_refused(name, ask, tmp_path):
    place = tmp_path / "runs" / RUN / "records.zarr" / name
    (tmp_path / "secret").write_bytes(place.read_bytes())
    _link(place, tmp_path / "secret")
    run, values = ask("run", run=RUN), ask("values", **ROUTES["values"])
    said = _refused(run if run.status_code != 200 else values, 422)
    assert "link that leads out" in said
    assert str(tmp_path) not in said


@pytest.mark.parametrize("name", ["stimuli.png", "stimuli.json", "emergence.json"])
def test_links_beside_a_store_that_lead_out_are_refused(name, ask, tmp_path):
    folder = tmp_path / "runs" / RUN
    content = {
        "stimuli.png": b"\x89PNG\r\n\x1a\n" + SECRET,
        "stimuli.json": b'{"columns": 1, "width": 1, "height": 1}',
        "emergence.json": b'{"events": [{"name": "secret"}]}',
    }
    for file, data in content.items():
        (folder / file).write_bytes(data)
    assert ask("sprite", run=RUN).status_code == 200
    (tmp_path / "secret").write_bytes(content[name])
    _link(folder / name, tmp_path / "secret")
    _refused(ask("run" if name == "emergence.json" else "sprite", run=RUN), 422)


def test_links_in_the_log_directory_are_followed_and_those_further_down_are_named(make_ask, make_run, tmp_path):
    make_run(tmp_path / "elsewhere" / "version_0")
    log = tmp_path / "runs"
    (log / "half").mkdir(parents=True)
    (log / "study").mkdir()
    (log / "whole").symlink_to(tmp_path / "elsewhere")
    (log / "one").symlink_to(tmp_path / "elsewhere" / "version_0")
    (log / "half" / "records.zarr").symlink_to(tmp_path / "elsewhere" / "version_0" / "records.zarr")
    (log / "study" / "deep").symlink_to(tmp_path / "elsewhere" / "version_0")
    (log / "loop").symlink_to(log)
    (log / "up").symlink_to(tmp_path)
    (log / "broken").symlink_to(tmp_path / "nowhere")
    ask = make_ask(log)
    runs = {run["run"]: run for run in ask("index").json["runs"]}
    assert {name for name, run in runs.items() if run["steps"] == 6} == {"one", "whole/version_0"}
    for name in ("half", "study/deep"):
        assert "link that leads out" in runs.pop(name)["trouble"]
        _refused(ask("run", run=name), 422)
    assert set(runs) == {"one", "whole/version_0"}
    assert ask("run", run="whole/version_0").json["steps"][-1] == 50
    for name in ("whole", "whole/../../secret", "one/records.zarr", "loop/half"):
        _refused(ask("run", run=name), 404)


def test_a_link_out_of_a_folder_that_a_link_leads_to_is_refused(make_ask, make_run, tmp_path):
    make_run(tmp_path / "elsewhere" / "run")
    chunk = tmp_path / "elsewhere" / "run" / "records.zarr" / "rdm" / "c.0.0.0.0"
    (tmp_path / "secret").write_bytes(chunk.read_bytes())
    _link(chunk, tmp_path / "secret")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "linked").symlink_to(tmp_path / "elsewhere")
    ask = make_ask(tmp_path / "runs")
    assert ask("run", run="linked/run").status_code == 200
    _refused(ask("values", **{**ROUTES["values"], "run": "linked/run"}), 422)


def test_a_link_that_stays_inside_is_followed(ask, tmp_path):
    place = tmp_path / "runs" / RUN / "records.zarr" / "rdm" / "c.0.0.0.0"
    place.rename(tmp_path / "runs" / "moved")
    place.symlink_to(tmp_path / "runs" / "moved")
    assert ask("values", **ROUTES["values"]).status_code == 200


@pytest.mark.parametrize(
    "name", ["stimuli.json", "emergence.json", "records.zarr/zarr.json", "records.zarr/rdm/c.0.0.0.0"]
)
def test_a_pipe_holds_nothing_up(name, ask, tmp_path):
    place = tmp_path / "runs" / RUN / name
    place.unlink(missing_ok=True)
    (tmp_path / "runs" / RUN / "stimuli.png").touch()
    os.mkfifo(place)
    answers = [ask("run", run=RUN), ask("sprite", run=RUN), ask("values", **ROUTES["values"])]
    assert any("no plain file" in answer.text for answer in answers)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "run",
        "run=",
        f"run={RUN}&run={RUN}",
        f"run={RUN}&other=1",
        f"run={RUN}&__proto__=1",
        "run=" + "x" * 5000,
        "run=" + "x" * 2000,
        "&".join(f"run=x{k}" for k in range(300)),
        "run=%ff%fe",
        "run[]=x",
        "=&=&=",
    ],
)
def test_queries_that_are_none(query, ask):
    for route in ROUTES:
        _refused(ask(route, written=query), 400, 404)


@pytest.mark.parametrize(
    "number", ["", "-1", "+1", "1.0", "1e3", "0x1", " 1", "1_0", "٣", "9" * 16, "NaN", "true", "1;2", "null"]
)
@pytest.mark.parametrize("name", ["step", "first"])
def test_numbers_that_are_none(name, number, ask):
    _refused(ask("values", **{**ROUTES["values"], name: number}), 400)


@pytest.mark.parametrize("places", ["", "1", "1,", ",", "1,2,3", "-1,0", "a,b", "0,0,"])
def test_filters_that_are_none(places, ask):
    _refused(ask("series", **{**ROUTES["series"], "filter": places}), 400)


def test_what_there_is_not(ask):
    for name, value in {"run": "second", "measure": "nothing", "step": "2", "first": "3"}.items():
        _refused(ask("values", **{**ROUTES["values"], name: value}), 404)
    _refused(ask("values", **{**ROUTES["values"], "measure": "step"}), 404)
    _refused(ask("values", **{**ROUTES["values"], "measure": "stimulus_token"}), 404)
    _refused(ask("frame", run=RUN, measure="bank_accuracy_mean", step="0", first="0"), 404)
    _refused(ask("points", run=RUN, measure="bank_confidence"), 400)
    _refused(ask("index", run=RUN), 400)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_nothing_but_reading(method, ask):
    _refused(ask("run", method=method, run=RUN), 405)


def _rewrite(run: Path, change: Callable[[dict[str, Any]], Any], *, sealed: bool = True) -> None:
    """Changes the metadata of a run's store, as one would who knows of their checksum."""
    place = run / "records.zarr" / "zarr.json"
    root = json.loads(place.read_text())
    root = change(root) or root
    sealed = sealed and isinstance(root, dict) and isinstance(root.get("attributes"), dict)
    place.write_bytes(seal(root) if sealed else json.dumps(root).encode())


def _lie(tmp_path: Path, change) -> None:
    _rewrite(tmp_path / "runs" / RUN, lambda root: change(root["consolidated_metadata"]["metadata"]))


def _shape(name: str, shape: list, chunk: list | None = None):
    def change(members) -> None:
        members[name]["shape"] = shape
        members[name]["chunk_grid"]["configuration"]["chunk_shape"] = chunk or [1, *shape[1:]]

    return change


def _set(name: str, key: str, value):
    return lambda members: members[name].update({key: value})


def _both(*changes):
    def change(members) -> None:
        for one in changes:
            one(members)

    return change


def _rename(new: str):
    return lambda members: members.update({new: members.pop("rdm")})


LIES = {
    "more rows than a machine has": _shape("rdm", [6, 3, 10**6, 10**6]),
    "more rows than labels": _shape("rdm", [6, 3, 7, 7]),
    "an enormous axis": _shape("token", [10**12], [10**12]),
    "enormous axes that agree": _both(_shape("token", [10**9], [10**9]), _shape("bank_accuracy", [6, 10**9])),
    "more steps than any run": _shape("step", [10**12]),
    "more steps than there are": _shape("rdm", [60, 3, 6, 6]),
    "a negative size": _shape("rdm", [6, 3, -6, 6]),
    "a fraction": _shape("rdm", [6, 3, 6.0, 6]),
    "no number": _shape("rdm", [6, 3, "6", 6]),
    "true": _shape("rdm", [6, True, 6, 6]),
    "no shape": _set("rdm", "shape", []),
    "null": _set("rdm", "shape", None),
    "fewer names than axes": _set("rdm", "dimension_names", ["step", "layer"]),
    "nameless axes": _set("rdm", "dimension_names", None),
    "chunks of another size": _shape("rdm", [6, 3, 6, 6], [6, 3, 6, 6]),
    "chunks of no size": _shape("rdm", [6, 3, 6, 6], [1, 3, 6, 0]),
    "another type": _set("rdm", "data_type", "complex128"),
    "whole numbers": _set("rdm", "data_type", "int64"),
    "a structured type": _set("rdm", "data_type", {"name": "structured"}),
    "pickled objects": _set("rdm", "codecs", [{"name": "pickle"}]),
    "another codec": _set("rdm", "codecs", [{"name": "bytes"}, {"name": "blosc"}]),
    "no codec": _set("rdm", "codecs", []),
    "big-endian numbers": _set(
        "rdm", "codecs", [{"name": "bytes", "configuration": {"endian": "big"}}, {"name": "zstd"}]
    ),
    "chunks elsewhere": _set("rdm", "chunk_key_encoding", {"name": "default", "configuration": {"separator": "/../"}}),
    "chunks named otherwise": _set("rdm", "chunk_key_encoding", {"name": "v2", "configuration": {"separator": "."}}),
    "a name that climbs": _rename("../../../secret"),
    "a name of a folder above": _rename(".."),
    "an absolute name": _rename("/etc/passwd"),
    "an empty name": _rename(""),
    "a name with a zero": _rename("rdm\x00"),
    "no steps": lambda members: members.pop("step") and None,
    "no members": lambda members: members.clear(),
    "no metadata": lambda members: {"attributes": {"package": "lightning_emerge"}},
    "another package": lambda members: {"attributes": {"package": "other"}, "consolidated_metadata": {"metadata": {}}},
    "members that are none": lambda members: members.update({"rdm": 3}),
    "a list": lambda members: [1, 2, 3],
}


@pytest.mark.parametrize("lie", LIES)
def test_a_store_that_lies_is_refused_before_memory_is_set_aside(lie, ask, tmp_path):
    (tmp_path / "secret").write_bytes(SECRET)
    _lie(tmp_path, LIES[lie])
    tracemalloc.start()
    try:
        (run,) = ask("index").json["runs"]
        answers = [ask(route, **query) for route, query in ROUTES.items()]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    refused = [answer for answer in answers if answer.status_code != 200]
    assert refused
    for answer in refused:
        _refused(answer, 404, 422)
    assert run["trouble"]
    assert SECRET not in b"".join(answer.data for answer in answers)
    assert peak < 20 << 20


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000],
    ids=["none", "cut", "list", "null", "bytes", "deep", "deeper"],
)
def test_metadata_that_are_none(raw, ask, tmp_path):
    (tmp_path / "runs" / RUN / "records.zarr" / "zarr.json").write_bytes(raw)
    assert ask("index").json["runs"][0]["trouble"]
    _refused(ask("run", run=RUN), 422)


def test_metadata_that_are_too_large(ask, tmp_path):
    with open(tmp_path / "runs" / RUN / "records.zarr" / "zarr.json", "r+b") as file:
        file.truncate(1 << 32)  # takes no room on the disk
    assert "bytes" in ask("index").json["runs"][0]["trouble"]


def _frame(size: int) -> bytes:
    """The beginning of a Zstandard frame that says that it holds so many bytes."""
    return b"\x28\xb5\x2f\xfd" + bytes([0b11100000]) + struct.pack("<Q", size) + b"\x01\x00\x00"


CHUNKS = {
    "fewer numbers": Zstd().encode(np.zeros(107, "<f4").tobytes()),
    "more numbers": Zstd().encode(np.zeros(109, "<f4").tobytes()),
    "a bomb": Zstd().encode(bytes(1 << 26)),
    "a frame that promises everything": _frame(2**63),
    "a frame that promises the right size": _frame(3 * 6 * 6 * 4),
    "a frame without a size": b"\x28\xb5\x2f\xfd\x00\x58" + bytes(20),
    "no frame": b"no frame at all, but text",
    "nothing": b"",
    "half": Zstd().encode(np.random.default_rng(0).normal(size=108).astype("<f4").tobytes())[:-9],
    "two frames": Zstd().encode(bytes(432)) * 2,
}


@pytest.mark.parametrize("kind", CHUNKS)
def test_chunks_that_lie(kind, ask, tmp_path):
    (tmp_path / "runs" / RUN / "records.zarr" / "rdm" / "c.0.0.0.0").write_bytes(CHUNKS[kind])
    tracemalloc.start()
    try:
        answer = ask("values", **ROUTES["values"])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    if kind == "two frames" and answer.status_code == 200:
        assert answer.data == bytes(144)  # the decoder takes the first
    else:
        _refused(answer, 422)
    assert peak < 20 << 20
    assert ask("index").json["runs"][0]["trouble"] is None
    assert ask("values", run=RUN, measure="bank_accuracy", step="0").status_code == 200


LABELS = {
    "more than it says": struct.pack("<I", 2**32 - 1),
    "fewer": struct.pack("<I", 1) + struct.pack("<I", 1) + b"a",
    "one that is longer than the file": struct.pack("<I", 2) + struct.pack("<I", 2**31) + b"a",
    "cut off": struct.pack("<I", 2) + struct.pack("<I", 1) + b"a" + b"\x01",
    "none": b"",
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_that_lie(kind, ask, tmp_path):
    (tmp_path / "runs" / RUN / "records.zarr" / "token" / "c.0").write_bytes(
        Zstd().encode(LABELS[kind]) if LABELS[kind] else b""
    )
    _refused(ask("run", run=RUN), 422)


def test_steps_that_do_not_ascend(ask, tmp_path):
    steps = tmp_path / "runs" / RUN / "records.zarr" / "step"
    (steps / "c.1").write_bytes((steps / "c.4").read_bytes())
    _refused(ask("run", run=RUN), 422)


def test_script_in_names_stays_text(make_ask, tmp_path):
    evil = "<script>alert(1)</script>"
    folder = tmp_path / "<img src=x onerror=alert(1)>"
    sink = ArraySink(folder / "records.zarr", None)
    axes = (le.Axis("layer", [evil, "b"]), le.Axis("token", [evil, "'\"><svg onload=alert(1)>"]))
    name = "m<script>alert(2)<script>"
    sink.write(0, [le.Measurement(name, np.zeros((2, 2), np.float32), axes, 0, about=evil, unit=evil)])
    sink.close()
    ask = make_ask(tmp_path)
    answer = ask("run", run=folder.name)
    assert answer.content_type == "application/json"
    assert answer.json["tokens"][0] == evil
    assert answer.json["measures"][name]["axes"][0]["labels"][0] == evil
    _refused(ask("run", run=evil), 404)
    assert evil not in ask("values", run=folder.name, measure=evil, step="0").text  # nothing is echoed
    header = ask("values", run=folder.name, measure=name, step="0")
    assert not any("script" in value for value in header.headers.values())


def test_our_own_defects_are_said_in_json_and_kept_in_the_log(ask, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("a secret of ours")

    monkeypatch.setattr("lightning_emerge.board.views.describe", fail)
    answer = ask("run", run=RUN)
    assert answer.status_code == 500
    assert "secret" not in answer.text


def _claim(looks: int):
    """Has every array say that there are so many looks."""

    def change(root: dict[str, Any]) -> None:
        for member in root["consolidated_metadata"]["metadata"].values():
            if member["dimension_names"][0] == "step":
                member["shape"][0] = looks

    return change


@pytest.mark.parametrize("looks", [7, 1_000_000])
def test_looks_that_are_claimed_and_not_there_cost_one_listing(looks, ask, make_run, tmp_path, monkeypatch):
    make_run(tmp_path / "runs" / "honest")
    _rewrite(tmp_path / "runs" / RUN, _claim(looks))
    asked: list[object] = []
    stat = os.stat
    monkeypatch.setattr(os, "stat", lambda *given, **more: asked.append(given) or stat(*given, **more))
    runs = {run["run"]: run for run in ask("index").json["runs"]}
    answers = [ask(route, **query) for route, query in ROUTES.items() if route != "sprite"]
    assert len(asked) < 1000
    assert f"{looks} looks" in runs[RUN]["trouble"]
    assert runs["honest"] == {"run": "honest", "steps": 6, "last": 50, "trouble": None}
    for answer in answers:
        _refused(answer, 422)


@pytest.mark.parametrize("name", ["c.1", "c.5"])
def test_a_step_that_is_missing_is_not_made_up(name, ask, tmp_path):
    (tmp_path / "runs" / RUN / "records.zarr" / "step" / name).unlink()
    assert "steps of some are missing" in ask("index").json["runs"][0]["trouble"]
    _refused(ask("run", run=RUN), 422)


def test_more_arrays_than_any_run_has_are_refused(ask, tmp_path):
    def change(members: dict[str, Any]) -> None:
        members.update({f"m{k}": members["bank_accuracy_mean"] for k in range(5000)})

    _lie(tmp_path, change)
    (run,) = ask("index").json["runs"]
    assert "arrays, of 2000 at most" in run["trouble"]


def test_a_run_that_takes_for_ever_holds_no_other_up(ask, make_run, tmp_path, monkeypatch):
    for number in range(3):
        make_run(tmp_path / "runs" / f"slow{number}")
    make_run(tmp_path / "runs" / "z")
    over, opened = threading.Event(), Records.__init__

    def open_slowly(self: Records, files: Any, path: str, *rest: Any) -> None:
        if path.startswith("slow"):
            over.wait(60)
        opened(self, files, path, *rest)

    monkeypatch.setattr(Records, "__init__", open_slowly)
    monkeypatch.setattr("lightning_emerge.board.plugin._PATIENCE", 1.0)
    waiting = [threading.Thread(target=ask, args=(route,), kwargs={"run": "slow0"}) for route in ("run", "stamp")]
    try:
        for thread in waiting:
            thread.start()
        for _ in range(2):  # the lanes of the slow runs do not fill up either
            runs = {run["run"]: run for run in ask("index").json["runs"]}
            assert [runs[name]["steps"] for name in (RUN, "z")] == [6, 6]
            assert all("takes more than 1 s and continues" in runs[f"slow{k}"]["trouble"] for k in range(3))
            assert ask("run", run="z").status_code == ask("stamp", run=RUN).status_code == 200
    finally:
        over.set()
        for thread in waiting:
            thread.join(60)
    deadline = time.monotonic() + 60
    while any(run["trouble"] for run in ask("index").json["runs"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_hung_runs_take_no_threads_from_others_and_every_answer_has_a_limit(ask, make_run, tmp_path, monkeypatch):
    slow = [f"slow{number}" for number in range(5)]
    for name in slow:
        make_run(tmp_path / "runs" / name)
    assert len(ask("index").json["runs"]) == 6
    over, opened = threading.Event(), Runs.open
    monkeypatch.setattr(
        Runs, "open", lambda runs, name: over.wait(120) and None if name in slow else opened(runs, name)
    )
    monkeypatch.setattr("lightning_emerge.board.plugin._PATIENCE", 0.5)
    monkeypatch.setattr("lightning_emerge.board.plugin._QUICK_LIMIT", 4.0)
    monkeypatch.setattr("lightning_emerge.board.plugin._SLOW_LIMIT", 5.0)
    said: list[str] = []

    def hang(route: str, name: str) -> None:
        said.append(_refused(ask(route, run=name), 503))

    before = threading.active_count()
    with ThreadPoolExecutor(24, "browser") as browsers:
        try:
            asked = [browsers.submit(hang, route, name) for name in slow for route in ("run", "stamp") * 2]
            time.sleep(0.2)
            answers = [browsers.submit(ask, route, run=RUN) for route in ("run", "stamp")]
            assert [answer.result(3.5).status_code for answer in answers] == [200, 200]
            for one in asked:
                one.result(60)
            limits = {sentence.split(";")[0] for sentence in said}
            assert limits == {"An answer is given within 4 s", "An answer is given within 5 s"}
            assert all(sentence.endswith("Reload to ask again.") for sentence in said)
            others = [thread for thread in threading.enumerate() if not thread.name.startswith("browser")]
            assert len(others) - before <= 2 * len(slow) + 2  # the runs that hang have got no third thread
            assert not any(ask.plugin._lanes._work.values())  # what nobody waits for is forgotten
        finally:
            over.set()


def test_a_log_directory_that_does_not_answer_is_named_and_shown_when_it_does(ask, monkeypatch):
    over, scan = threading.Event(), Runs.scan
    monkeypatch.setattr(Runs, "scan", lambda runs: over.wait(60) and scan(runs))
    monkeypatch.setattr("lightning_emerge.board.plugin._QUICK_LIMIT", 0.3)
    monkeypatch.setattr("lightning_emerge.board.plugin._PATIENCE", 0.3)
    try:
        assert not ask.plugin.is_active()
        for _ in range(2):
            assert "the log directory takes longer" in _refused(ask("index"), 503)
    finally:
        over.set()
    monkeypatch.setattr("lightning_emerge.board.plugin._QUICK_LIMIT", 60.0)
    assert [run["run"] for run in ask("index").json["runs"]] == [RUN]


def _lengthen(size: int, *, labelled: bool):
    """Has three measures that were never taken with long axes."""

    def change(root: dict[str, Any]) -> None:
        members = root["consolidated_metadata"]["metadata"]
        for name in ("a", "b", "c"):
            axis = f"long_{name}"
            members[name] = copy.deepcopy(members["gradient_norm"])
            members[name].update(shape=[6, size], dimension_names=["step", axis])
            members[name]["chunk_grid"]["configuration"]["chunk_shape"] = [1, size]
            if labelled:
                members[axis] = copy.deepcopy(members["step"])
                members[axis].update(shape=[size], dimension_names=[axis])
                members[axis]["chunk_grid"]["configuration"]["chunk_shape"] = [size]
            root["attributes"].setdefault("taken", {})[name] = []

    return change


@pytest.mark.parametrize("labelled", [False, True])
@pytest.mark.parametrize("size", [1_000_000, 1_000_001])
def test_long_axes_cost_no_memory(size, labelled, ask, tmp_path):
    store = tmp_path / "runs" / RUN / "records.zarr"
    _rewrite(store.parent, _lengthen(size, labelled=labelled))
    raw = np.arange(size).tobytes()
    for name in "abc" if labelled else "":
        (store / f"long_{name}").mkdir()
        (store / f"long_{name}" / "c.0").write_bytes(Zstd().encode(raw))
    tracemalloc.start()
    try:
        answer = ask("run", run=RUN)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 << 20
    if size > 1_000_000 and not labelled:
        assert re.search("long_[abc] has 1000001 positions without labels, of 1000000 at most", _refused(answer, 422))
    else:
        assert answer.json["measures"]["b"]["axes"][0]["labels"] == {"count": size}


def test_more_labels_than_any_run_has_are_refused(ask, tmp_path):
    store = tmp_path / "runs" / RUN / "records.zarr"
    _rewrite(store.parent, _lengthen(400_000, labelled=True))
    for name in "abc":
        (store / f"long_{name}").mkdir()
        (store / f"long_{name}" / "c.0").write_bytes(Zstd().encode(np.zeros(400_000, np.int64).tobytes()))
    assert "more than 1000000 labels" in _refused(ask("run", run=RUN), 422)


def test_labels_that_are_sent_with_many_measures_are_refused(ask, monkeypatch):
    monkeypatch.setattr("lightning_emerge.board.views._MOST_TOLD", 20)
    assert "more than 20 labels" in _refused(ask("run", run=RUN), 422)


# What a store says of the looks at which each measure was taken.


def _tell(run: Path, **taken: Any) -> None:
    _rewrite(run, lambda root: root["attributes"].update({"taken": taken}))


def test_a_chunk_that_was_taken_and_is_missing_is_named_and_the_others_are_shown(ask, tmp_path):
    run = tmp_path / "runs" / RUN
    _tell(run, gradient_norm=[[0, 6, 1]], rdm=[[0, 6, 1]], distances=[[0, 6, 1]])
    for chunk in ("gradient_norm/c.3.0", "rdm/c.0.0.0.0", "distances/c.2.0.0.0", "ridge_accuracy/c.4.0"):
        (run / "records.zarr" / chunk).unlink()
    found = ask("run", run=RUN).json["measures"]
    assert found["gradient_norm"]["steps"] == [0, 1, 3, 10, 20, 50]
    assert found["ridge_accuracy"]["steps"] == [0, 1, 3, 10, 50]  # of which the store says nothing
    assert "gradient_norm/c.3.0 is missing" in _refused(ask("values", run=RUN, measure="gradient_norm", step="10"), 422)
    assert "is missing" in _refused(ask("frame", **ROUTES["values"]), 422)
    curve = ask("series", run=RUN, measure="gradient_norm")
    assert (curve.headers["X-Steps"], curve.headers["X-Damaged"]) == ("0,1,3,20,50", "10")
    points = ask("points", **ROUTES["points"])
    assert (points.headers["X-Steps"], points.headers["X-Damaged"]) == ("0,1,10,20,50", "3")
    assert "X-Damaged" not in ask("series", run=RUN, measure="bank_accuracy").headers


def test_a_measure_of_which_nothing_is_left_is_refused(ask, tmp_path):
    run = tmp_path / "runs" / RUN
    _tell(run, gradient_norm=[[0, 6, 5]])
    for chunk in (run / "records.zarr" / "gradient_norm").glob("c.*"):
        chunk.unlink()
    assert ask("run", run=RUN).json["measures"]["gradient_norm"]["steps"] == [0, 50]
    assert "is missing" in _refused(ask("series", run=RUN, measure="gradient_norm"), 422)


def test_a_chunk_that_is_torn_costs_its_step_alone(ask, tmp_path):
    (tmp_path / "runs" / RUN / "records.zarr" / "gradient_norm" / "c.2.0").write_bytes(b"torn")
    measures = ask("run", run=RUN).json["measures"]
    assert measures["gradient_norm"]["range"]
    curve = ask("series", run=RUN, measure="gradient_norm")
    assert (curve.headers["X-Steps"], curve.headers["X-Damaged"]) == ("0,1,10,20,50", "3")


def test_a_chunk_that_nobody_committed_is_no_record(ask, tmp_path):
    _tell(tmp_path / "runs" / RUN, gradient_norm=[[0, 2, 1], [3, 6, 2]], rdm=[])
    measures = ask("run", run=RUN).json["measures"]
    assert measures["gradient_norm"]["steps"] == [0, 1, 10, 50]
    assert measures["rdm"]["steps"] == []
    _refused(ask("values", run=RUN, measure="gradient_norm", step="3"), 404)
    _refused(ask("values", **ROUTES["values"]), 404)


def test_looks_at_which_nothing_could_be_measured_were_taken(make_ask, tmp_path):
    sink = ArraySink(tmp_path / "run" / "records.zarr", None)
    for step in range(3):
        values = np.full(2, np.nan if step == 1 else 0, np.float32)
        sink.write(step, [le.Measurement("m", values, (le.Axis("k", ["a", "b"]),), step)])
    sink.close()
    store = tmp_path / "run" / "records.zarr"
    (store / "m" / "c.1.0").write_bytes(Zstd(checksum=True).encode(np.full(2, np.nan, "<f4").tobytes()))
    _tell(tmp_path / "run", m=[[0, 3, 1]])
    ask = make_ask(tmp_path)
    assert ask("run", run="run").json["measures"]["m"]["steps"] == [0, 1, 2]
    assert np.isnan(np.frombuffer(ask("values", run="run", measure="m", step="1").data, "<f4")).all()


@pytest.mark.parametrize("name", ["token/c.0", "stimulus_token/c.0", "filter/c.0"])
def test_labels_that_are_missing_are_not_made_up(name, ask, tmp_path):
    run = tmp_path / "runs" / RUN
    (run / "records.zarr" / name).unlink()
    assert f"{name} is missing" in _refused(ask("run", run=RUN), 422)
    attributes = {"package": "lightning_emerge", "coordinates": ""}
    _rewrite(run, lambda root: root.update(attributes=attributes), sealed=False)
    assert ask("run", run=RUN).status_code == 200  # version 0.1.0 wrote no labels that were all empty


TAKEN = {
    "no object": [[0, 6, 1]],
    "no list": {"rdm": 3},
    "a number": {"rdm": [3]},
    "two numbers": {"rdm": [[0, 6]]},
    "text": {"rdm": [["0", "6", "1"]]},
    "true": {"rdm": [[False, 6, True]]},
    "fractions": {"rdm": [[0, 6.0, 1]]},
    "a negative look": {"rdm": [[-1, 6, 1]]},
    "backwards": {"rdm": [[5, 0, -1]]},
    "no stride": {"rdm": [[0, 6, 0]]},
    "none": {"rdm": [[3, 3, 1]]},
    "looks beyond the last": {"rdm": [[0, 7, 1]]},
    "an enormous number of looks": {"rdm": [[0, 10**30, 1]]},
    "the same look too often": {"rdm": [[0, 6, 1], [5, 6, 1]]},
    "more ranges than looks": {"rdm": [[0, 1, 1]] * 1000},
}


@pytest.mark.parametrize("lie", TAKEN)
def test_lies_about_when_a_measure_was_taken(lie, ask, tmp_path):
    _rewrite(tmp_path / "runs" / RUN, lambda root: root["attributes"].update({"taken": TAKEN[lie]}))
    (run,) = ask("index").json["runs"]
    assert run["trouble"]
    _refused(ask("run", run=RUN), 422)


def test_a_bit_that_has_flipped_in_a_chunk_with_a_checksum_is_never_shown(ask, tmp_path):
    values = np.random.default_rng(0).normal(size=(3, 6, 6)).astype("<f4")
    chunk = tmp_path / "runs" / RUN / "records.zarr" / "rdm" / "c.0.0.0.0"
    _lie(tmp_path, _set("rdm", "codecs", [{"name": "bytes"}, {"name": "zstd", "configuration": {"checksum": True}}]))
    whole = Zstd(level=1, checksum=True).encode(values.tobytes())
    chunk.write_bytes(whole)
    query = {"run": RUN, "measure": "rdm", "step": "0"}
    assert ask("values", **query).data == values.tobytes()
    refused = 0
    for bit in [*range(96), *np.random.default_rng(1).choice(8 * len(whole), 200, replace=False).tolist()]:
        torn = bytearray(whole)
        torn[bit // 8] ^= 1 << bit % 8
        chunk.write_bytes(torn)
        answer = _read_anew(ask, tmp_path, query)
        if answer.status_code != 200:
            _refused(answer, 422)
            refused += 1
        else:
            assert answer.data == values.tobytes()
    assert refused > 280


def _read_anew(ask, tmp_path: Path, query: dict[str, str]):
    """Asks as after another commit, so that nothing is taken from before."""
    place = tmp_path / "runs" / RUN / "records.zarr" / "zarr.json"
    os.utime(place, ns=(0, place.stat().st_mtime_ns + 1_000_000))
    return ask("values", **query)
