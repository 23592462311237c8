"""Whose a folder is: who may write a store there, and what of it a run may remove."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import numpy as np

from lightning_emerge.store.committed import read_array, read_root
from lightning_emerge.store.encode import declare
from lightning_emerge.store.folder import Folder
from lightning_emerge.store.format import METADATA, PACKAGE, TAKEN, seal

_ABOUT = (
    "Measurements of one training run. Every array has `step` (optimizer steps taken) as its first axis and one chunk "
    "a step; NaN fills the steps at which a measure was not taken. `taken` says at which rows each was taken."
)
_OURS = re.compile(
    r"zarr\.json|c(\.\d+)*|c(/\d+)+|"  # metadata and chunks, those of version 0.1.0 in folders of their own
    r"(c/(\d+/)*)?\.(zarr\.json|c[.\d]*|\d+)\.([0-9a-f]+\.)?new|"  # what a killed run left half written
    r"(c/(\d+/)*)?(zarr|c[.\d]*|\d+)\.\w+\.partial"
)
"""Paths in an array's folder that a run may have left, so that a later one may remove them."""


def check_store(path: str | Path, *, new: bool) -> None:
    """Looks whether a run could write its records, and writes nothing.

    Args:
        path: as for `ArraySink`.
        new: whether the run begins anew.

    Raises:
        ValueError: if another run writes there now, the store is damaged or not of this package, a link or files of
            others lie where it would be, or a new run would meet records of an earlier one.
    """
    folder = Folder(path)
    check_ours(folder)
    if not folder.exists(METADATA):
        return
    with said(folder):
        lock = folder.lock()
    try:
        if new:
            check_empty(folder)
    finally:
        if lock is not None:
            lock.release()


def check_empty(folder: Folder) -> None:
    """Refuses to begin a new run where an earlier one has left records; step 0 alone is no loss."""
    count = read_root(folder)["consolidated_metadata"]["metadata"]["step"]["shape"][0]
    if count > 1 or (count and read_array(folder, "step")[0] > 0):
        raise ValueError(
            f"A new run begins in a folder without records; {folder} has {count} steps of an earlier run. Go on with "
            "that run from its checkpoint, give this one another version or folder, or move the records away."
        )


def check_ours(folder: Folder) -> None:
    """Refuses a folder that is not ours to write to: a link, one with links in it, or neither empty nor a store."""
    names = folder.names()
    for link in [name for name in ("", *names) if folder.is_link(name)]:
        raise ValueError(
            f"A run's records lie in a folder of their own, without links; {folder}{'/' if link else ''}{link} is a "
            "link, and was left as it is. Move it away, or give the run another folder."
        )
    if METADATA not in names and not all(_OURS.fullmatch(name) for name in names):
        raise ValueError(
            f"A run's records begin in an empty folder; {folder} has {METADATA} no more, or never had, and holds "
            f"{len(names)} other files or folders, which were left as they are. Move them away, or give the run "
            "another folder."
        )


def is_others(folder: Folder, name: str) -> bool:
    """Whether somebody else has put what lies in a store under a name."""
    if not folder.exists(f"{name}/{METADATA}"):
        return folder.is_link(name)
    try:
        found = json.loads(folder.read(f"{name}/{METADATA}"))
        return "version" not in found["attributes"] and found["attributes"].get("units") != "optimizer steps"
    except (OSError, ValueError, KeyError, TypeError):  # a torn one, of a run that was killed
        return False


def clear(folder: Folder, name: str, kept: set[str]) -> None:
    """Removes an array's files but for some, and its folder if it is empty then."""
    if name == METADATA or _OURS.fullmatch(name):
        if name != METADATA and folder.exists(name):
            folder.remove(name)
        return
    for path in folder.files(name):
        if path not in kept and _OURS.fullmatch(path):
            folder.remove(f"{name}/{path}")
    folder.prune(name)


@contextmanager
def said(folder: Folder) -> Iterator[None]:
    """Says of a disk that fails which rule it breaks, and what to do."""
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"A run's records are written to {folder}, which cannot be written ({error.strerror or error}). "
            "Free space there, or give the run another folder.",
        ) from error


def create(folder: Folder) -> None:
    """Makes a store with no steps in it, whole as soon as its only file is there; what it needs else is swept in."""
    files = declare("step", ["step"], {"units": "optimizer steps"}, shape=(0,), chunks=(1,), dtype=np.int64)
    about = {"package": PACKAGE, "version": version(PACKAGE), "about": _ABOUT, "coordinates": "", TAKEN: {}}
    members = {"step": json.loads(files[f"step/{METADATA}"])}
    consolidated = {"kind": "inline", "must_understand": False, "metadata": members}
    folder.put(METADATA, seal({"attributes": about, "consolidated_metadata": consolidated}))
