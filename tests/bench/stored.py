"""Small records that tests of the store write and read."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import xarray as xr

from lightning_emerge.records import Axis, FloatArray, Measurement
from lightning_emerge.store.write import ArraySink

LAYER = Axis("layer", ["conv1_1", "fc1"])
STIMULUS = Axis("stimulus", ["dax/0", "wug/0", "wug/1"], notes={"token": ["dax", "wug", "wug"]})


def make(name: str, values: object, *axes: Axis, unit: str = "1", dtype: type = np.float32) -> Measurement:
    return Measurement(name, np.asarray(values, dtype=dtype), axes, 0, unit, "SomeProbe", f"About {name}")


def ratio(step: int) -> Measurement:
    return make("ratio", [step + 0.25, step + 0.5], LAYER)


def size(step: int) -> Measurement:
    return make("size", -step - 1, unit="L2 norm")


def rdm(step: int) -> Measurement:
    values = np.arange(18).reshape(2, 3, 3) + step / 8
    return make("rdm", values, LAYER, STIMULUS, Axis("stimulus_b", STIMULUS.labels), unit="1 - Pearson r")


def histogram(step: int) -> Measurement:
    return make("histogram", [[step, 1], [2, 3]], LAYER, Axis("bin", [-10, -9.75], "log10 of the magnitude"))


def read(store: Path) -> xr.Dataset:
    return xr.open_zarr(store).load()


def without_the_groups_copy(store: Path) -> xr.Dataset:
    return xr.open_zarr(store, consolidated=False).load()


def values(records: xr.Dataset, name: str) -> FloatArray:
    return records[name].values


def committed(store: Path) -> None:
    with closing(ArraySink(store, 0)) as sink:
        for step in range(3):
            sink.write(step, [ratio(step), rdm(step)])
