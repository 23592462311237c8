"""Lists every record as its probe declares it.

make records

The table goes into docs/records.md. `tabulate` takes any probe classes, so that it lists those of your own, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from marked import put_table, to_lines

import lightning_emerge as le

PAGE = Path(__file__).with_name("records.md")
BEGIN, END = "<!-- records: made by `make records` -->", "<!-- records: end -->"


def shipped() -> list[type[le.Probe]]:
    """The package's own probes, by name."""
    found = [getattr(le, name) for name in sorted(le.__all__) if name.endswith("Probe")]
    return [kind for kind in found if kind is not le.Probe]


def tabulate(kinds: Iterable[type[le.Probe]]) -> list[str]:
    """A table of what some classes of probes declare, in Markdown, a line each.

    Of a record that depends on its probe's arguments there is a row for each kind of values.
    """
    return to_lines(_rows(kinds))


def write_table(page: Path = PAGE) -> None:
    """Puts the table of the package's own probes in place of the one that the page has.

    Raises:
        ValueError: if the page has no place for it.
    """
    put_table(page, (BEGIN, END), _rows(shipped()))


def _rows(kinds: Iterable[type[le.Probe]]) -> list[Sequence[str]]:
    head = ("record", "probe", "axes after `step`", "unit", "range", "scale", "is")
    return [head, *(_cells(kind, record) for kind in kinds for record in kind.records)]


def _cells(kind: type[le.Probe], record: le.Record) -> list[str]:
    about = record.about.replace("|", "\\|")
    return [
        f"`{record.name}`",
        f"`{kind.__name__}`",
        ", ".join(record.axes),
        record.unit,
        _range(record),
        record.scale,
        about,
    ]


def _range(record: le.Record) -> str:
    low, high = record.range
    if low is None and high is None:
        return ""
    if high is None:
        return f"{low:g} and above"
    return f"{high:g} at most" if low is None else f"{low:g} to {high:g}"


if __name__ == "__main__":
    write_table()
