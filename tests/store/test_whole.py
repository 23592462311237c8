"""Damage on disk: what is read is what was written, or is refused; it is never another number."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from lightning_emerge.records import Axis, Measurement
from lightning_emerge.store.layout import STORE
from lightning_emerge.store.read import open_run
from lightning_emerge.store.write import ArraySink

IDS = [f"bank/dax/{number}" for number in range(6)]
STIMULUS = Axis("stimulus", IDS, notes={"token": ["", "", "", "wug", "wug", "wug"]})
AXES = (Axis("layer", ["", "fc1"]), STIMULUS, Axis("number", [0, 0.5]))
"""Labels that are the fill value of their array are stored, too."""


def looks(step: int) -> Iterator[Measurement]:
    shape = tuple(len(axis.labels) for axis in AXES)
    yield Measurement("values", np.random.default_rng(step).normal(size=shape), AXES, step)
    yield Measurement("zeros", np.zeros(2), (Axis("zero", [0, 0.0]),), step)
    if step % 2:
        yield Measurement("sometimes", np.full((), np.nan), (), step)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    with closing(ArraySink(tmp_path / STORE, None)) as sink:
        for step in range(5):
            sink.write(step, list(looks(step)))
    return tmp_path / STORE


def read(store: Path) -> xr.Dataset | None:
    try:
        return open_run(store).load()
    except (ValueError, RuntimeError, OSError):
        return None


def chunks(store: Path) -> list[Path]:
    return sorted(path for path in store.rglob("c*") if path.is_file())


def test_what_was_not_looked_at_has_no_chunk_and_what_could_not_be_measured_has_one(store):
    assert [path.name for path in sorted((store / "sometimes").glob("c*"))] == ["c.1", "c.3"]
    records = open_run(store)
    assert np.isnan(records.sometimes.values).all()
    assert set(records.attrs) == {"package", "version", "about"}


def test_each_file_that_is_lost_is_noticed(store):
    """Steps, labels, notes and values alike: none reads as "not looked", as '' or as 0."""
    files = chunks(store)
    assert {path.parent.name for path in files} == {
        *("step", "layer", "stimulus", "stimulus_token", "number", "zero", "values", "zeros", "sometimes")
    }
    for path in files:
        content = path.read_bytes()
        path.unlink()
        with pytest.raises(ValueError, match=rf"{path.parent.name}/{path.name} is missing"):
            open_run(store).load()
        path.write_bytes(content)
    assert read(store) is not None


def test_a_lost_chunk_costs_its_step_alone(store):
    whole = open_run(store).load()
    (store / "values/c.2.0.0.0").unlink()
    records = open_run(store)
    assert records["values"].isel(step=[0, 1, 3, 4]).identical(whole["values"].isel(step=[0, 1, 3, 4]))
    assert records["zeros"].identical(whole["zeros"])
    with pytest.raises(ValueError, match=r"values/c\.2\.0\.0\.0 is missing"):
        records["values"].sel(step=2).load()


def test_a_chunk_of_a_look_that_was_not_taken_is_no_record(store):
    (store / "sometimes/c.2").write_bytes((store / "zeros/c.2.0").read_bytes())
    assert np.isnan(open_run(store).sometimes.values).all()


def test_a_run_that_is_resumed_still_tells_a_loss_from_a_look_that_was_not_taken(store):
    with closing(ArraySink(store, 3)) as sink:
        sink.write(9, list(looks(9)))
    (store / "sometimes/c.3").unlink()
    records = open_run(store)
    assert np.isnan(records.sometimes.isel(step=[0, 1, 2, 4]).values).all()
    with pytest.raises(ValueError, match="is missing"):
        records.sometimes.isel(step=3).load()


def test_of_200_flipped_bits_none_is_read_as_another_number(store):
    whole, dice = open_run(store).load(), random.Random(0)
    files = [*chunks(store), store / "zarr.json"]
    seen = []
    for _ in range(200):
        path = dice.choice(files)
        content = path.read_bytes()
        flipped, place = bytearray(content), dice.randrange(8 * len(content))
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        found = read(store)
        seen.append(found is None)
        assert found is None or found.identical(whole), f"bit {place} of {path.relative_to(store)}"
        path.write_bytes(content)
    assert sum(seen) > 150
    assert open_run(store).load().identical(whole)


def test_a_store_that_was_cut_short_is_refused(store):
    for path in chunks(store):
        content = path.read_bytes()
        path.write_bytes(content[:-1])
        assert read(store) is None, path
        path.write_bytes(content)
