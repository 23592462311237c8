"""Decoded images on disk, found by the content of the files that they came from."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import numpy as np
from lightning_utilities.core.rank_zero import rank_zero_warn

from lightning_emerge.data.photographs.decoding import VERSION, Pixels, decode

_CHECK = hashlib.sha256().digest_size


class PixelCache:
    """Decodes image files of one size, each content once.

    An entry is a file named by the SHA-256 of the image file's content, in a folder of the decoding's version and the
    size. It holds a SHA-256 of the pixels and the pixels. Several processes may share a cache. One that cannot be
    written costs a warning, and the decoding.

    Args:
        folder: of the cache; `~/.cache` stands for `$XDG_CACHE_HOME` where that is set. Without one, or where
            nobody knows the user's home, nothing is kept.
        size: side of the decoded images in pixels.
    """

    def __init__(self, folder: str | None, size: int) -> None:
        self.size = size
        home = None if folder is None else _expand(folder)
        self._folder = None if home is None else home / f"v{VERSION}" / str(size)
        self._keeps = home is not None

    def read(self, content: bytes, digest: bytes) -> Pixels:
        """The pixels of an image file, from the cache if they are there.

        Args:
            content: the file's bytes.
            digest: the SHA-256 of these.

        Returns:
            uint8 array (channel, y, x), RGB.

        Raises:
            Exception: as `lightning_emerge.data.photographs.decoding.decode`.
        """
        pixels = self._find(digest)
        if pixels is None:
            pixels = decode(content, self.size)
            self._keep(digest, pixels)
        return pixels

    def _find(self, digest: bytes) -> Pixels | None:
        if self._folder is None:
            return None
        try:
            entry = _path(self._folder, digest).read_bytes()
        except OSError:
            return None
        check, pixels = entry[:_CHECK], entry[_CHECK:]
        if len(pixels) != 3 * self.size**2 or hashlib.sha256(pixels).digest() != check:
            return None
        return np.frombuffer(pixels, np.uint8).reshape(3, self.size, self.size)

    def _keep(self, digest: bytes, pixels: Pixels) -> None:
        if self._folder is None or not self._keeps:
            return
        raw = pixels.tobytes()
        try:
            _write(_path(self._folder, digest), hashlib.sha256(raw).digest() + raw)
        except OSError as error:
            self._keeps = False
            rank_zero_warn(
                f"Decoded images are kept in data.cache, which could not be written ({error}); they will be decoded "
                "again next time. Name another folder, or null to keep none."
            )


def _expand(folder: str) -> Path | None:
    parts, home = Path(folder).parts, os.environ.get("XDG_CACHE_HOME", "")
    if parts[:2] == ("~", ".cache") and Path(home).is_absolute():
        return Path(home, *parts[2:])
    path = Path(os.path.expanduser(folder))
    homeless = folder.startswith("~") and (os.environ.get("HOME") == "" or not path.is_absolute())
    return None if homeless else path


def _path(folder: Path, digest: bytes) -> Path:
    name = digest.hex()
    return folder / name[:2] / name[2:]


def _write(path: Path, entry: bytes) -> None:
    """Writes a file so that no other process sees a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(entry)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
