"""What a store has committed, and the words for one that is not as it was written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from lightning_emerge.store.encode import quiet
from lightning_emerge.store.folder import Folder
from lightning_emerge.store.format import METADATA, PACKAGE, ForeignError, parse_group
from lightning_emerge.store.whole import WholeStore, zarr_store


def read_root(folder: Folder) -> dict[str, Any]:
    """Reads the group's metadata, as `read_whole`."""
    return read_whole(folder)[1]


def read_whole(folder: Folder) -> tuple[bytes, dict[str, Any]]:
    """Reads the group's metadata, as they are on disk and decoded; refuses those that were changed since."""
    raw = folder.read(METADATA)
    try:
        root = parse_group(raw)
        if "consolidated_metadata" not in root:
            raise ForeignError
    except ForeignError:
        raise ValueError(
            f"Records lie in a store that {PACKAGE} wrote; it did not write {folder}. Move that away, or name another."
        ) from None
    except ValueError as error:
        raise damaged(folder, error) from None  # it says all
    return raw, root


def read_array(folder: Folder, name: str) -> npt.NDArray[Any]:
    """Reads all of an array that is committed."""
    with quiet():
        store = WholeStore(zarr_store(folder), folder.read(METADATA))
        array: Any = zarr.open_group(store, mode="r", use_consolidated=True)[name]
        return np.asarray(array[:])


def read_metadata(folder: Folder, name: str) -> dict[str, Any] | None:
    """Reads the metadata that lie beside an array; None if they are missing or torn."""
    try:
        return json.loads(folder.read(f"{name}/{METADATA}"))
    except (FileNotFoundError, ValueError):
        return None


def check_codecs(name: str, array: Mapping[str, Any]) -> None:
    """Refuses an array whose chunks are not encoded as a run encodes them."""
    codecs = {codec["name"] for codec in array["codecs"]}
    if not codecs <= {"bytes", "vlen-utf8", "zstd"}:
        raise ValueError(f"{name} is stored as {sorted(codecs)}")


def damaged(folder: Folder, why: object) -> ValueError:
    """What is raised of a store that is not as it was written."""
    return ValueError(f"Records are read as they were written; those in {folder} are damaged: {why}. Move them away.")
