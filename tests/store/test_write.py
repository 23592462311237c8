"""The array store, read with plain xarray: layout, meaning, order, and what is left by a run that is killed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from children import started
from stored import LAYER, STIMULUS, committed, histogram, make, ratio, rdm, read, size, values, without_the_groups_copy
from zarr.storage import LocalStore

from lightning_emerge.records import Axis, Measurement
from lightning_emerge.store import encode, write
from lightning_emerge.store.claim import check_store
from lightning_emerge.store.folder import Folder
from lightning_emerge.store.format import seal
from lightning_emerge.store.layout import STORE
from lightning_emerge.store.read import open_run
from lightning_emerge.store.write import ArraySink

NAN = float("nan")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / STORE


# Layout and meaning


def test_xarray_reads_dimensions_coordinates_notes_and_units(store):
    sink = ArraySink(store, 0)
    sink.write(0, [ratio(0), rdm(0), size(0), histogram(0)])
    sink.write(10, [ratio(10), rdm(10), size(10), histogram(10)])
    records = read(store)
    assert set(records.data_vars) == {"ratio", "rdm", "size", "histogram"}
    assert set(records.coords) == {"step", "layer", "stimulus", "stimulus_token", "stimulus_b", "bin"}
    assert records.rdm.dims == ("step", "layer", "stimulus", "stimulus_b")
    assert records["size"].dims == ("step",)
    assert records.step.values.tolist() == [0, 10]
    assert records.layer.values.tolist() == ["conv1_1", "fc1"]
    assert records.stimulus_token.dims == ("stimulus",)
    assert records.stimulus_token.values.tolist() == ["dax", "wug", "wug"]
    assert records.bin.values.tolist() == [-10, -9.75]
    assert records.rdm.attrs == {
        "units": "1 - Pearson r",
        "source": "SomeProbe",
        "long_name": "About rdm",
        "version": version("lightning_emerge"),
        "scale": "linear",
    }
    assert records.bin.attrs["units"] == "log10 of the magnitude"
    assert records.step.attrs["units"] == "optimizer steps"
    assert records.attrs["package"] == "lightning_emerge"
    for measure in (ratio, rdm, size, histogram):
        for step in (0, 10):
            np.testing.assert_array_equal(records[measure(0).name].sel(step=step), measure(step).values)
    assert records.rdm.sel(step=10, layer="fc1", stimulus="dax/0", stimulus_b="wug/1").item() == 11 + 10 / 8


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_values_come_back_bit_by_bit(store, dtype):
    given = make("x", [1 / 3, np.inf, -np.inf, NAN, 0, -0.0, 6e-8], Axis("k", range(7)), dtype=dtype)
    ArraySink(store, 5).write(5, [given])
    found = values(read(store), "x")
    assert found.dtype == dtype
    assert found.tobytes() == given.values.tobytes()


def test_only_metadata_and_chunks_are_on_disk_and_none_is_a_pickle(store):
    sink = ArraySink(store, 0)
    for step in (1, 2):
        sink.write(step, [ratio(step), rdm(step), size(step)])
    files = [path for path in store.rglob("*") if path.is_file()]
    for path in files:
        place = path.relative_to(store).parts
        assert path.name == "zarr.json" or place[1].startswith("c."), path
        start = path.read_bytes()[:2]
        assert not (start[:1] == b"\x80" and start[1:] <= b"\x05"), path
    for path in (path for path in files if path.name == "zarr.json"):
        metadata = json.loads(path.read_text())
        assert metadata["zarr_format"] == 3
        assert {codec["name"] for codec in metadata.get("codecs", [])} <= {"bytes", "zstd", "vlen-utf8"}


def test_a_step_is_a_chunk(store):
    sink = ArraySink(store, 0)
    for step in (1, 2, 3):
        sink.write(step, [rdm(step), size(step)])
    group = zarr.open_group(store, mode="r")
    assert group["rdm"].chunks == (1, 2, 3, 3)
    assert group["size"].chunks == (1,)
    assert sorted(path.name for path in (store / "rdm").iterdir()) == [*(f"c.{k}.0.0.0" for k in range(3)), "zarr.json"]


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4), (0, 2), (600, 700)], ids=str)
def test_a_chunk_is_byte_for_byte_what_zarr_writes(store, tmp_path, shape, dtype):
    random = np.random.default_rng(0)
    looks = [random.normal(size=shape).astype(dtype), np.full(shape, NAN, dtype), np.zeros(shape, dtype)]
    axes = [Axis(f"axis_{k}", range(size)) for k, size in enumerate(shape)]
    with closing(ArraySink(store, None)) as sink:
        for step, look in enumerate(looks):
            sink.write(step, [Measurement("x", look.T.copy().T, tuple(axes), step)])  # in the order of Fortran
    shutil.copytree(store, tmp_path / "other.zarr")
    for chunk in (tmp_path / "other.zarr/x").glob("c.*"):
        chunk.unlink()
    other = zarr.open_group(tmp_path / "other.zarr", mode="r+")["x"]
    assert isinstance(other, zarr.Array)
    other = other.with_config({"write_empty_chunks": True})
    for step, look in enumerate(looks):
        other[step] = look
    ours, theirs = (
        {path.name: path.read_bytes() for path in (home / "x").iterdir()} for home in (store, tmp_path / "other.zarr")
    )
    assert ours == theirs
    assert len(ours) == (4 if np.prod(shape) else 1)
    np.testing.assert_array_equal(zarr.open_array(store, path="x", mode="r")[:], np.stack(looks))


def test_what_was_looked_at_and_not_measurable_has_a_chunk_of_nan(store):
    with closing(ArraySink(store, None)) as sink:
        sink.write(0, [ratio(0)])
        sink.write(0, [make("ratio", [NAN, NAN], LAYER)])
        sink.write(1, [ratio(1)])
    assert (store / "ratio/c.0.0").exists()
    np.testing.assert_array_equal(read(store)["ratio"], [[NAN, NAN], [1.25, 1.5]])


def test_a_later_step_leaves_the_chunks_of_earlier_ones_untouched(store):
    sink = ArraySink(store, 0)
    sink.write(1, [rdm(1)])
    chunk = store / "rdm" / "c.0.0.0.0"
    before = chunk.stat().st_mtime_ns, chunk.stat().st_ino
    sink.write(2, [rdm(2)])
    assert (chunk.stat().st_mtime_ns, chunk.stat().st_ino) == before


def test_what_was_not_measured_at_a_step_is_nan(store):
    sink = ArraySink(store, 0)
    sink.write(0, [ratio(0)])
    sink.write(1, [size(1)])
    sink.write(2, [])
    sink.write(3, [ratio(3), size(3)])
    records = read(store)
    np.testing.assert_array_equal(records["ratio"], [[0.25, 0.5], [NAN, NAN], [NAN, NAN], [3.25, 3.5]])
    np.testing.assert_array_equal(records["size"], [NAN, -2, NAN, -4])


def test_axes_with_other_labels_get_a_longer_name(store):
    other = Axis("layer", ["conv1_1", "conv2_1", "fc1"], notes={"kind": ["conv", "conv", "linear"]})
    sink = ArraySink(store, 0)
    for step in (0, 1):
        sink.write(step, [ratio(step), make("rank", [1, 2, step], other), make("twice", [3, step], LAYER)])
    records = read(store)
    assert records["ratio"].dims == records["twice"].dims == ("step", "layer")
    assert records["rank"].dims == ("step", "layer_of_rank")
    assert records.layer.values.tolist() == ["conv1_1", "fc1"]
    assert records.layer_of_rank.values.tolist() == ["conv1_1", "conv2_1", "fc1"]
    assert records["rank"].layer_of_rank_kind.values.tolist() == ["conv", "conv", "linear"]
    np.testing.assert_array_equal(records["rank"], [[1, 2, 0], [1, 2, 1]])


@pytest.mark.parametrize("first", [make("plain", [0, 0, 0], Axis("stimulus", STIMULUS.labels)), rdm(0)])
def test_a_note_is_kept_whoever_measures_first(store, first):
    sink = ArraySink(store, 0)
    sink.write(0, [first])
    sink.write(1, [rdm(1)])
    assert read(store).coords["stimulus_token"].values.tolist() == ["dax", "wug", "wug"]


@pytest.mark.parametrize("unit", ["seconds", "days", "1 - Pearson r", "share", "images"])
def test_a_unit_does_not_change_what_the_values_are(store, unit):
    ArraySink(store, 0).write(0, [make("x", 2.5, unit=unit)])
    records = read(store)
    assert records.x.dtype == np.float32
    assert records.x.item() == 2.5


# Order


def test_the_second_part_of_the_last_step_is_added(store):
    sink = ArraySink(store, 0)
    sink.write(0, [ratio(0)])
    sink.write(7, [ratio(7)])
    sink.write(7, [size(7)])
    assert sink.steps == (0, 7)
    records = read(store)
    assert records.step.values.tolist() == [0, 7]
    np.testing.assert_array_equal(records["ratio"], [[0.25, 0.5], [7.25, 7.5]])
    np.testing.assert_array_equal(records["size"], [NAN, -8])


def test_a_part_of_an_earlier_committed_step_is_added(store):
    sink = ArraySink(store, 0)
    for step in (0, 7, 9):
        sink.write(step, [ratio(step)])
    sink.write(7, [size(7), ratio(70)])
    records = read(store)
    assert records.step.values.tolist() == [0, 7, 9]
    np.testing.assert_array_equal(records["ratio"], [[0.25, 0.5], [70.25, 70.5], [9.25, 9.5]])
    np.testing.assert_array_equal(records["size"], [NAN, -8, NAN])


def test_a_new_step_before_the_last_is_refused(store):
    sink = ArraySink(store, 0)
    sink.write(5, [ratio(5)])
    with pytest.raises(ValueError, match="in the order of steps; got step 4 after 5"):
        sink.write(4, [ratio(4)])
    assert sink.steps == (5,)
    assert read(store).step.values.tolist() == [5]


CHANGED = {
    "labels": make("ratio", [1, 2], Axis("layer", ["conv1_1", "fc2"])),
    "order": make("ratio", [1, 2], Axis("layer", ["fc1", "conv1_1"])),
    "length": make("ratio", [1, 2, 3], Axis("layer", ["conv1_1", "fc1", "fc2"])),
    "kind": make("ratio", [1, 2], Axis("layer", [0, 1])),
    "name": make("ratio", [1, 2], Axis("block", LAYER.labels)),
    "number": make("ratio", 1),
}


@pytest.mark.parametrize("measurement", CHANGED.values(), ids=CHANGED)
def test_changed_axes_are_refused(store, measurement):
    sink = ArraySink(store, 0)
    sink.write(0, [ratio(0)])
    with pytest.raises(ValueError, match=r"has the same (axes|labels) at every step"):
        sink.write(1, [measurement])
    records = read(store)
    assert records.step.values.tolist() == [0]
    np.testing.assert_array_equal(records["ratio"], [[0.25, 0.5]])


def test_a_refused_measurement_does_not_spoil_the_steps_after_it(store):
    sink = ArraySink(store, 0)
    sink.write(0, [ratio(0)])
    with pytest.raises(ValueError, match="every step"):
        sink.write(1, [CHANGED["labels"]])
    assert sink.steps == (0,)
    sink.write(2, [ratio(2)])
    records = read(store)
    assert records.step.values.tolist() == [0, 2]
    np.testing.assert_array_equal(records["ratio"], [[0.25, 0.5], [2.25, 2.5]])
    assert set(records.coords) == {"step", "layer"}


# Resuming


@pytest.mark.parametrize(("step", "kept"), [(0, [0]), (5, [0, 3]), (6, [0, 3, 6]), (100, [0, 3, 6, 9])], ids=str)
def test_a_run_that_goes_on_from_a_step_drops_what_lay_beyond(store, step, kept):
    sink = ArraySink(store, 0)
    for done in (0, 3, 6, 9):
        sink.write(done, [ratio(done), size(done)])
    sink.close()
    sink = ArraySink(store, step)
    assert list(sink.steps) == kept
    records = read(store)
    assert records.step.values.tolist() == kept
    np.testing.assert_array_equal(records["size"], [-done - 1 for done in kept])
    sink.write(101, [ratio(101)])
    records = read(store)
    assert records.step.values.tolist() == [*kept, 101]
    np.testing.assert_array_equal(records["size"], [*(-done - 1 for done in kept), NAN])


def test_going_on_at_a_step_that_is_recorded_writes_it_once(store):
    for start, steps in ((0, (0, 1, 2)), (2, (2, 3))):
        with closing(ArraySink(store, start)) as sink:
            for step in steps:
                sink.write(step, [ratio(step)])
    assert read(store).step.values.tolist() == [0, 1, 2, 3]
    np.testing.assert_array_equal(values(read(store), "ratio")[:, 0], [0.25, 1.25, 2.25, 3.25])


def test_a_store_of_an_earlier_version_is_gone_on_with(store, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(encode, "KEYS", {"name": "default", "separator": "/"})
        with closing(ArraySink(store, None)) as sink:
            for step in range(4):
                sink.write(step, [ratio(step), rdm(step)])
    assert (store / "rdm/c/3/0/0/0").exists()
    with closing(ArraySink(store, 1)) as sink:
        sink.write(5, [ratio(5), rdm(5), size(5)])
    assert sorted(path.name for path in (store / "rdm/c").iterdir()) == ["0", "1", "2"]
    assert (store / "size/c.2").exists()
    records = read(store)
    assert records.step.values.tolist() == [0, 1, 5]
    np.testing.assert_array_equal(records["rdm"], np.stack([rdm(step).values for step in (0, 1, 5)]))
    np.testing.assert_array_equal(records["size"], [NAN, NAN, -6])


# Killed runs


class Killed(Exception):
    pass


def _count(changes: list[int], moment: int) -> None:
    changes[0] += 1
    if changes[0] > moment:
        raise Killed


def _later(method: Callable[..., Any], changes: list[int], moment: int) -> Callable[..., object]:
    async def change(*arguments: object, **keywords: object) -> object:
        _count(changes, moment)
        return await method(*arguments, **keywords)

    return change


def _at_once(method: Callable[..., object], changes: list[int], moment: int) -> Callable[..., object]:
    def change(*arguments: object, **keywords: object) -> object:
        _count(changes, moment)
        return method(*arguments, **keywords)

    return change


@contextmanager
def killed(moment: int) -> Iterator[list[int]]:
    """Lets so many changes of files through and no more, as if the process ended there; says how many there were."""
    changes = [0]

    with pytest.MonkeyPatch.context() as patch:
        for name in ("set", "set_if_not_exists", "delete", "delete_dir"):
            patch.setattr(LocalStore, name, _later(getattr(LocalStore, name), changes, moment))
        for name in ("put", "remove"):
            patch.setattr(Folder, name, _at_once(getattr(Folder, name), changes, moment))
        with suppress(Killed):
            yield changes


Story = Sequence[tuple[int, Sequence[tuple[int, Sequence[Measurement]]]]]
"""Sinks one after the other: the step each starts at, and what it writes."""


def tell(store: Path, story: Story) -> None:
    for start, writes in story:
        with closing(ArraySink(store, start)) as sink:
            for step, measurements in writes:
                sink.write(step, measurements)


STORIES: dict[str, tuple[Story, Story]] = {
    # what was there, and the sink that is killed
    "the first step": ([], [(0, [(0, [ratio(0), size(0)])])]),
    "the next step": ([(0, [(0, [ratio(0)])])], [(0, [(3, [ratio(3), histogram(3)])])]),
    "more of a step": ([(0, [(0, [ratio(0)]), (3, [ratio(3)])])], [(3, [(3, [size(3)])])]),
    "going back": ([(0, [(step, [ratio(step), size(step)]) for step in (0, 3, 6, 9)])], [(3, [(6, [ratio(6)])])]),
}


def look(store: Path) -> xr.Dataset | None:
    """What a reader sees; None before the first record. A store that is half made may be read with a warning."""
    if not (store / "zarr.json").exists():
        return None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Failed to open Zarr store with consolidated metadata")
        records = read(store)
    return records if records.sizes.get("step") else None


def brief(records: xr.Dataset | None) -> object:
    return {str(name): found.values.tolist() for name, found in records.variables.items()} if records else None


@pytest.mark.parametrize("name", STORIES)
def test_killed_at_any_moment_no_step_is_torn_and_going_on_gives_what_was_due(store, tmp_path, name):
    before, last = STORIES[name]
    allowed: list[xr.Dataset | None] = []
    for k, story in enumerate((before, [*before, (last[0][0], [])], [*before, *last])):
        tell(tmp_path / f"{k}.zarr", story)
        allowed.append(look(tmp_path / f"{k}.zarr"))
    wrong: list[str] = []
    for moment in range(1000):
        shutil.rmtree(store, ignore_errors=True)
        if before:
            shutil.copytree(tmp_path / "0.zarr", store)
        with killed(moment) as changes:
            tell(store, last)
        seen = look(store)
        if not any(seen is state or (seen and state and seen.identical(state)) for state in allowed):
            wrong.append(f"killed after {moment} changes of files, a reader sees {brief(seen)}")
        tell(store, last)
        then = read(store)
        if not then.identical(allowed[-1]):
            wrong.append(f"killed after {moment} changes and gone on, a reader sees {brief(then)}")
        if changes[0] <= moment:
            break
    assert moment > 3
    assert not wrong, "\n".join(wrong)


def killed_at_the_commit(put: Callable[..., None], folder: Folder, name: str, content: bytes, **make: bool) -> None:
    if name == "zarr.json":
        raise Killed
    put(folder, name, content, **make)


def test_what_a_torn_write_left_is_not_a_record_of_another_step(store, monkeypatch):
    ArraySink(store, 0).write(0, [ratio(0), size(0)])
    with monkeypatch.context() as patch:
        sink = ArraySink(store, 0)
        put = Folder.put
        patch.setattr(Folder, "put", lambda *a, **k: killed_at_the_commit(put, *a, **k))
        with pytest.raises(Killed):
            sink.write(7, [ratio(7), size(7)])
        sink.close()
    assert read(store).step.values.tolist() == [0]
    sink = ArraySink(store, 3)
    assert sink.steps == (0,)
    sink.write(4, [ratio(4)])
    np.testing.assert_array_equal(read(store)["ratio"], [[0.25, 0.5], [4.25, 4.5]])
    np.testing.assert_array_equal(read(store)["size"], [-1, NAN])


# A run that begins anew


def test_a_new_run_does_not_write_over_the_records_of_another(store):
    with closing(ArraySink(store, None)) as sink:
        sink.write(0, [ratio(0)])
        sink.write(1, [ratio(1)])
    with pytest.raises(ValueError, match="has 2 steps of an earlier run"):
        ArraySink(store, None)
    assert read(store).step.values.tolist() == [0, 1]
    with closing(ArraySink(store, 1)) as sink:  # the lock was let go
        assert sink.steps == (0, 1)


def test_a_new_run_begins_again_where_one_was_killed_at_step_0(store):
    with closing(ArraySink(store, None)) as sink:
        sink.write(0, [ratio(0)])
    with closing(ArraySink(store, None)) as sink:
        assert sink.steps == ()
        sink.write(0, [size(0)])
    assert set(read(store).data_vars) == {"size"}


def test_a_store_whose_only_look_is_a_late_one_is_not_begun_anew(store):
    with closing(ArraySink(store, 5000)) as sink:
        sink.write(5000, [ratio(5000)])
    with pytest.raises(ValueError, match="has 1 steps of an earlier run"):
        ArraySink(store, None)
    with pytest.raises(ValueError, match="has 1 steps of an earlier run"):
        check_store(store, new=True)
    assert open_run(store).step.values.tolist() == [5000]


NOTED = Axis("unit", [0, 1, 2], notes={"x": [10, 20, 30]})


@pytest.mark.parametrize("again", [False, True])
@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        (make("noted", [1, 2, 3], NOTED), make("unit_x", 1), "unit_x"),
        (make("unit_x", 1), make("noted", [1, 2, 3], NOTED), "unit_x"),
        (make("plain", [1, 2], LAYER), make("layer", 1), "layer"),
        (make("layer", 1), make("plain", [1, 2], LAYER), "layer"),
    ],
)
def test_a_measurement_is_not_named_like_an_axis_or_its_notes(store, first, second, name, again):
    sink = ArraySink(store, 0)
    sink.write(0, [first])
    if again:
        sink.close()
        sink = ArraySink(store, 0)
    with pytest.raises(ValueError, match=f"not named like an axis or its notes; got '{name}'"):
        sink.check(second)
    sink.write(1, [first])
    sink.close()
    assert open_run(store).load()[first.name].shape[0] == 2


# Checks beside writing


def test_a_check_touches_no_file(store, monkeypatch):
    with closing(ArraySink(store, 0)) as sink:
        sink.write(0, [ratio(0)])
    sink = ArraySink(store, 0)
    with killed(0) as changes:
        for reader in (Folder.read, Folder.names, Folder.exists):
            monkeypatch.setattr(Folder, reader.__name__, lambda *_: pytest.fail("it read the store"))
        monkeypatch.setattr(zarr, "open_array", lambda *_, **__: pytest.fail("it read the store"))
        sink.check(ratio(1))
        sink.check(rdm(1))
        with pytest.raises(ValueError, match="those of 'layer' of 'ratio' changed"):
            sink.check(make("ratio", [1, 2], Axis("layer", ["a", "b"])))
        with pytest.raises(ValueError, match="the same axes at every step"):
            sink.check(make("rdm", [1.0], Axis("layer", ["a"])))  # declared, and not yet written
    assert changes == [0]
    monkeypatch.undo()
    sink.close()


# Two runs in one folder


_HOLDS = """
import sys, time
from lightning_emerge.store.write import ArraySink
sink = ArraySink(sys.argv[1], 0)
print("holds", flush=True)
time.sleep(60)
"""


def test_one_run_writes_at_a_time_and_a_killed_one_leaves_no_lock(store):
    with started([sys.executable, "-c", _HOLDS, store], ready=True, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "holds\n"
        with pytest.raises(ValueError, match=r"another is writing .*records\.zarr"):
            ArraySink(store, 0)
    with closing(ArraySink(store, 0)) as sink:
        sink.write(0, [ratio(0)])
    ArraySink(store, 0).close()
    assert read(store).step.values.tolist() == [0]


# Other places


@pytest.mark.parametrize("url", ["memory://runs/{name}/records.zarr", "file://{path}/records.zarr"])
def test_any_fsspec_url(url, tmp_path):
    url = url.format(name=tmp_path.name, path=tmp_path)
    with closing(ArraySink(url, None)) as sink:
        for step in (0, 2, 5):
            sink.write(step, [ratio(step), rdm(step)])
    with closing(ArraySink(url, 2)) as sink:
        assert sink.steps == (0, 2)
        sink.write(7, [ratio(7)])
    for path in (url, url.removesuffix("/records.zarr")):
        records = open_run(path).load()
        assert records.step.values.tolist() == [0, 2, 7]
        assert records.rdm.dims == ("step", "layer", "stimulus", "stimulus_b")
        np.testing.assert_array_equal(records["ratio"][:, 0], [0.25, 2.25, 7.25])
    with pytest.raises(FileNotFoundError, match="there is none in memory://nowhere"):
        open_run("memory://nowhere")


# Damage


def test_what_a_killed_run_left_unfinished_is_swept(store):
    committed(store)
    for path in (
        "rdm/c.7.0.0.0",
        "rdm/.c.3.0.0.0.new",
        "rdm/c/1/0/0/0",
        "half/zarr.json",
        ".zarr.json.new",
        "rdm/zarr.abc.partial",
    ):
        (store / path).parent.mkdir(parents=True, exist_ok=True)
        (store / path).write_bytes(b"torn")
    ArraySink(store, 2).close()
    left = {path.name for path in store.rglob("*") if path.is_file()}
    assert left == {"zarr.json", "c.0", *(f"c.{k}{rest}" for k in range(3) for rest in ("", ".0", ".0.0.0"))}
    assert not (store / "half").exists()
    assert read(store).step.values.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda store: (store / "zarr.json").write_bytes(b"{torn"), "are damaged"),
        (lambda store: (store / "zarr.json").write_text('{"attributes": {}}'), "did not write"),
        (lambda store: (store / "zarr.json").write_text("[]"), "did not write"),
        (lambda store: (store / "step/c.1").write_bytes(b""), "are damaged"),
        (lambda store: shutil.rmtree(store / "step"), "are damaged"),
        (lambda store: _lie(store, 9), "are damaged"),
        (lambda store: _change(store, "rdm", codecs=[{"name": "blosc"}]), "rdm is stored as"),
    ],
)
def test_a_damaged_store_is_refused_and_left_as_it_is(store, damage, words):
    committed(store)
    damage(store)
    before = {path: path.read_bytes() for path in store.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=words):
        ArraySink(store, 5)
    assert {path: path.read_bytes() for path in store.rglob("*") if path.is_file()} == before


def _lie(store: Path, steps: int) -> None:
    root = json.loads((store / "zarr.json").read_text())
    for metadata in root["consolidated_metadata"]["metadata"].values():
        if metadata["dimension_names"][0] == "step":
            metadata["shape"][0] = steps
    (store / "zarr.json").write_bytes(seal(root))


def _change(store: Path, name: str, **changes: object) -> None:
    root = json.loads((store / "zarr.json").read_text())
    root["consolidated_metadata"]["metadata"][name].update(changes)
    (store / "zarr.json").write_bytes(seal(root))


def noise(step: int) -> Measurement:
    return make("noise", np.random.default_rng(step).random(40_000), Axis("unit", range(40_000)))


def fill(sink: ArraySink) -> int:
    """Writes until the disk is full; says which step did not fit."""
    for step in range(20):
        try:
            sink.write(step, [noise(step), ratio(step)])
        except OSError:
            return step
    raise AssertionError("the disk was never full")


def test_a_full_disk_costs_the_step_that_did_not_fit(small_disk):
    store = small_disk / STORE
    sink = ArraySink(store, None)
    (small_disk / "ballast").write_bytes(bytes(100_000))
    step = fill(sink)
    assert 2 < step < 8
    records = read(store)
    assert records.step.values.tolist() == list(range(step)) == list(sink.steps)
    np.testing.assert_array_equal(records["noise"][-1], noise(step - 1).values)
    (small_disk / "ballast").unlink()
    sink.write(step, [ratio(step)])
    assert read(store).step.values.tolist() == list(range(step + 1))
    sink.close()


def test_a_disk_that_cannot_be_written_is_said_with_what_to_do(small_disk):
    committed(small_disk / STORE)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for path in (small_disk / STORE, small_disk / "other" / STORE):
        with pytest.raises(OSError, match=r"cannot be written .*another folder"):
            ArraySink(path, 1)
    assert open_run(small_disk).step.values.tolist() == [0, 1, 2]
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)


# What is not ours


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    home = tmp_path / "thesis"
    home.mkdir()
    (home / "c.0").write_text("looks like a chunk")
    (home / "zarr.json").write_text('{"node_type": "array", "attributes": {}}')
    return home


@pytest.mark.parametrize("start", [None, -1, 5], ids=str)
@pytest.mark.parametrize("place", ["store", "array", "axis", "other"])
def test_a_link_in_the_place_of_a_store_or_in_it_is_refused_and_left(store, canary, place, start):
    before = everything(canary)
    if place == "store":
        store.symlink_to(canary)
    else:
        committed(store)
        name = {"array": "rdm", "axis": "layer", "other": "half"}[place]
        shutil.rmtree(store / name, ignore_errors=True)
        (store / name).symlink_to(canary)
    for refuse in (lambda: ArraySink(store, start), lambda: check_store(store, new=start is None)):
        with pytest.raises(ValueError, match=r"is a link.* left as it is"):
            refuse()
    assert everything(canary) == before


def test_a_link_that_is_put_there_while_a_run_goes_on_is_not_written_through(store, canary):
    before = everything(canary)
    with closing(ArraySink(store, None)) as sink:
        sink.write(0, [ratio(0)])
        (store / "size").symlink_to(canary)
        assert list(sink.write(1, [ratio(1), size(1)])) == ["size"]
        shutil.rmtree(store / "ratio")
        (store / "ratio").symlink_to(canary)
        with pytest.raises(OSError, match="ratio"):
            sink.write(2, [ratio(2)])
        sink._shown = 2  # it would show the rest where the link is
    assert everything(canary) == before


@pytest.mark.parametrize("start", [None, -1, 5], ids=str)
def test_a_folder_that_is_neither_empty_nor_a_store_is_refused_and_left(store, start):
    committed(store)
    (store / "zarr.json").unlink()
    before = everything(store)
    with pytest.raises(ValueError, match=r"an empty folder; .* left as they are"):
        ArraySink(store, start)
    assert everything(store) == before


@pytest.mark.parametrize("start", [None, 0], ids=str)
def test_what_others_put_beside_arrays_stays(store, start):
    with closing(ArraySink(store, None)) as sink:
        sink.write(0, [ratio(0)])
    theirs = {
        "notes.txt": b"of a reader",
        "ratio/notes.txt": b"of a reader",
        "half/c.0": b"a chunk of a run that was killed",
        "half/notes.txt": b"of a reader",
        "derived/zarr.json": b'{"zarr_format": 3, "node_type": "array", "attributes": {"by": "a reader"}}',
        "derived/c.0": b"theirs",
    }
    for path, content in theirs.items():
        (store / path).parent.mkdir(exist_ok=True)
        (store / path).write_bytes(content)
    with closing(ArraySink(store, start)) as sink:
        sink.write(1, [ratio(1)])
    left = everything(store)
    assert theirs.items() - left.items() == {("half/c.0", theirs["half/c.0"])}


def test_a_measurement_whose_folder_somebody_else_has_is_refused_alone(store):
    with closing(ArraySink(store, None)) as sink:
        (store / "size").mkdir()
        (store / "size/zarr.json").write_text('{"attributes": {"by": "a reader"}}')
        refused = sink.write(0, [size(0), ratio(0)])
        assert list(refused) == ["size"]
        assert "somebody else has put 'size'" in str(refused["size"])
        sink.write(1, [ratio(1)])
    assert (store / "size/zarr.json").read_text() == '{"attributes": {"by": "a reader"}}'
    assert set(open_run(store).data_vars) == {"ratio"}


def test_what_cannot_be_encoded_costs_nobody_else(store, monkeypatch):
    declare = write.declare

    def fail(name: str, *a: Any, **k: Any) -> dict[str, bytes]:
        if name == "odd":
            raise TypeError("planted")
        return declare(name, *a, **k)

    monkeypatch.setattr(write, "declare", fail)
    odd = Axis("own", [1, 2], notes={"kind": ["a", "b"]})
    with closing(ArraySink(store, None)) as sink:
        for step in range(3):
            refused = sink.write(step, [ratio(step), make("odd", [1, 2], odd), rdm(step)])
            assert str(refused["odd"]) == "planted"
    records = open_run(store).load()
    assert set(records.data_vars) == {"ratio", "rdm"}
    assert set(records.coords) == {"step", "layer", "stimulus", "stimulus_token", "stimulus_b"}
    assert without_the_groups_copy(store).identical(read(store))


def _replaced(store: Path) -> None:
    shutil.rmtree(store)
    committed(store)


@pytest.mark.parametrize("do", [shutil.rmtree, _replaced, lambda store: (store / "zarr.json").unlink()])
def test_a_store_that_is_removed_or_replaced_under_a_run_is_noticed_and_not_made_again(store, do):
    sink = ArraySink(store, None)
    for step in range(9):
        sink.write(step, [ratio(step)])
    sink._release()
    do(store)
    left = everything(store)
    with pytest.raises(OSError, match=r"those in .* were removed or replaced"):
        sink.write(9, [ratio(9)])
    with suppress(OSError):
        sink.close()
    assert everything(store) == left


def test_an_array_that_is_removed_under_a_run_is_not_made_again(store):
    sink = ArraySink(store, None)
    sink.write(0, [ratio(0), size(0)])
    shutil.rmtree(store / "ratio")
    with pytest.raises(FileNotFoundError):
        sink.write(1, [ratio(1)])
    with suppress(FileNotFoundError):
        sink.close()
    assert not (store / "ratio").exists()
