"""The table: a row for each figure, with what it is compared with, the floor, the bar, and why."""

from __future__ import annotations

import importlib
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

_LONG = 10.0
"""Seconds. A pair that takes longer is measured once, without a warm-up."""

_SAID = ("date", "machine", "rates")

_PACKAGES = (
    "lightning_emerge",
    "lightning",
    "torch",
    "numpy",
    "matplotlib",
    "zarr",
    "cockpit-for-pytorch",
    "wandb",
    "torchlens",
)


@dataclass(frozen=True)
class Floor:
    """The least that any way has to do: operations or bytes, over a rate that was measured in the same run.

    Attributes:
        ms: milliseconds.
        says: the numbers, in words.
    """

    ms: float
    says: str

    def __add__(self, other: Floor) -> Floor:
        return Floor(self.ms + other.ms, f"{self.says}; {other.says}")


@dataclass(frozen=True)
class Row:
    """A figure.

    Attributes:
        group: of figures; `--only` picks by it.
        figure: what is measured.
        against: what it is compared with, in turn with it.
        bar: what the value may be at most, or at least if `more` is set.
        more: whether more is better.
        floor: the least that has to be done.
        why: what the time goes to.
        value: a ratio of times, unless there is a unit.
        unit: of the value.
        ms: milliseconds of the figure.
        against_ms: milliseconds of what it is compared with.
        note: anything else that was found; of a row without a value, why there is none.
    """

    group: str
    figure: str
    against: str = ""
    bar: float | None = None
    more: bool = False
    floor: Floor | None = None
    why: str = ""
    value: float | None = None
    unit: str = ""
    ms: float | None = None
    against_ms: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """Whether the bar is met."""
        if self.value is None:
            return "not measured"
        if self.bar is None:
            return ""
        met = self.value >= self.bar if self.more else self.value <= self.bar
        return "met" if met else "missed"

    @property
    def gap(self) -> float | None:
        """How many times the floor the figure takes."""
        return self.ms / self.floor.ms if self.ms and self.floor and self.floor.ms else None

    def plain(self) -> dict[str, Any]:
        """The row as plain values."""
        return {**asdict(self), "verdict": self.verdict, "gap": self.gap}


def timed(work: Callable[[], Any]) -> float:
    """Seconds that something takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def pairs(work: Callable[[], Any], against: Callable[[], Any], rounds: int) -> list[tuple[float, float]]:
    """Times two things in turn, A B A B, so that a machine whose speed drifts slows both; in seconds."""
    first = timed(work), timed(against)
    if sum(first) > _LONG:
        return [first]
    return [(timed(work), timed(against)) for _ in range(rounds)]


def medians(times: Sequence[tuple[float, float]]) -> dict[str, float]:
    """The medians of pairs of seconds, in milliseconds, and of their ratios."""
    return {
        "ms": 1000 * statistics.median(a for a, _ in times),
        "floor_ms": 1000 * statistics.median(b for _, b in times),
        "ratio": statistics.median(a / b for a, b in times),
    }


def summarised(row: Row, times: Sequence[tuple[float, float]]) -> Row:
    """Gives a row the medians of pairs of seconds."""
    found = medians(times)
    return replace(row, value=found["ratio"], ms=found["ms"], against_ms=found["floor_ms"])


def compared(row: Row, work: Callable[[], Any], against: Callable[[], Any], rounds: int) -> Row:
    """Gives a row the time of one thing over that of another."""
    return summarised(row, pairs(work, against, rounds))


Bars = Mapping[str, tuple[float | None, bool]]
"""By a part of a figure's name, the bar of its ratio, and whether more is better."""


def rows_of(group: str, figures: Mapping[str, Mapping[str, float]], bars: Bars) -> list[Row]:
    """Makes rows of the figures of a module that knows nothing of this table.

    Args:
        group: of the rows.
        figures: by name, with `ratio`, `ms` and `floor_ms`, or `mib`, and `limit_ms` or `limit_mib` for a bar.
        bars: of some of them.
    """
    rows: list[Row] = []
    for name, found in figures.items():
        bar, more = next((bar for part, bar in bars.items() if part in name), (None, False))
        row = Row(group, name, bar=bar, more=more, ms=found.get("ms"), against_ms=found.get("floor_ms"))
        for key, unit in (("ratio", ""), ("mib", "MiB"), ("ms", "ms")):
            if key in found:
                row = replace(row, value=found[key], unit=unit, bar=found.get(f"limit_{key}", bar))
                break
        rows.append(row)
    return rows


def elsewhere(module: str, function: str, group: str, bars: Bars, rounds: int) -> list[Row]:
    """Figures of a module beside this one, which may not be there, or have nothing to measure on this machine."""
    try:
        figures = getattr(importlib.import_module(module), function)(rounds)
    except ModuleNotFoundError as error:
        figures, note = {}, str(error)
    else:
        note = "this machine cannot measure it"
    if figures:
        return rows_of(group, figures, bars)
    return [Row(group, name, bar=bar, more=more, note=note) for name, (bar, more) in bars.items()]


def line(row: Row) -> str:
    """A row as a line on the screen."""
    against = f" / {row.against}" if row.against else ""
    said = f"{_value(row):>10} {_bar(row):>8} {row.verdict:12} {_number(row.ms):>10} {_number(row.against_ms):>10}"
    floor = f"{_number(row.floor.ms if row.floor else None):>9} {_number(row.gap):>6}"
    return f"{row.figure + against:72.72} {said} {floor}  {row.note}".rstrip()


HEAD = (
    f"{'figure / against':72} {'value':>10} {'bar':>8} {'':12} {'ms':>10} {'against ms':>10} {'floor ms':>9} {'gap':>6}"
)


def markdown(rows: Iterable[Row], conditions: Mapping[str, str]) -> str:
    """The table as docs/benchmarks.md has it, newest first."""
    lines = [f"## {conditions['date']}, {conditions['machine']}", "", _versions(conditions), ""]
    lines += ["| figure | against | value | bar | | ms | against ms | floor ms | gap |", f"|{'---|' * 9}"]
    rows = list(rows)
    for row in rows:
        floor = _number(row.floor.ms if row.floor else None)
        cells = (row.figure, row.against, _value(row), _bar(row), row.verdict, _number(row.ms), _number(row.against_ms))
        lines.append(f"| {' | '.join((*cells, floor, _number(row.gap)))} |")
    lines += ["", "What they say:", ""]
    for row in rows:
        said = [
            row.floor and f"Floor: {row.floor.says}.",
            row.why,
            row.note and f"{row.note[0].upper()}{row.note[1:]}.",
        ]
        if any(said):
            lines.append(f"- **{row.figure}.** {' '.join(filter(None, said))}")
    return "\n".join(lines) + "\n"


def in_json(rows: Iterable[Row], conditions: Mapping[str, str]) -> str:
    """The table as JSON."""
    return json.dumps({"conditions": conditions, "rows": [row.plain() for row in rows]}, indent=2)


def conditions() -> dict[str, str]:
    """Date, machine and versions."""
    found = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()} {platform.system()}, {torch.get_num_threads()} threads, {_device()}",
        "python": platform.python_version(),
    }
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _device() -> str:
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"


def _versions(conditions: Mapping[str, str]) -> str:
    return (
        ", ".join(f"{name} {value}" for name, value in conditions.items() if name not in _SAID)
        + f". {conditions['rates']}"
    )


def _value(row: Row) -> str:
    return "" if row.value is None else f"{_number(row.value)} {row.unit}".strip()


def _bar(row: Row) -> str:
    return "" if row.bar is None else f"{'≥' if row.more else '≤'} {row.bar:g}"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
