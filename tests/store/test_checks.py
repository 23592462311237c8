"""Names and labels that would make a store unreadable, for all of a run's probes."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_emerge.records import Axis, Measurement, Record
from lightning_emerge.store.checks import check_measurement
from lightning_emerge.store.read import open_run
from lightning_emerge.store.write import ArraySink

LAYER = Axis("layer", ["a", "b"])


def make(name: str = "good", *axes: Axis, dtype: type = np.float32, unit: str = "1") -> Measurement:
    shape = tuple(len(axis.labels) for axis in axes)
    return Measurement(name, np.ones(shape, dtype), axes, 0, unit)


def of(labels: object) -> Measurement:
    return make("good", Axis("k", labels))  # pyright: ignore[reportArgumentType]


NAMES = [
    "",
    ".",
    "..",
    "zarr.json",
    ".hidden",
    "__reserved",
    "a/b",
    "a\\b",
    "a\nb",
    "a\0b",
    "\udcff",
    "x" * 300,
    "step",
]

BAD = {
    **{f"name {name[:12]!r}": make(name) for name in NAMES},
    **{f"axis {name[:12]!r}": make("good", Axis(name, [0, 1])) for name in NAMES},
    **{f"note {name[:12]!r}": make("good", Axis("k", [0], notes={name: [1]})) for name in ("a/b", "\udcff", "x" * 300)},
    "names that are too long together": make("x" * 120, Axis("y" * 120, [0])),
    "labels of None": of([None, None]),
    "labels of None and words": of(["a", None]),
    "labels of tuples": of([(0, 1), (2, 3)]),
    "labels of tuples of different lengths": of([(0, 1), (2,)]),
    "labels of truth": of([True, False]),
    "labels of NaN": of([0.0, float("nan")]),
    "labels of bytes": of([b"a", b"b"]),
    "labels of complex numbers": of([1j, 2j]),
    "labels that are no text": of(["a", "caf\udce9"]),
    "labels with NUL": of(["a", "b\0"]),
    "a note of None": make("good", Axis("k", [0, 1], notes={"token": [None, "a"]})),  # pyright: ignore[reportArgumentType]
    "a unit that is no text": make(unit="\udcff"),
    "long doubles": make(dtype=np.longdouble),
}


@pytest.mark.parametrize("measurement", BAD.values(), ids=BAD)
def test_it_is_refused_and_costs_nobody_else(measurement, tmp_path):
    sink = ArraySink(tmp_path / "records.zarr", None)
    with pytest.raises(ValueError, match=r"(Rename|Shorten|Escape|Convert|Write)|are text"):
        sink.check(measurement)
    good = make("rdm", LAYER)
    sink.check(good)
    sink.write(0, [good])
    sink.close()
    assert open_run(tmp_path).rdm.sel(step=0, layer="b").item() == 1


GOOD = [
    make("µ é|v", LAYER),
    make("with::colons", Axis("layer:1", ["a/b", "a > b", "", "é", "x" * 300, "line\nbreak"])),
    of(range(3)),
    of(np.arange(3, dtype=np.uint8)),
    of([0.5, np.inf]),
    of([]),
    of([1, 2.5]),
    make("x" * 60, Axis("y" * 60, [0], notes={"z" * 60: [1]})),
]


@pytest.mark.parametrize("measurement", GOOD, ids=lambda found: f"{found.name[:8]} {found.axes[0].name[:8]}")
def test_what_can_be_read_again_passes(measurement, tmp_path):
    check_measurement(measurement)
    with_sink = ArraySink(tmp_path / "records.zarr", None)
    with_sink.write(0, [measurement])
    with_sink.write(1, [measurement])
    with_sink.close()
    records = open_run(tmp_path).load()
    np.testing.assert_array_equal(records[measurement.name].sel(step=1).values, measurement.values)
    labels = records[measurement.axes[0].name].values.tolist()
    assert labels == list(measurement.axes[0].labels)


def test_the_range_and_the_scale_are_recorded_with_the_unit(tmp_path):
    share = Record("share_of", ("layer",), "share", range=(0, 1), about="Of what")
    size = Record("size", (), "L2 norm", range=(0, None), scale="log")
    matrix = Record("far", ("layer", "layer_b"), range=(0, 2), distance="square")
    sink = ArraySink(tmp_path / "records.zarr", None)
    other = Axis("layer_b", LAYER.labels)
    sink.write(0, [share.of(np.ones(2), LAYER), size.of(np.ones(())), matrix.of(np.ones((2, 2)), LAYER, other)])
    sink.close()
    run = open_run(tmp_path)
    names = ("units", "valid_min", "valid_max", "scale", "distance")
    assert [run.share_of.attrs.get(name) for name in names] == ["share", 0, 1, "linear", None]
    assert [run.size.attrs.get(name) for name in names] == ["L2 norm", 0, None, "log", None]
    assert [run.far.attrs.get(name) for name in names] == ["1", 0, 2, "linear", "square"]


def test_kernels_go_on_in_a_store_that_has_no_axis_for_their_layer(tmp_path):
    sides = (Axis("filter", range(2)), Axis("channel", [0]), Axis("y", range(3)), Axis("x", range(3)))
    weights = np.random.default_rng(0).normal(size=(2, 2, 1, 3, 3)).astype(np.float32)
    sink = ArraySink(tmp_path / "records.zarr", None)
    sink.write(0, [Measurement("kernels", weights[0], sides, 0, "weight")])
    sink.close()
    sink = ArraySink(tmp_path / "records.zarr", 0)
    sink.write(1, [Measurement("kernels", weights[1:], (Axis("layer", ["a"]), *sides), 1, "weight")])
    with pytest.raises(ValueError, match="the same axes at every step"):
        sink.check(Measurement("kernels", weights, (LAYER, *sides), 1, "weight"))
    sink.close()
    np.testing.assert_array_equal(open_run(tmp_path).kernels.values, weights)
