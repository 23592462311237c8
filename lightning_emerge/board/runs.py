"""The runs of a log directory that have records."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Any

from lightning_emerge.board.cache import Cache
from lightning_emerge.board.files import Files, Stamp
from lightning_emerge.board.refusal import RefusedError, damaged
from lightning_emerge.board.store import Numbers, Records
from lightning_emerge.store.format import METADATA
from lightning_emerge.store.layout import STORE, THUMBNAIL_TABLE, THUMBNAILS, TIMELINE

_MOST_RUNS, _KEPT = 1000, 24 << 20
_MOST_SPRITE, _MOST_JSON = 1 << 25, 1 << 22
_EMBEDDING = "embedding"
_NUMBERS = re.compile(r"(\D*)0*(\d*)", re.ASCII)


@dataclass(frozen=True)
class Place:
    """Where a run is: its folder in one of the log directories."""

    files: Files
    folder: str

    def path(self, name: str) -> str:
        """Path of a file in the run's folder."""
        return f"{self.folder}/{name}" if self.folder else name


class Runs:
    """Finds runs, and opens their records anew when there is more of them.

    Args:
        folders: log directories, by the beginning of their runs' names, which is "" for a single one.
    """

    def __init__(self, folders: dict[str, str]) -> None:
        self._folders = {prefix: Files(folder) for prefix, folder in folders.items()}
        self._places: dict[str, Place] | None = None
        self._stores: dict[str, tuple[Stamp, Records]] = {}
        self._chunks: Cache[Numbers] = Cache(_KEPT)
        self._lock = Lock()

    def scan(self) -> list[str]:
        """Looks for runs, and gives their names as TensorBoard has them, `version_10` after `version_9`."""
        found: dict[str, Place] = {}
        for prefix, files in self._log_directories():
            folders = list(files.folders_with(STORE))
            # What `embed_run` leaves is of the run in whose folder it lies.
            made = {f"{folder}/{_EMBEDDING}".lstrip("/") for folder in folders}
            for folder in folders[:_MOST_RUNS]:
                if folder not in made:
                    found["/".join(part for part in (prefix, folder) if part) or "."] = Place(files, folder)
        self._places = {name: found[name] for name in sorted(found, key=_by_numbers)}
        return list(self._places)

    def _log_directories(self) -> Iterator[tuple[str, Files]]:
        """The log directories, and the folders that links in them lead to."""
        for prefix, files in self._folders.items():
            yield prefix, files
            for name, linked in files.links().items():
                yield "/".join(part for part in (prefix, name) if part), linked

    def any(self) -> bool:
        """Whether there are runs; log directories that are far away are not asked."""
        near = all(files.local for files in self._folders.values())
        return bool(self._places or (near and self.scan()))

    def place(self, name: str) -> Place:
        """Where a run is.

        Raises:
            RefusedError: if there is no such run.
        """
        places = self._places
        if places is None:
            self.scan()
            places = self._places or {}
        if name not in places:
            raise RefusedError(404, "There is no such run in the log directory.")
        return places[name]

    def open(self, name: str) -> Records:
        """Opens the records of a run; the same as before unless steps were committed since.

        Raises:
            RefusedError: if there is no such run, or its records are damaged.
        """
        place = self.place(name)
        stamp = place.files.stamp(path := f"{place.path(STORE)}/{METADATA}")
        if stamp is None:
            raise damaged(f"there is no {path}")
        with self._lock:
            before, store = self._stores.get(name, ((), None))
        if store is None or before != stamp:
            store = Records(place.files, place.path(STORE), self._chunks)
            with self._lock:
                self._stores[name] = (stamp, store)
        return store

    def events(self, name: str) -> list[dict[str, Any]]:
        """Rows of the run's timeline; none before it has one."""
        table = self._json(name, TIMELINE)
        rows = table.get("events", []) if isinstance(table, dict) else []
        return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []

    def has_sprite(self, name: str) -> bool:
        """Whether a fit has left pictures of the stimuli."""
        place = self.place(name)
        return all(place.files.stamp(place.path(file)) is not None for file in (THUMBNAILS, THUMBNAIL_TABLE))

    def sprite(self, name: str) -> tuple[bytes, tuple[int, int, int]]:
        """The PNG of the run's stimuli; and its columns, and the width and height of each picture in pixels.

        Raises:
            RefusedError: if the run has none.
        """
        place, table = self.place(name), self._json(name, THUMBNAIL_TABLE)
        given = [table.get(key) for key in ("columns", "width", "height")] if isinstance(table, dict) else []
        numbers = [number for number in given if type(number) is int and number > 0]
        try:
            picture = place.files.read(place.path(THUMBNAILS), _MOST_SPRITE)
        except OSError:
            picture = b""
        if not picture.startswith(b"\x89PNG\r\n\x1a\n") or len(numbers) < 3:
            raise RefusedError(
                404, "This run has no pictures of its stimuli; a fit whose probes look at the bank leaves them."
            )
        columns, width, height = numbers
        return picture, (columns, width, height)

    def _json(self, name: str, file: str) -> Any:
        place = self.place(name)
        try:
            return json.loads(place.files.read(place.path(file), _MOST_JSON), parse_constant=lambda _: None)
        except (OSError, ValueError, RecursionError):
            return None


def _by_numbers(name: str) -> tuple[list[tuple[str, int, str]], str]:
    """What names are sorted by: numbers in them count by their size."""
    return [(words, len(number), number) for words, number in _NUMBERS.findall(name)], name
