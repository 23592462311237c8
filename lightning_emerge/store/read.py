"""Reading a run: its records as xarray has them, strictly, and `Run`, which reads round what is torn."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_emerge.store.committed import damaged, read_whole
from lightning_emerge.store.encode import quiet
from lightning_emerge.store.folder import Folder
from lightning_emerge.store.format import CHECK, METADATA, TAKEN, check_count, chunk_path, find_missing_step, is_stepped
from lightning_emerge.store.inline import show_run, to_html
from lightning_emerge.store.layout import CONFIG, FIT, STORE
from lightning_emerge.store.regular import parse_json, parse_yaml, read_within
from lightning_emerge.store.whole import WholeStore, zarr_store

if TYPE_CHECKING:
    import xarray as xr

_MOST_VALUES = 1 << 28
_MOST = {CONFIG: 1 << 18, FIT: 1 << 20}
"""Bytes that a file may have; a fit writes some thousands. YAML is read at some 100 kB a second."""


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


class Run:
    """What lies in the folder of one run, opened once. Steps that are committed later are not seen.

    What of its records is torn or missing on disk costs the step at which it was written, and nothing else: it is left
    out and said once, in `trouble` and as a warning.

    Args:
        path: the run's folder, or the store in it; or an fsspec URL of one of them.
        name: what sentences and pictures call it; the path if none is given.
        forgiving: whether records that are not there or cannot be opened are empty ones, and nothing is warned of:
            whoever asks for that shows `trouble`.

    Attributes:
        folder: the run's, as it was given.
        name: what it is called.
        group: what runs of its configuration are called together, where several are compared.
        records: what its probes recorded, read when it is asked for; an error where it is torn.
        trouble: sentences that say what could not be read.

    Raises:
        FileNotFoundError: if there are no records, unless it is forgiving.
        ValueError: if they are damaged, or not of this package, unless it is forgiving.
    """

    def __init__(self, path: str | Path, name: str = "", *, forgiving: bool = False) -> None:
        self.folder = (str(path).rstrip("/") or "/").removesuffix(f"/{STORE}")
        self.name, self.group = name or self.folder, ""
        self.trouble: list[str] = []
        self._forgiving = forgiving
        self.records = self._open(path) if forgiving else open_run(path)

    def __str__(self) -> str:
        return self.folder

    @classmethod
    def of(cls, run: str | Path | Run) -> Run:
        """A run that is open already, or the one in a folder.

        Raises:
            FileNotFoundError: if there are no records.
            ValueError: if they are damaged, or not of this package.
        """
        return run if isinstance(run, Run) else cls(run)

    @cached_property
    def config_text(self) -> str:
        """Its configuration as it is on disk; empty if there is none."""
        return self._text(CONFIG)

    @cached_property
    def config(self) -> Mapping[str, Any]:
        """Its configuration, plain values that nothing is made of; empty if there is none."""
        return self._parse(self.config_text, CONFIG)

    @cached_property
    def fit(self) -> Mapping[str, Any]:
        """What a fit that ended has kept of itself; empty if none has."""
        return self._parse(self._text(FIT), FIT)

    @property
    def steps(self) -> list[int]:
        """The steps that are on record."""
        return self.records.step.values.tolist() if "step" in self.records.coords else []

    @property
    def ended(self) -> bool:
        """Whether its fit has ended, and nothing was recorded since."""
        return "step" in self.fit and int(self.fit["step"]) >= max(self.steps, default=0)

    @property
    def tokens(self) -> list[str]:
        """The names of its tokens, as far as a probe has recorded any."""
        return words(self.records.token) if "token" in self.records.coords else []

    def read(
        self, name: str, steps: Sequence[int] | None = None, chosen: Mapping[str, Any] | None = None
    ) -> xr.DataArray | None:
        """Reads a record at the steps at which it was taken.

        Args:
            name: of the record.
            steps: to read, of those that are on record; all of them if none are given.
            chosen: labels by axis, as xarray's `sel` takes them.

        Returns:
            Values (step, ...), or None if it was never taken, or nothing of it can be read.
        """
        if name not in self.records or not self.steps:
            return None
        wanted = self.records[name].sel(chosen) if chosen else self.records[name]
        found = self._load(wanted if steps is None else wanted.sel(step=list(steps))).dropna("step", how="all")
        return found if found.sizes["step"] else None

    def read_together(self, names: Sequence[str]) -> xr.Dataset:
        """Reads records at the steps at which any of them was taken and all of them can be read.

        Args:
            names: of the records; those that there are not are left out.
        """
        import xarray as xr

        found = {name: self._load(self.records[name]) for name in names if name in self.records}
        shared = [step for step in self.steps if all(step in own.step for own in found.values())]
        together = xr.Dataset({name: own.sel(step=shared) for name, own in found.items()})
        return together.dropna("step", how="all") if found else together

    def at(self, name: str, step: int) -> xr.DataArray | None:
        """Values of a record at one step, all NaN if it was not taken; None if it is not there or cannot be read."""
        if name not in self.records or step not in self.steps:
            return None
        found = self._load(self.records[name].sel(step=[step]))
        return found.isel(step=0) if found.sizes["step"] else None

    def last(self, name: str) -> xr.DataArray | None:
        """The record at the last step at which it was taken, without the axis of steps but with its coordinate."""
        for step in reversed(self.steps):
            found = self.read(name, [step])
            if found is not None:
                return found.isel(step=-1)
        return None

    def show(self) -> None:
        """Shows in a notebook what this run is, and the pictures that lie in its folder.

        Raises:
            ImportError: if IPython is not installed.
        """
        show_run(self)

    def _repr_html_(self) -> str:
        return to_html(self)

    def say(self, sentence: str) -> None:
        """Notes something that could not be read, once."""
        if sentence in self.trouble:
            return
        self.trouble.append(sentence)
        if not self._forgiving:
            warnings.warn(sentence, stacklevel=3)

    def _load(self, wanted: xr.DataArray) -> xr.DataArray:
        try:
            return wanted.load()
        except Exception:  # what a torn chunk raises is not known
            return self._mend(wanted)

    def _mend(self, wanted: xr.DataArray) -> xr.DataArray:
        """Reads step after step, and leaves out those that cannot be read."""
        wanted = wanted.drop_vars([note for note in wanted.coords if self._is_torn(wanted, note)])
        whole: list[int] = []
        torn: list[str] = []
        for number, step in enumerate(wanted.step.values.tolist()):
            try:
                wanted.isel(step=[number]).load()
                whole.append(number)
            except Exception:
                torn.append(str(step))
        if torn:
            self.say(f"`{wanted.name}` of {self.name} is torn at step {', '.join(torn)}, which is left out.")
        return wanted.isel(step=whole).load()

    def _is_torn(self, values: xr.DataArray, note: Hashable) -> bool:
        """Whether what is noted of an axis cannot be read; axes themselves are read when records are opened."""
        try:
            values[note].variable.load()
        except Exception:
            self.say(f"`{note}` of {self.name} is torn, and is left out.")
            return True
        return False

    def _open(self, path: str | Path) -> xr.Dataset:
        import xarray as xr

        try:
            return open_run(path)
        except FileNotFoundError:
            self.say(f"{self.name} has no records: no probe has looked, or the run ended before its first look.")
        except Exception as error:  # what a stranger's store raises is not known
            self.say(f"The records of {self.name} cannot be read. {error}")
        return xr.Dataset()

    def _text(self, file: str) -> str:
        try:
            return read_within(self.folder, file, _MOST[file]).decode()
        except FileNotFoundError:
            if file == CONFIG:  # a fit that has not ended has none of the other, and the sections say so
                self.say(f"{self.name} has no {file}, which `lightning fit` writes.")
        except (OSError, UnicodeDecodeError) as error:
            self.say(f"{file} of {self.name} cannot be read: {error}.")
        except ValueError as error:
            self.say(f"{file} of {self.name} cannot be read: it {error}.")
        return ""

    def _parse(self, text: str, file: str) -> Mapping[str, Any]:
        if not text:
            return {}
        try:
            found = parse_json(text) if file == FIT else parse_yaml(text)
        except ValueError as error:
            self.say(f"{file} of {self.name} cannot be read: {error}.")
            return {}
        return found if isinstance(found, dict) else {}


def words(labels: xr.DataArray) -> list[str]:
    """Gives labels as text."""
    return [str(label) for label in labels.values]
