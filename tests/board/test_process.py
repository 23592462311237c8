"""TensorBoard's own process with the tab in it."""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from children import run_group, started

from lightning_emerge.board.loader import EmergeLoader

LISTING = "data/plugins_listing"


def _fetch(address: str, path: str) -> bytes:
    with urllib.request.urlopen(f"{address}/{path}", timeout=60) as answer:
        return answer.read()


@contextmanager
def _serving(command: list[str], env: dict[str, str], log: Path) -> Iterator[tuple[str, int]]:
    """Runs a TensorBoard at any free port until it says where it is; gives its address and its process."""
    with (
        log.open("w") as file,
        started([sys.executable, "-m", *command], env=env, stdout=file, stderr=file) as process,
    ):
        for _ in range(480):
            said = log.read_text().split()
            address = next((word for word in said if word.startswith("http://127.0.0.1:")), None)
            if address:
                break
            assert process.poll() is None, log.read_text()
            time.sleep(0.25)
        else:
            pytest.fail(log.read_text())
        yield address.split("#")[0].rstrip("/"), process.pid


@pytest.fixture
def runs(make_run: Callable[..., Path], tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    make_run(tmp_path / "runs" / "one")
    return tmp_path / "runs"


def test_it_serves_the_tab_behind_a_prefix_without_torch(runs, tab_env, tmp_path):
    flags = [f"--logdir={runs}", "--host=127.0.0.1", "--port=0", "--path_prefix=/deep/down"]
    with _serving(["tensorboard.main", *flags], tab_env, tmp_path / "log") as (address, process):
        assert address.endswith("/deep/down")
        tab = json.loads(_fetch(address, LISTING))["emerge"]
        assert tab["enabled"]
        assert tab["tab_name"] == "Emerge"
        assert tab["loading_mechanism"]["module_path"] == "/deep/down/data/plugin/emerge/index.js"
        base = f"{address}/data/plugin/emerge"
        assert b"export" in _fetch(base, "index.js")
        assert json.loads(_fetch(base, "index"))["runs"][0]["run"] == "one"
        assert json.loads(_fetch(base, "run?run=one"))["steps"][-1] == 50
        for route in ("frame", "values"):
            assert _fetch(base, f"{route}?run=one&measure=rdm&step=50&first=0")
        assert _fetch(base, "points?run=one&measure=distances&first=0")
        loaded = Path(f"/proc/{process}/maps")
        if loaded.exists():
            assert "numpy" in loaded.read_text()
            assert "torch" not in loaded.read_text()


def test_nothing_of_it_imports_torch():
    modules = ", ".join(f"lightning_emerge.board.{room}" for room in ("loader", "plugin", "serve", "launch"))
    heavy = "('torch', 'lightning', 'matplotlib', 'xarray')"
    code = f"import sys, {modules}; print([name for name in {heavy} if name in sys.modules])"
    found = run_group([sys.executable, "-c", code], check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("what", ["plugin", "numcodecs"])
def test_tensorboard_starts_where_the_tab_cannot_be_loaded(what, runs, tab_env, tmp_path):
    (tmp_path / "broken").mkdir()
    name = {"plugin": "lightning_emerge.board.plugin", "numcodecs": "numcodecs"}[what]
    (tmp_path / "broken" / "sitecustomize.py").write_text(f"import sys\nsys.modules[{name!r}] = None\n")
    paths = os.pathsep.join([str(tmp_path / "broken"), tab_env["PYTHONPATH"]])
    flags = [f"--logdir={runs}", "--host=127.0.0.1", "--port=0"]
    with _serving(["tensorboard.main", *flags], {**tab_env, "PYTHONPATH": paths}, tmp_path / "log") as (address, _):
        listing = json.loads(_fetch(address, LISTING))
    assert "emerge" not in listing
    assert "scalars" in listing


def test_a_process_ends_although_an_answer_hangs(runs, tab_env):
    code = f"""
import threading
from argparse import Namespace
from tensorboard.plugins.base_plugin import TBContext
from werkzeug.test import Client
from lightning_emerge.board import plugin, runs
runs.Runs.open = lambda *_: threading.Event().wait()
plugin._PATIENCE = 1.0
apps = plugin.EmergePlugin(TBContext(logdir={str(runs)!r}, flags=Namespace(logdir_spec=""))).get_plugin_apps()
print(Client(apps["/index"]).get("/data/plugin/emerge/index").json["runs"][0]["trouble"])
"""
    found = run_group([sys.executable, "-c", code], env=tab_env, check=True, timeout=60)
    assert found.stdout == ("Opening the records of this run takes more than 1 s and continues; reload to see them.\n")


def test_lightning_board_says_where_the_tab_is(runs, tab_env, tmp_path):
    command = ["lightning_emerge", "board", str(runs), "--port", "0"]
    with _serving(command, tab_env, tmp_path / "log") as (address, _):
        assert json.loads(_fetch(address, LISTING))["emerge"]["enabled"]
        deadline = time.time() + 20
        while "Emerge" not in (tmp_path / "log").read_text() and time.time() < deadline:
            time.sleep(0.1)
        assert f"Emerge    {address}/#emerge\n" in (tmp_path / "log").read_text()


@pytest.mark.parametrize("name", ["q::lr0.1", "file:x", "~"])
def test_a_folder_of_runs_is_taken_literally(name, make_run, tab_env, tmp_path, monkeypatch):
    (tmp_path / "here" / name).mkdir(parents=True)
    make_run(tmp_path / "here" / name / "one")
    monkeypatch.chdir(tmp_path / "here")
    with _serving(["lightning_emerge", "board", name, "--port", "0"], tab_env, tmp_path / "log") as (address, _):
        (run,) = json.loads(_fetch(address, "data/plugin/emerge/index"))["runs"]
        assert (run["run"], run["steps"]) == ("one", 6)
        assert json.loads(_fetch(address, "data/logdir"))["logdir"] == str(tmp_path / "here" / name)
    assert [path.name for path in (tmp_path / "here").iterdir()] == [name]


def test_every_step_is_kept_unless_the_user_says_how_many():
    flags = Namespace(samples_per_plugin={"images": 3})
    EmergeLoader().fix_flags(flags)
    kept = {"scalars": 1_000_000, "histograms": 1_000_000, "tensors": 1_000_000}
    assert flags.samples_per_plugin == {"images": 3, **kept}
    EmergeLoader().fix_flags(Namespace())  # a program that has no such flag
