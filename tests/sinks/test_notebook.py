"""The cell of a notebook: what it shows takes the place of what it showed, and nothing is shown elsewhere."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lightning_emerge.records import Axis, Measurement
from lightning_emerge.sinks.notebook import SWITCH, NotebookSink, notebook_sinks


def number(name: str, value: float, step: int) -> Measurement:
    return Measurement(name, np.array(value), (), step, "1", "P", "about")


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the cell shows, one after the other."""
    shown: list[str] = []

    def show(page: Any, **_: Any) -> SimpleNamespace:
        shown.append(page.data)
        return SimpleNamespace(update=show)

    monkeypatch.setattr("IPython.display.display", show)
    return shown


def test_each_write_takes_the_place_of_the_one_before(pages):
    sink, picture = NotebookSink(), np.zeros((4, 4, 3), np.uint8)
    sink.go_on(0)
    sink.write(3, [number("accuracy", 0.25, 3), number("lost", float("nan"), 3)], {"rdm": picture, "<b>": picture})
    layers = Measurement("norm", np.ones(2), (Axis("layer", ["a", "b"]),), 5, "1", "P", "about")
    sink.write(5, [number("accuracy", 0.5, 5), layers], {"rdm": picture})
    sink.announce(5)
    sink.close()
    assert [page.count("<img") for page in pages] == [0, 2, 2]
    assert "<b>Step 5</b> · accuracy 0.5</div>" in pages[-1]
    assert "rdm, step 5" in pages[-1]
    assert "&lt;b&gt;, step 3" in pages[-1]
    assert "lost" not in pages[1]


def test_there_is_a_sink_in_a_kernel_alone_and_only_if_it_is_wanted(monkeypatch):
    assert notebook_sinks() == []
    for shell, count in ((None, 0), (SimpleNamespace(), 0), (SimpleNamespace(kernel=1), 1)):
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda shell=shell: shell))
        assert len(notebook_sinks()) == count
    monkeypatch.setenv(SWITCH, "off")
    assert notebook_sinks() == []
