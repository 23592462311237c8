"""Records are read whole, by whoever reads them and whenever: beside a writer, after a kill, where a chunk is torn."""

from __future__ import annotations

import json
import shutil
import threading
import tracemalloc
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from stored import committed, ratio, rdm, read, size, without_the_groups_copy

from lightning_emerge.store.folder import Folder
from lightning_emerge.store.format import seal
from lightning_emerge.store.layout import STORE
from lightning_emerge.store.read import open_run
from lightning_emerge.store.write import ArraySink


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / STORE


def test_a_reader_that_opened_before_a_write_goes_on_reading_what_it_opened(store):
    sink = ArraySink(store, 0)
    sink.write(0, [ratio(0)])
    opened = xr.open_zarr(store)
    sink.write(1, [ratio(1), size(1)])
    assert opened.step.values.tolist() == [0]
    np.testing.assert_array_equal(opened["ratio"], [[0.25, 0.5]])
    assert read(store).step.values.tolist() == [0, 1]


def test_a_reader_in_the_middle_of_a_write_sees_the_steps_before_it(store, monkeypatch):
    seen: list[xr.Dataset] = []
    sink = ArraySink(store, 0)
    sink.write(0, [ratio(0)])
    commit = Folder.put
    monkeypatch.setattr(Folder, "put", lambda *a, **k: (seen.append(read(store)), commit(*a, **k)))
    sink.write(1, [ratio(1), size(1)])
    assert len(seen) > 3
    for records in seen:
        assert records.step.values.tolist() == [0]
        assert set(records.data_vars) == {"ratio"}
        np.testing.assert_array_equal(records["ratio"], [[0.25, 0.5]])


def test_a_reader_that_does_not_know_the_groups_metadata_sees_whole_steps_too(store):
    with closing(ArraySink(store, None)) as sink:
        for step in range(20):
            sink.write(step, [ratio(step), *([size(step)] if step > 2 else [])])
            seen = without_the_groups_copy(store)
            shown = len(seen.step)
            assert step - 8 < shown - 1 <= step
            assert seen.identical(read(store).isel(step=slice(shown)))
    assert without_the_groups_copy(store).identical(read(store))


def test_a_run_that_was_killed_is_shown_whole_when_it_goes_on(store, tmp_path):
    with closing(ArraySink(tmp_path / "first.zarr", None)) as sink:
        for step in range(4):
            sink.write(step, [ratio(step), size(step)])
        shutil.copytree(tmp_path / "first.zarr", store)
    assert len(without_the_groups_copy(store).step) < 4
    ArraySink(store, 3).close()
    assert without_the_groups_copy(store).identical(read(store))


def test_a_store_with_nothing_in_it_yet_has_no_steps(store):
    ArraySink(store, 0)
    with suppress(FileNotFoundError):
        assert open_run(store).sizes["step"] == 0


def test_a_run_is_opened_by_its_folder_or_by_its_store(store):
    ArraySink(store, 0).write(4, [ratio(4)])
    for path in (store, store.parent, str(store.parent)):
        assert open_run(path).step.values.tolist() == [4]


@pytest.mark.parametrize("name", ["", "nowhere", STORE])
def test_a_folder_without_records_is_named(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=r"holds records\.zarr.* none in /"):
        open_run(tmp_path / name)


def test_readers_beside_a_writer_never_see_half_a_step(store):
    seen: set[int] = set()
    with closing(ArraySink(store, None)) as sink:
        sink.write(0, [ratio(0), rdm(0)])

        def write() -> None:
            for step in range(1, 3000):
                if len(seen) > 5:
                    return
                sink.write(step, [ratio(step), rdm(step)])

        writing = threading.Thread(target=write)
        writing.start()
        while writing.is_alive():
            records = open_run(store).load()
            steps = records.step.values.tolist()
            seen.add(len(steps))
            assert steps == list(range(len(steps)))
            np.testing.assert_array_equal(records["ratio"][:, 0], np.arange(len(steps)) + 0.25)
            assert np.isfinite(records.rdm.values).all()
        writing.join()
    assert len(seen) > 5


def test_a_torn_chunk_of_a_step_costs_that_chunk_alone(store):
    committed(store)
    chunk = store / "rdm/c.1.0.0.0"
    chunk.write_bytes(chunk.read_bytes()[:20])
    records = open_run(store)
    np.testing.assert_array_equal(records.rdm.isel(step=[0, 2]).values, np.stack([rdm(0).values, rdm(2).values]))
    assert records["ratio"].values.shape == (3, 2)
    with pytest.raises(Exception, match=r"\S"):
        records.rdm.load()
    with closing(ArraySink(store, 2)) as sink:
        sink.write(3, [ratio(3), rdm(3)])
    assert open_run(store).step.values.tolist() == [0, 1, 2, 3]


LIES: dict[str, Callable[[dict[str, Any]], object]] = {
    "a million looks": lambda found: [one["shape"].__setitem__(0, 1_000_000) for one in found.values()],
    "a billion looks": lambda found: [one["shape"].__setitem__(0, 10**9) for one in found.values()],
    "a long axis": lambda found: found["layer"].update(shape=[3 * 10**9]),
    "a large measure": lambda found: found["rdm"].update(shape=[3, 10**5, 10**5, 2]),
    "many arrays": lambda found: found.update({f"x{k}": found["ratio"] for k in range(3000)}),
    "no shape": lambda found: found["rdm"].pop("shape"),
    "an odd shape": lambda found: found["rdm"].update(shape=[3, None]),
    "no steps": lambda found: found.pop("step"),
}


@pytest.mark.parametrize("name", LIES)
def test_a_store_that_says_more_than_is_there_is_refused_before_room_is_made_for_it(store, name):
    committed(store)
    root = json.loads((store / "zarr.json").read_text())
    LIES[name](root["consolidated_metadata"]["metadata"])
    (store / "zarr.json").write_bytes(seal(root))
    tracemalloc.start()
    with pytest.raises(ValueError, match="are damaged"):
        open_run(store)
    assert tracemalloc.get_traced_memory()[1] < 1 << 26
    tracemalloc.stop()
