"""A store on this machine's disks that is only read."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from zarr.storage import LocalStore

if TYPE_CHECKING:
    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

_MOST = 1 << 31


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
