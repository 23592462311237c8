"""Where a path leads: to this machine's disks, literally, unless it is a URL."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

_URL = re.compile(r"[A-Za-z][\w+.-]*(::[A-Za-z][\w+.-]*)*://", re.ASCII)
_FILE = "file://"


def is_url(path: str | Path) -> bool:
    """Whether a path begins as a URL does; `file://` is only another way to name a local one.

    Names of folders may hold `::` and `:`, for which fsspec has other uses: `runs/vgg5::lr0.1` is such a folder.
    """
    return _URL.match(str(path)) is not None and not str(path).startswith(_FILE)


def to_local(path: str | Path) -> str:
    """The absolute path of what is no URL, taken literally: `~` and `$` stand for themselves."""
    return os.path.abspath(str(path).removeprefix(_FILE))


def open_place(path: str | Path) -> tuple[Any, str]:
    """Finds the fsspec file system on which a path lies, and its path there."""
    if not is_url(path):
        from fsspec.implementations.local import LocalFileSystem  # pyright: ignore[reportMissingTypeStubs]

        return LocalFileSystem(), to_local(path)
    from fsspec.core import url_to_fs  # pyright: ignore[reportMissingTypeStubs]

    files, root = url_to_fs(str(path))
    return files, str(root)
