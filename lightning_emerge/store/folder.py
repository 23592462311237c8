"""A folder on this machine's disks, or behind any fsspec URL."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any, Protocol

from filelock import FileLock, Timeout

from lightning_emerge.store.places import is_url, open_place
from lightning_emerge.store.regular import read_regular

_MOST = 1 << 30
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Lock(Protocol):
    """What keeps others out until it is released, or the process ends."""

    def release(self) -> None: ...


class Folder:
    """Reads and writes whole files of one folder, and none that a link in it leads to.

    Args:
        path: of the folder, taken literally, or an fsspec URL such as `s3://bucket/run/records.zarr`.
    """

    def __init__(self, path: str | Path) -> None:
        self.url, self.local = str(path), not is_url(path)
        self._files, self.root = open_place(path)

    def __str__(self) -> str:
        return self.root if self.local else self.url

    def read(self, name: str) -> bytes:
        """Reads a file.

        Raises:
            FileNotFoundError: if it is not there.
            ValueError: if it is no plain file, such as a pipe, or too large to be one of a store.
        """
        if not self.local:
            return bytes(self._files.cat_file(self._at(name)))
        return read_regular(os.path.realpath(self._at(name)), _MOST)

    def put(self, name: str, content: bytes, *, make: bool = True) -> None:
        """Writes a file so that a reader finds either the old one or the new one, whole.

        Args:
            name: its path in the folder.
            content: what it is to hold.
            make: whether folders that it lies in are made if they are not there.

        Raises:
            OSError: if it cannot be written, or a folder in this one that it lies in is a link.
        """
        if not self.local:
            self._files.pipe_file(self._at(name), content)  # object stores show a file when all of it is there
            return
        *within, name = name.split("/")
        new = f".{name}.{token_hex(8)}.new"
        with self._opened(within, make) as home:
            number = os.open(new, _NEW, 0o666, dir_fd=home)  # outside: what was there before is not ours to remove
            try:
                with open(number, "wb") as file:
                    file.write(content)
                os.replace(new, name, src_dir_fd=home, dst_dir_fd=home)
            except BaseException:
                with suppress(OSError):
                    os.unlink(new, dir_fd=home)
                raise

    @contextmanager
    def _opened(self, within: Sequence[str], make: bool) -> Iterator[int]:
        """Opens a folder in this one, link by link, so that nobody can lead it astray."""
        if make:
            os.makedirs(self.root, exist_ok=True)
        number = os.open(self.root, _FOLDER)
        try:
            for part in within:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(part, dir_fd=number)
                inner = os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=number)
                os.close(number)
                number = inner
            yield number
        finally:
            os.close(number)

    def names(self, name: str = "") -> list[str]:
        """Names of what lies in the folder, or in one in it; none if it is not there."""
        try:
            if self.local:
                return sorted(os.listdir(self._at(name)))
            self._files.invalidate_cache()
            found = self._files.ls(self._at(name), detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(str(path).rstrip("/").rsplit("/", 1)[-1] for path in found)

    def files(self, name: str) -> list[str]:
        """Paths in a folder in this one of all files below it; links count as files and are not followed."""
        home = self._at(name)
        if not self.local:
            self._files.invalidate_cache()
            return sorted(str(path).removeprefix(home).strip("/") for path in self._files.find(home))
        found: list[str] = []
        for place, folders, files in os.walk(home):
            links = [folder for folder in folders if os.path.islink(os.path.join(place, folder))]
            found += [os.path.relpath(os.path.join(place, file), home) for file in (*files, *links)]
        return sorted(found)

    def exists(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return os.path.isfile(self._at(name)) if self.local else bool(self._files.isfile(self._at(name)))

    def is_link(self, name: str = "") -> bool:
        """Whether a name in the folder, or the folder's own, is that of a link."""
        return self.local and os.path.islink(self._at(name))

    def remove(self, name: str) -> None:
        """Removes a file; of a link, the link."""
        if self.local:
            os.unlink(self._at(name))
        else:
            self._files.rm_file(self._at(name))

    def prune(self, name: str) -> None:
        """Removes the folders below one in this one, and that, as far as there is nothing in them."""
        if not self.local:  # folders that are empty are none there
            return
        for place, _, _ in os.walk(self._at(name), topdown=False):
            with suppress(OSError):
                os.rmdir(place)

    def lock(self) -> Lock | None:
        """Keeps other runs out of the folder; None where there are no locks, as behind a URL.

        Raises:
            ValueError: if another run keeps it.
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
            raise ValueError(
                f"One run at a time writes to a folder; another is writing {self.url} now. Wait for it, or give this "
                "run another version or folder."
            ) from None
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise
            return None
        return lock

    def _at(self, name: str) -> str:
        return f"{self.root}/{name}" if name else self.root
