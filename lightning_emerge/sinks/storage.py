"""A folder on this machine's disks, or behind any fsspec URL."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout
from fsspec.implementations.local import LocalFileSystem  # pyright: ignore[reportMissingTypeStubs]
from zarr.abc.store import Store
from zarr.storage import FsspecStore, LocalStore

from lightning_emerge.sinks.places import open_place
from lightning_emerge.sinks.reading import PlainStore
from lightning_emerge.sinks.regular import read_regular

_MOST = 1 << 30
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


class Lock(Protocol):
    """What keeps others out until it is released, or the process ends."""

    def release(self) -> None: ...


class Folder:
    """Reads and writes whole files of one folder.

    Args:
        path: of the folder, or an fsspec URL such as `s3://bucket/run/records.zarr`.
    """

    def __init__(self, path: str | Path) -> None:
        self.url = str(path)
        self._files, self.root = open_place(self.url)
        self.local = isinstance(self._files, LocalFileSystem)

    def __str__(self) -> str:
        return self.root if self.local else self.url

    def read(self, name: str) -> bytes:
        """Reads a file.

        Raises:
            FileNotFoundError: if it is not there.
            ValueError: if it is no plain file, or too large to be one of a store.
        """
        if self.local:
            return read_regular(os.path.realpath(self._at(name)), _MOST)
        return bytes(self._files.cat_file(self._at(name)))

    def put(self, name: str, content: bytes) -> None:
        """Writes a file so that a reader finds either the old one or the new one, whole."""
        path = self._at(name)
        if not self.local:
            self._files.pipe_file(path, content)  # object stores show a file when all of it is there
            return
        home, name = os.path.split(path)
        new = f"{home}/.{name}.new"
        try:
            os.makedirs(home, exist_ok=True)
            with open(new, "wb") as file:
                file.write(content)
            os.replace(new, path)
        except OSError:
            with suppress(OSError):
                os.unlink(new)
            raise

    def names(self, name: str = "") -> list[str]:
        """Names of what lies in the folder, or in one in it; none if it is not there."""
        try:
            self._files.invalidate_cache()
            found = self._files.ls(self._at(name), detail=False)
        except FileNotFoundError:
            return []
        return sorted(str(path).rstrip("/").rsplit("/", 1)[-1] for path in found)

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return bool(self._files.isfile(self._at(name)))

    def remove(self, name: str = "") -> None:
        """Removes a file, a folder with all that is in it, or this folder."""
        self._files.rm(self._at(name), recursive=True)

    def store(self, *, read_only: bool = False) -> Store:
        """The folder as Zarr sees it."""
        if self.local:
            return PlainStore(self.root, read_only=True) if read_only else LocalStore(self.root)
        return FsspecStore.from_url(self.url, read_only=read_only)

    def lock(self) -> Lock | None:
        """Keeps other runs out of the folder; None where there are no locks, as behind a URL.

        Raises:
            BlockingIOError: if another run keeps it.
            OSError: if the folder beside which the lock lies cannot be written.
        """
        if not self.local:
            return None
        home = Path(self.root)
        home.parent.mkdir(parents=True, exist_ok=True)
        # The system releases it when the process ends, however it ends.
        lock: Any = FileLock(home.with_name(f".{home.name}.lock"), timeout=0, thread_local=False)
        try:
            lock.acquire()
        except Timeout:
            raise BlockingIOError(errno.EWOULDBLOCK, "another run writes there", str(self)) from None
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise
            return None
        return lock

    def _at(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root
