"""Names of splits, tokens and files: what may be written where the run and its tables need text."""

from __future__ import annotations

import os
from pathlib import Path
from unicodedata import category

SPLITS = ("train", "val", "test", "bank")
"""Names of the splits; a split's position keys its exemplars, so that no two splits share one."""

MOST = 200
"""Bytes of a token's name; folders are called by it, whose names have 255 at most on most disks."""

_NO_TEXT = {"Cc", "Cs", "Zl", "Zp"}  # control characters, bytes that were not UTF-8, ends of lines and paragraphs


def check_token(name: str) -> str:
    """Gives a token's name back if it is one.

    Raises:
        ValueError: if it is empty, longer than `MOST` bytes, or holds what is no text.
    """
    size = len(name.encode("utf-8", "surrogatepass"))
    if 0 < size <= MOST and not any(category(letter) in _NO_TEXT for letter in name):
        return name
    shown = ascii(name) if len(ascii(name)) <= 80 else f"{ascii(name)[:80]}..."
    raise ValueError(
        f"A token's name is 1 to {MOST} bytes of UTF-8 without control characters; got {shown}, of {size}. "
        "Rename the token; if a folder or a class of the data is called so, rename that."
    )


def file_id(path: Path) -> str:
    """A relative path as an exemplar's id; bytes that are not UTF-8, as Latin-1 names have them, are escaped."""
    name = path.as_posix()
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    return name
