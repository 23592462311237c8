"""A store as readers are to see it: what was written and is not there is an error, not a number."""

from __future__ import annotations

import json
import os
import stat
from typing import Any

from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import FsspecStore, LocalStore, WrapperStore

from lightning_emerge.store.folder import Folder
from lightning_emerge.store.format import METADATA, TAKEN, has_row

_MOST = 1 << 31


def zarr_store(folder: Folder) -> Store:
    """A folder as Zarr reads it."""
    return PlainStore(folder.root, read_only=True) if folder.local else FsspecStore.from_url(folder.url, read_only=True)


class PlainStore(LocalStore):
    """Reads plain files of limited size: Zarr's own store waits for ever at a pipe, and reads devices without end."""

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        self._check(key)
        return await super().get(key, prototype, byte_range)

    def get_sync(
        self, key: str, *, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        self._check(key)
        return super().get_sync(key, prototype=prototype, byte_range=byte_range)

    def _check(self, key: str) -> None:
        try:
            found = os.stat(self.root / key)
        except OSError:  # it is not there, which is for the caller to find
            return
        plain = stat.S_ISREG(found.st_mode) and found.st_size <= _MOST
        if not plain and not stat.S_ISDIR(found.st_mode):
            raise ValueError(f"{key} is no plain file of {_MOST} bytes at most")


class WholeStore(WrapperStore[Store]):
    """A store whose missing chunks are refused where its metadata say that something was written.

    Zarr takes a missing chunk for one full of the fill value, so that a loss would read as "not measured".

    Args:
        store: to read from.
        root: the group's metadata; readers keep to these if the run goes on meanwhile.
    """

    def __init__(self, store: Store, root: bytes) -> None:
        super().__init__(store)
        self._metadata = root
        group = json.loads(root)
        self._taken: dict[str, Any] | None = group["attributes"].get(TAKEN)
        self._arrays: dict[str, Any] = group["consolidated_metadata"]["metadata"]

    def _with_store(self, store: Store) -> WholeStore:
        return WholeStore(store, self._metadata)

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        if key == METADATA:
            return prototype.buffer.from_bytes(self._metadata)
        due = self._is_due(key)
        if due is False:
            return None
        found = await self._store.get(key, prototype, byte_range)
        if found is None and due:
            raise ValueError(f"Records are read as they were written; {key} is missing.")
        return found

    def _is_due(self, key: str) -> bool | None:
        """Whether a key's chunk was written; None of what is no chunk, or where the store does not say."""
        name, _, chunk = key.partition("/")
        array = self._arrays.get(name)
        if self._taken is None or array is None or not chunk.startswith("c") or 0 in array["shape"][1:]:
            return None
        if name == "step" or array["dimension_names"][0] != "step":
            return True
        return has_row(self._taken.get(name, ()), int(chunk.replace("/", ".").split(".")[1]))
