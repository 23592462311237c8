"""Reading files of a log directory, and of nothing outside of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Any

from fsspec.core import url_to_fs  # pyright: ignore[reportMissingTypeStubs]
from fsspec.implementations.local import LocalFileSystem  # pyright: ignore[reportMissingTypeStubs]

from lightning_emerge.board.refusal import damaged

Stamp = tuple[Any, ...]
"""What changes when a file does."""

_DEPTH, _FOLDERS = 8, 20_000


class Files:
    """Files of a log directory on this machine's disks, or behind any fsspec URL.

    Paths are relative to it, of names that were found in it or that the board knows: never of a request. Links that
    lead out of it, and what is no plain file, are refused.

    Args:
        root: the log directory.
    """

    def __init__(self, root: str) -> None:
        self._files, path = url_to_fs(root)
        self.local = isinstance(self._files, LocalFileSystem)
        self.root = os.path.realpath(path) if self.local else str(path).rstrip("/")

    def read(self, path: str, limit: int) -> bytes:
        """Reads a file.

        Args:
            path: of the file.
            limit: how many bytes it may have.

        Raises:
            FileNotFoundError: if it is not there.
            RefusedError: if it is larger, no plain file, or outside of the log directory.
        """
        if not self.local:
            size = self._files.size(self._at(path))
            if size is None or size > limit:
                raise damaged(f"{path} has {size} bytes, of {limit} at most")
            return bytes(self._files.cat_file(self._at(path)))
        # Not blocking, as opening a pipe would wait for its writer.
        number = os.open(self._inside(path), os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(number, "rb") as file:
            found = os.fstat(number)
            if not stat.S_ISREG(found.st_mode):
                raise damaged(f"{path} is no plain file")
            if found.st_size > limit:
                raise damaged(f"{path} has {found.st_size} bytes, of {limit} at most")
            return file.read(found.st_size)

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

    def stamps(self, folder: str, names: list[str]) -> list[Stamp | None]:
        """The stamp of each of some files of one folder, with one question where files are far away."""
        if self.local:
            return [self.stamp(f"{folder}/{name}") for name in names]
        self._files.invalidate_cache()
        found = self._files.find(self._at(folder), detail=True)
        told = (found.get(self._at(f"{folder}/{name}")) for name in names)
        return [None if info is None else (str(sorted(info.items(), key=str)),) for info in told]

    def folders_with(self, name: str) -> Iterator[str]:
        """Finds folders that hold a folder of a name, the root as ""; links are not followed."""
        walk = os.walk(self.root) if self.local else self._files.walk(self.root, maxdepth=_DEPTH)
        for number, (home, folders, _) in enumerate(walk):
            path = str(home).rstrip("/").removeprefix(self.root).strip("/")
            if number >= _FOLDERS:
                return
            if name in folders:
                yield path
            folders[:] = sorted(n for n in folders if n != name) if path.count("/") < _DEPTH else []

    def _at(self, path: str) -> str:
        return f"{self.root}/{path}"

    def _inside(self, path: str) -> str:
        real = os.path.realpath(self._at(path))
        if not real.startswith(f"{self.root.rstrip('/')}/"):
            raise damaged(f"{path} is a link that leads out of the log directory")
        return real
