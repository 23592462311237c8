"""TensorBoard on a real run, in headless Chromium."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from children import started


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def board(folder: Path) -> Iterator[str]:
    """Runs `lightning board` until it answers, and ends it."""
    port = _free_port()
    command = [sys.executable, "-m", "lightning_emerge", "board", str(folder), "--port", str(port)]
    address = f"http://127.0.0.1:{port}"
    with started(command, ready=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/data/environment", timeout=5).close()
                break
            except OSError:
                time.sleep(0.25)
        else:
            pytest.fail("TensorBoard did not answer within a minute")
        yield address


@pytest.mark.browser
def test_the_board_shows_the_pictures_and_curves_of_a_run(smoke, browser):
    errors: list[str] = []
    with board(smoke[0].parents[1]) as address:
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{address}/?tagFilter=^(rdm|bank_accuracy_mean)$#timeseries")
        picture = page.locator("image-card img").first
        picture.wait_for(timeout=60_000)
        page.locator("scalar-card").first.wait_for(timeout=60_000)
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 300
        assert "Step 20" in page.locator("image-card").first.inner_text()
        assert page.locator("image-card mat-slider").count() == 1
        kept = page.request.get(f"{address}/data/plugin/images/images?tag=rdm&run=smoke/version_0&sample=0").json()
        assert [found["step"] for found in kept] == [0, 1, 2, 3, 6, 10, 18, 20]
        browser.close()
    assert errors == []
