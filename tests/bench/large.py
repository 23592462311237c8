"""The large case of the Emerge tab: a run of 500 looks, 16 layers and 250 stimuli, among 50 runs."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr

import lightning_emerge as le
from lightning_emerge.store.format import TAKEN, seal
from lightning_emerge.store.write import ArraySink

LOOKS, LAYERS, STIMULI, RUNS = 500, 16, 250, 50
_TOKENS = ("dax", "wug", "blick", "fep", "toma")
_DISTINCT = 12
"""Looks that are made; the files of the others are links to theirs, as disks are small and writing takes long."""


def make_large_runs(folder: Path) -> Path:
    """Makes the log directory: `large`, and `small_01` to `small_49` with two looks at small measures.

    Returns:
        The folder.
    """
    large, small = folder / "large", folder / "small_01"
    _write(large, _DISTINCT, all_of_it=True)
    _grow(large / "records.zarr")
    _write(small, 2, all_of_it=False)
    for number in range(2, RUNS):
        shutil.copytree(small, folder / f"small_{number:02}")
    return folder


def _write(folder: Path, looks: int, *, all_of_it: bool) -> None:
    random = np.random.default_rng(0)
    sink = ArraySink(folder / "records.zarr", None)
    for look in range(looks):
        step = look * LOOKS // looks
        sink.write(step, [*_small(step, random), *(_large(step, random) if all_of_it else ())])
    sink.close()


def _grow(store: Path) -> None:
    """Gives a store all of its looks."""
    root = json.loads((store / "zarr.json").read_text())
    for name, array in root["consolidated_metadata"]["metadata"].items():
        if array["dimension_names"][0] == "step":
            array["shape"][0] = LOOKS
            (store / name / "zarr.json").write_text(json.dumps(array))
            for number in range(_DISTINCT, LOOKS) if name != "step" else ():
                rest = ".0" * (len(array["shape"]) - 1)
                os.link(store / name / f"c.{number * _DISTINCT // LOOKS}{rest}", store / name / f"c.{number}{rest}")
    steps: Any = zarr.open_array(store, path="step", mode="r+")
    steps[1:] = np.arange(1, LOOKS)  # Zarr would remove a chunk of zeros
    root["attributes"][TAKEN] = {name: [[0, LOOKS, 1]] for name in root["attributes"][TAKEN]}
    (store / "zarr.json").write_bytes(seal(root))


def _layers() -> le.Axis:
    return le.Axis("layer", [f"conv{k}" for k in range(LAYERS)])


def _large(step: int, random: np.random.Generator) -> Iterator[le.Measurement]:
    notes = {"token": [_TOKENS[k * len(_TOKENS) // STIMULI] for k in range(STIMULI)]}
    ids = [f"bank/{k:06}" for k in range(STIMULI)]
    pair = (le.Axis("stimulus", ids, notes=notes), le.Axis("stimulus_b", ids))
    points = random.normal(size=(LAYERS, STIMULI, 8)) + step / 250 * np.repeat(np.eye(8)[:5], STIMULI // 5, axis=0)
    unit = points / np.linalg.norm(points, axis=-1, keepdims=True)
    apart = np.sqrt(np.maximum(((points[:4, :, None] - points[:4, None]) ** 2).mean(-1), 0))
    filters, token = le.Axis("filter", range(504)), le.Axis("token", _TOKENS)
    exemplar, few = le.Axis("exemplar", [1, 2, 3, 4]), le.Axis("filter", range(8))
    four = le.Axis("layer", [f"conv{k}" for k in (1, 5, 9, 15)])
    pairs = le.Axis("pair", [f"conv{k} > conv{k + 1}" for k in range(12)])
    sides = tuple(le.Axis(name, range(size)) for name, size in (("channel", 3), ("y", 24), ("x", 24)))
    ends = (le.Axis("filter_out", range(128)), le.Axis("filter_in", range(128)))
    for name, values, axes, measured in (
        ("rdm", 1 - unit @ unit.transpose(0, 2, 1), (_layers(), *pair), "1 - Pearson r"),
        ("distances", apart, (four, *pair), "RMS over units"),
        ("class_selectivity", random.uniform(size=(LAYERS, 504)), (_layers(), filters), "1"),
        ("filter_response", random.uniform(size=(LAYERS, 504, 5)), (_layers(), filters, token), "activation"),
        ("top_activation", random.uniform(size=(LAYERS, 504, 4)), (_layers(), filters, exemplar), "activation"),
        ("top_crop", random.uniform(size=(LAYERS, 8, 4, 3, 24, 24)), (_layers(), few, exemplar, *sides), "share"),
        ("coupling_effective", random.normal(size=(12, 128, 128)), (pairs, *ends), "standard deviations of the null"),
    ):
        kind = np.float16 if name == "top_crop" else np.float32
        yield le.Measurement(name, values.astype(kind), axes, step, measured, about=f"made-up {name}")


def _small(step: int, random: np.random.Generator) -> Iterator[le.Measurement]:
    token, known = le.Axis("token", _TOKENS), 1 / (1 + np.exp((np.arange(5) * 60 + 100 - step) / 20))
    for name, unit in (("bank_accuracy", "share"), ("bank_confidence", "probability")):
        yield le.Measurement(name, known.astype(np.float32), (token,), step, unit, about=f"made-up {name}")
    for number in range(20):
        values = random.uniform(size=LAYERS).astype(np.float32)
        yield le.Measurement(f"layers_{number:02}", values, (_layers(),), step, "1", about="made-up layers")
