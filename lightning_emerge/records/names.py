"""How names in records are written: which are allowed, and how some are made of others.

The tab's JavaScript takes labels of pairs apart in the same way; `tests/board/web/rules.json` holds both to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

_NAME = re.compile(r"(?!\.|__|zarr\.json$)[^/\\\x00-\x1f\x7f]+")
_LONGEST = 200
"""Bytes of the name of an array's folder; file systems take 255, some of which go to what is half written."""

_PAIR, _TOKENS, _PARTS = " > ", "/", " + "


def join_pair(before: str, layer: str) -> str:
    """The label of a pair of layers that follow each other: "conv1 > conv2"."""
    return f"{before}{_PAIR}{layer}"


def split_pair(label: str) -> tuple[str, str]:
    """The two layers of a pair's label."""
    before, _, layer = label.partition(_PAIR)
    return before, layer


def join_tokens(tokens: Iterable[str]) -> str:
    """The label of a set of tokens: "dax/wug"."""
    return _TOKENS.join(tokens)


def split_tokens(label: str) -> list[str]:
    """The tokens of a set's label."""
    return label.split(_TOKENS)


def join_parts(parts: Iterable[str]) -> str:
    """The label of a conjunction of three parts or more: "disk + bar + ring"."""
    return _PARTS.join(parts)


def check_name(measure: str, name: Any) -> None:
    """Looks whether an array of a store may have a name: that of a measurement, of an axis or of a note.

    Args:
        measure: whose name it is, for the message.
        name: to be looked at.

    Raises:
        ValueError: if it may not.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or not is_text(name):
        raise ValueError(
            "The name of a measurement, of an axis and of a note is a word without '/', '\\' and control characters "
            f"that does not begin with '.' or '__'; {measure!r:.80} has {name!r:.80}. Rename it."
        )
    if len(name.encode()) > _LONGEST:
        raise ValueError(
            f"The names of a measurement, of an axis and of a note are {_LONGEST} bytes together at most; "
            f"{name!r:.80} has {len(name.encode())}. Shorten them."
        )
    if name == "step":
        raise ValueError(f"Each record has an axis of steps already; {measure!r} has another. Rename it.")


def is_text(text: Any) -> bool:
    """Whether it can be written as UTF-8."""
    try:
        return isinstance(text, str) and bool(text.encode() or True)
    except UnicodeEncodeError:
        return False


def nearest(name: str, known: Sequence[str]) -> str:
    """A sentence that names the most similar of some names, to end a message with; empty if none is similar."""
    near = get_close_matches(name, known, 1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""
