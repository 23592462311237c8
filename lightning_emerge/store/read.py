"""Reading a run's records."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_emerge.store.committed import damaged, read_whole
from lightning_emerge.store.encode import quiet
from lightning_emerge.store.folder import Folder
from lightning_emerge.store.format import CHECK, METADATA, TAKEN, check_count, chunk_path, find_missing_step, is_stepped
from lightning_emerge.store.layout import STORE
from lightning_emerge.store.whole import WholeStore, zarr_store

if TYPE_CHECKING:
    import xarray as xr

_MOST_VALUES = 1 << 28


def open_run(path: str | Path) -> xr.Dataset:
    """Opens a run's records, lazily; a run that is still being written shows the steps that are complete.

    Args:
        path: the run's folder, or the store in it; or an fsspec URL of one of them.

    Returns:
        One variable a measure with axes (step, ...), its unit in the attribute `units`, and what its probe was
        made with in `probe`.

    Raises:
        FileNotFoundError: if there are no records.
        ValueError: if they are damaged, or not of this package.
    """
    import xarray as xr  # a quarter of a second that a fit does not need before its first batch

    url = str(path).rstrip("/")
    folder = Folder(url if url.rsplit("/", 1)[-1] == STORE else f"{url}/{STORE}")
    if not folder.exists(METADATA):
        raise FileNotFoundError(f"A run's folder holds {STORE}, which its probes write; there is none in {path}.")
    raw, root = read_whole(folder)
    _check_claims(folder, root)
    try:
        with quiet():
            store = WholeStore(zarr_store(folder), raw)  # what was checked, if a run goes on meanwhile
            records = xr.open_zarr(store, zarr_format=3, consolidated=True)
    except Exception as error:  # what a damaged store raises is not known
        raise damaged(folder, error) from None  # it says all
    steps = records.step.values if "step" in records.coords else np.empty(0)
    if not (np.diff(steps) > 0).all():
        raise damaged(folder, f"its steps are {steps.tolist()}")
    for key in (TAKEN, CHECK):
        records.attrs.pop(key, None)
    return records


def _check_claims(folder: Folder, root: Mapping[str, Any]) -> None:
    """Compares what a store, which may be a stranger's, says of its size with what is there: room is made for it."""
    try:
        found = root["consolidated_metadata"]["metadata"]
        check_count(found)
        for name, array in found.items():
            values = prod(array["shape"][1:] if is_stepped(array) else array["shape"])
            if values > _MOST_VALUES:
                raise ValueError(f"{name} says that it has {values} values at once, of {_MOST_VALUES} at most")
        if folder.local:
            _check_steps(folder, found["step"], all_written=TAKEN in root["attributes"])
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise damaged(folder, error) from None


def _check_steps(folder: Folder, steps: Mapping[str, Any], *, all_written: bool) -> None:
    # In stores of version 0.1.0 chunks lie in a folder of their own.
    there = {*folder.names("step"), *(f"c/{name}" for name in folder.names("step/c"))}
    missing = find_missing_step(lambda row: chunk_path(steps, row), steps["shape"][0], there, all_written=all_written)
    if missing is not None:
        raise ValueError(f"step/{missing} is missing")
