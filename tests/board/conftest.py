"""What tests of the board share: a plugin on a log directory, asked as a browser asks it."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tensorboard.plugins.base_plugin import TBContext
from werkzeug.test import Client, TestResponse

from lightning_emerge.board.plugin import EmergePlugin

Ask = Callable[..., TestResponse]


@pytest.fixture
def make_ask() -> Callable[..., Ask]:
    """Makes what asks a plugin on a log directory for a route, with a query given as words or as it is written."""

    def make(logdir: str | Path, spec: str = "") -> Ask:
        plugin = EmergePlugin(TBContext(logdir=str(logdir), flags=Namespace(logdir_spec=spec)))
        apps = plugin.get_plugin_apps()

        def ask(route: str, written: str | None = None, method: str = "GET", **query: Any) -> TestResponse:
            app = apps.get(f"/{route}", apps["/*"])
            given = {"query_string": written} if written is not None else {"query_string": query}
            return Client(app).open(f"/data/plugin/emerge/{route}", method=method, **given)

        ask.plugin = plugin
        return ask

    return make


@pytest.fixture
def ask(make_ask: Callable[..., Ask], make_run: Callable[..., Path], tmp_path: Path) -> Ask:
    """Asks about a log directory with one made-up run, `first/version_0`."""
    (tmp_path / "runs" / "first").mkdir(parents=True)
    make_run(tmp_path / "runs" / "first" / "version_0")
    return make_ask(tmp_path / "runs")
