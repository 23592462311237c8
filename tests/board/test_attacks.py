"""What is refused: ways out of the log directory, queries that are none, and stores that lie."""

from __future__ import annotations

import json
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numcodecs.zstd import Zstd

import lightning_emerge as le
from lightning_emerge.sinks.arrays import ArraySink

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


def _lie(tmp_path: Path, change) -> None:
    place = tmp_path / "runs" / RUN / "records.zarr" / "zarr.json"
    root = json.loads(place.read_text())
    members = root["consolidated_metadata"]["metadata"]
    root = change(members) or root
    place.write_text(json.dumps(root))


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
