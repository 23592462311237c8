"""The Emerge tab in a browser: how long its first view takes, and how long from moving the slider to what is drawn."""

from __future__ import annotations

import statistics
import time
from typing import Any

from browser import open_browser
from playwright.sync_api import Page

# From the browser's own event to the end of the drawing in which all views that are in sight show the step.
_TIMES = """root => {
  const times = root.times = [];
  let began = 0;
  document.addEventListener("input", () => { began = performance.now(); }, true);
  new MutationObserver(() => {
    if (began) times.push(Number(root.dataset.drawn) - began);
    began = 0;
  }).observe(root, { attributes: true, attributeFilter: ["data-drawn"] });
}"""

_LAID_OUT = """() => performance.getEntriesByType("resource")
  .filter(one => new URL(one.name).pathname.endsWith("/points")).length >= 4"""


def bench_tab(address: str, run: str, moves: int = 40) -> dict[str, float]:
    """Moves the slider as a hand does.

    Args:
        address: of a TensorBoard.
        run: that is shown.
        moves: how many are measured, of cached steps and of steps that were never shown.

    Returns:
        Milliseconds: `first_view`, and `cached` and `cold` moves, each as a median and a 95th percentile.
    """
    with open_browser() as browser:
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.goto(address)  # what TensorBoard itself needs is not ours
        page.wait_for_timeout(3000)
        begin = time.perf_counter()
        page.goto(f"{address}/data/plugin_entry.html?name=emerge#p.emerge.run={run}&p.emerge.scale=linear")
        root = page.locator("#emerge[data-ready=true]")
        root.wait_for(state="attached", timeout=60_000)
        first_view = 1000 * (time.perf_counter() - begin)
        page.wait_for_function(_LAID_OUT, timeout=120_000)  # in all of its four layers
        page.wait_for_timeout(1000)
        root.evaluate(_TIMES)
        cold = _drag(page, root, [0.9 - 0.8 * k / moves for k in range(moves)])
        near = [0.5 + 0.01 * (k % 10) for k in range(moves)]
        _drag(page, root, near)
        cached = _drag(page, root, near)
    return {"first_view": first_view, **_summary("cached", cached), **_summary("cold", cold)}


def _summary(name: str, times: list[float]) -> dict[str, float]:
    return {name: statistics.median(times), f"{name}_95": statistics.quantiles(times, n=20)[-1]}


def _drag(page: Page, root: Any, places: list[float]) -> list[float]:
    """Drags the slider from place to place, each once the last is drawn; gives the milliseconds of each."""
    box = page.locator("#step").bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    at = [box["x"] + 8 + place * (box["width"] - 16) for place in places]
    page.mouse.move(at[0], y)
    page.mouse.down()
    page.wait_for_timeout(1000)
    root.evaluate("root => { root.times.length = 0 }")
    for number, x in enumerate(at[1:], start=1):
        page.mouse.move(x, y)
        page.wait_for_function(f"document.querySelector('#emerge').times.length >= {number}", timeout=20_000)
    page.mouse.up()
    times: list[float] = root.evaluate("root => root.times")
    return times
