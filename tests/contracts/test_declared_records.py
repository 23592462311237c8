"""Tables of records in the documentation are what probes declare, and a user's own probe is listed like ours."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar

import declared
import numpy as np
import pytest

import lightning_emerge as le
from lightning_emerge.store.shown import Shown, shown_of

PROBES_PAGE = declared.PAGE.with_name("probes.md")
DEPTH = le.Record("depth", ("layer",), "metre", range=(-3, 0), scale="linear", about="How deep | a layer lies")


class Own(le.Probe):
    needs = (le.Weights(),)
    records = (DEPTH,)
    drawn: ClassVar[list[le.Measurement]] = []

    def measure(self, capture: le.Capture) -> Iterable[le.Measurement]:
        yield DEPTH.of(-np.ones(len(capture.layers)), le.Axis("layer", capture.layers))

    def draw(self, measurement: le.Measurement) -> None:
        self.drawn.append(measurement)


def test_a_probe_of_ones_own_is_listed_recorded_and_shown_as_it_declares(make_data, make_model, make_trainer, tmp_path):
    assert declared.tabulate([Own])[2:] == [
        r"| `depth` | `Own` | layer | metre | -3 to 0 | linear | How deep \| a layer lies |"
    ]
    Own.drawn.clear()
    make_trainer([Own(le.At([2]), on_error="raise")], max_steps=3).fit(make_model(), datamodule=make_data())
    assert [(one.name, one.step, one.source) for one in Own.drawn] == [("depth", step, "Own") for step in (2, 3)]
    depth = le.open_run(tmp_path / "run").depth
    assert (depth.dims[1:], depth.attrs["units"], depth.attrs["source"]) == (("layer",), "metre", "Own")
    assert shown_of("depth", depth.attrs) == Shown((-3, 0))


def test_the_page_has_the_table_that_the_command_makes(tmp_path):
    page = tmp_path / "records.md"
    page.write_text(declared.PAGE.read_text())
    declared.write_table(page)
    assert page.read_text() == declared.PAGE.read_text()


def test_a_page_without_a_place_for_the_table_is_refused(tmp_path):
    (tmp_path / "page.md").write_text("# Records\n")
    with pytest.raises(ValueError, match="has no such place"):
        declared.write_table(tmp_path / "page.md")


def _described(page: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Records of the tables that people wrote, with the section that they are in and their axes."""
    for section in re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        for names, axes in re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| ([\w, ]*)\|", section, re.MULTILINE):
            for name in re.findall(r"`(\w+)`", names):
                yield section.split("\n")[0], name, [axis for axis in re.split(r"[ ,]+", axes) if axis]


def test_each_probes_page_describes_what_it_declares():
    described: dict[str, dict[str, list[str]]] = {}
    for section, name, axes in _described(PROBES_PAGE):
        if section.endswith("Probe"):
            described.setdefault(section, {})[name] = axes
    for kind in declared.shipped():
        own = {record.name: list(record.axes) for record in kind.records}
        assert {name: axes for name, axes in described[kind.__name__].items() if name in own} == own, kind
