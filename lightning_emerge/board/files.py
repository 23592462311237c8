"""Reading files of a log directory, and of nothing outside of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from typing import Any

from lightning_emerge.board.refusal import damaged
from lightning_emerge.store.format import head
from lightning_emerge.store.places import is_url, open_place
from lightning_emerge.store.regular import read_far, read_regular

Stamp = tuple[Any, ...]
"""What changes when a file does."""

_DEPTH, _FOLDERS, _LINKS = 8, 20_000, 1000
_MOST_NAMES = 1_100_000


class Files:
    """Files of a log directory on this machine's disks, or behind any fsspec URL.

    Paths are relative to it, of names that were found in it or that the board knows: never of a request. Links that
    lead out of it, and what is no plain file, are refused.

    Args:
        root: the log directory.
    """

    def __init__(self, root: str) -> None:
        self.local = not is_url(root)
        self._files, path = open_place(root)
        self.root = os.path.realpath(path) if self.local else path.rstrip("/")

    def read(self, path: str, limit: int) -> bytes:
        """Reads a file.

        Args:
            path: of the file.
            limit: how many bytes it may have.

        Raises:
            FileNotFoundError: if it is not there.
            RefusedError: if it is larger, no plain file, or outside of the log directory.
        """
        try:
            if not self.local:
                return read_far(self._files, self._at(path), limit)
            return read_regular(self._inside(path), limit)
        except ValueError as error:
            raise damaged(f"{path} {error}") from error

    def stamp(self, path: str) -> Stamp | None:
        """What tells a file from what it was before; None if it is not there."""
        try:
            if not self.local:
                self._files.invalidate_cache()
                return (self._files.ukey(self._at(path)),)
            found = os.stat(f"{self.root}/{path}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def chunks(self, folder: str) -> set[str]:
        """What lies in the folder of an array, and in the folder `c` of one of version 0.1.0, as `c/7`.

        Raises:
            RefusedError: if that is more than any run has, or lies outside of the log directory.
        """
        found = self._names(folder)
        return found | {f"c/{name}" for name in (self._names(f"{folder}/c") if "c" in found else ())}

    def stamps(self, folder: str, names: list[str]) -> list[Stamp | None]:
        """The stamp of each of some chunks of an array, with one question where files are far away."""
        if self.local:
            found = self.chunks(folder)
            return [self.stamp(f"{folder}/{name}") if head(name) in found else None for name in names]
        self._files.invalidate_cache()
        infos = self._files.find(self._at(folder), detail=True)
        told = (infos.get(self._at(f"{folder}/{name}")) for name in names)
        return [None if info is None else (str(sorted(info.items(), key=str)),) for info in told]

    def _names(self, folder: str) -> set[str]:
        try:
            if not self.local:
                self._files.invalidate_cache()
                found = self._files.ls(self._at(folder), detail=False)
                return {str(path).rstrip("/").rpartition("/")[2] for path in found}
            with os.scandir(self._inside(folder)) as entries:
                names = {entry.name for entry in islice(entries, _MOST_NAMES + 1)}
        except (FileNotFoundError, NotADirectoryError):
            return set()
        if len(names) > _MOST_NAMES:
            raise damaged(f"{folder} holds more than {_MOST_NAMES} files")
        return names

    def links(self) -> dict[str, Files]:
        """By name, the folders that links in the log directory itself lead to, outside of it.

        Such a directory of links is how TensorBoard advises to show some runs of many. Links further down are not
        followed: they come with a run, and not from who opened the log directory.
        """
        found: dict[str, Files] = {}
        if not self.local or not os.path.isdir(self.root):
            return found
        with os.scandir(self.root) as entries:
            names = sorted(entry.name for entry in entries if entry.is_symlink())
        for name in names[:_LINKS]:
            real = os.path.realpath(self._at(name))
            around = real == self.root or _within(real, self.root) or _within(self.root, real)
            if os.path.isdir(real) and not around:
                found[name] = Files(real)
        return found

    def folders_with(self, name: str) -> Iterator[str]:
        """Finds folders that hold a folder of a name, the root as "". Links to such are named, and none is followed."""
        walk = os.walk(self.root) if self.local else self._files.walk(self.root, maxdepth=_DEPTH)
        for number, (home, folders, _) in enumerate(walk):
            path = str(home).rstrip("/").removeprefix(self.root).strip("/")
            if number >= _FOLDERS:
                return
            if name in folders:
                yield path
            if path and self.local:
                yield from (f"{path}/{one}" for one in folders if self._leads_to(f"{path}/{one}", name))
            folders[:] = sorted(n for n in folders if n != name) if path.count("/") < _DEPTH else []

    def _leads_to(self, path: str, name: str) -> bool:
        """Whether a path is a link out of the log directory to a folder with a folder of a name."""
        place = self._at(path)
        return (
            os.path.islink(place)
            and not _within(os.path.realpath(place), self.root)
            and os.path.isdir(f"{place}/{name}")
        )

    def _at(self, path: str) -> str:
        return f"{self.root}/{path}"

    def _inside(self, path: str) -> str:
        real = os.path.realpath(self._at(path))
        if not _within(real, self.root):
            raise damaged(f"{path} is a link that leads out of the log directory")
        return real


def _within(path: str, folder: str) -> bool:
    return path.startswith(f"{folder.rstrip('/')}/")
