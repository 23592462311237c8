"""Puts a table that a command makes into a page, between two marks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def put_table(page: Path, marks: tuple[str, str], rows: Sequence[Sequence[str]]) -> None:
    """Puts a table in place of the one that a page has.

    Args:
        page: Markdown with both marks, each once.
        marks: before and behind the table.
        rows: the first is the head.

    Raises:
        ValueError: if the page has no place for it.
    """
    text, (begin, end) = page.read_text(), marks
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(
            f"The table stands between {begin!r} and {end!r}; {page} has no such place. Put both lines in."
        )
    before, rest = text.split(begin)
    page.write_text("\n".join([before + begin, "", *to_lines(rows), "", end + rest.split(end)[1]]))


def to_lines(rows: Sequence[Sequence[str]]) -> list[str]:
    """A table in Markdown, a line each; the first row is the head."""
    head, *others = rows
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *others)]
