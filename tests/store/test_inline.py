"""A run that shows itself: its folder may be a stranger's, so that only pictures are shown, and all else as text."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import lightning_emerge as le
from lightning_emerge.sinks.png import encode_png


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []
    monkeypatch.setattr("IPython.display.display", found.append)
    return found


def test_pictures_are_shown_and_nothing_else(tmp_path, make_run, shown):
    folder = make_run(tmp_path / "run")
    for number, name in enumerate(("zebra.png", "emergence.png", "conv1_3.png")):
        (folder / name).write_bytes(encode_png(np.full((2, 2, 3), number, np.uint8)))
    (folder / "evil.png").write_text("<svg onload=alert(1)>")
    (tmp_path / "secret.png").write_bytes(encode_png(np.zeros((2, 2, 3), np.uint8)))
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    run = le.Run(folder)
    with pytest.warns(UserWarning, match="is no picture|leads out of its folder") as warned:
        run.show()
    assert len(warned) == 2
    names = ("emergence.png", "conv1_3.png", "zebra.png")
    assert [one.data for one in shown[1:]] == [(folder / name).read_bytes() for name in names]


def test_what_a_run_is_is_a_table_of_text(tmp_path, make_run):
    run = le.Run(make_run(tmp_path / "run", tokens=("<i>dax", "wug")), name="<b>mine")
    page = run._repr_html_()
    assert "&lt;b&gt;mine" in page
    assert "&lt;i&gt;dax, wug" in page
    assert f"{len(run.steps)}, steps {run.steps[0]} to {run.steps[-1]}" in page
    assert "<i>" not in page
    assert "Pictures" not in page


def test_without_a_notebook_it_says_what_to_do(tmp_path, make_run, monkeypatch):
    run = le.Run(make_run(tmp_path / "run"))
    monkeypatch.setitem(sys.modules, "IPython", None)
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    with pytest.raises(ImportError, match=r"lightning_emerge\[notebook\], or write a page: lightning report"):
        run.show()
