"""The report in headless Chromium, at phone and desktop widths, in light and dark."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_emerge.report.make import SECTIONS, make_report
from lightning_emerge.report.write import write_report

EVIL = "<script>alert(1)</script>"

pytestmark = [
    pytest.mark.browser,
]


@pytest.fixture(scope="module")
def pages() -> dict[str, Path]:
    """The pages that were written, as making them takes a while."""
    return {}


@pytest.fixture
def page_of(pages, make_run, tmp_path_factory) -> Callable[[str], Path]:
    """Writes a page once: of one run, of several, of one with evil names, or of one without records."""

    def write(kind: str) -> Path:
        if kind not in pages:
            home = tmp_path_factory.mktemp(kind)
            names = {"tokens": (EVIL, "wug"), "layers": (EVIL, "conv2", "fc")} if kind == "evil" else {}
            count = 3 if kind == "several" else 1
            runs = [make_run(home / f"seed{k}", seed=k, **names) for k in range(count)]
            if kind == "broken":
                shutil.rmtree(runs[0] / "records.zarr")
            pages[kind] = write_report(make_report(runs), home / "report")
        return pages[kind]

    return write


@pytest.mark.parametrize("kind", ["one", "several", "evil", "broken"])
def test_a_report_opens_at_any_width_in_light_and_dark(kind, page_of, browser, least_contrast):
    path = page_of(kind)
    assert path.stat().st_size < 10_000_000
    said: list[str] = []
    for width in (360, 390, 1280):
        page = browser.new_page(viewport={"width": width, "height": 900})
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("console", lambda message: said.append(message.text))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("request", lambda request: said.append(request.url) if _leaves(request.url) else None)
        page.goto(path.as_uri())
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            _look(page, kind, width)
            contrast, words = least_contrast(page, "h1, h2, p, a, li, th, td, figcaption, summary, code, pre")
            assert contrast >= 4.5, (theme, words)
            paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert (paper == "rgb(255, 255, 255)") == (theme == "light")
        page.close()
    assert said == []


def _leaves(url: str) -> bool:
    return not url.startswith(("file:", "data:"))


def _look(page, kind: str, width: int) -> None:
    assert page.locator("h2").count() == len(SECTIONS)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    images = page.evaluate("""() => Promise.all([...document.images].map(
        image => image.decode().then(() => [image.naturalWidth, image.alt])))""")
    assert (len(images) > 10) == (kind != "broken")
    assert all(natural > 0 and alt for natural, alt in images)
    # What is wider than the page scrolls in a box of its own, which keys reach.
    boxes = page.evaluate("""() => [...document.querySelectorAll("*")].filter(
        node => node.scrollWidth > node.clientWidth + 1 && getComputedStyle(node).overflowX === "auto").map(
        node => node.tabIndex)""")
    assert all(index == 0 for index in boxes)
    page.evaluate("history.replaceState(null, '', location.pathname)")
    page.locator("nav a").last.click()
    assert page.evaluate("location.hash") == "#repeat"
    page.locator("details").first.evaluate("details => { details.open = false; }")
    page.locator("summary").first.click()
    assert page.locator("details pre").first.is_visible()
    if kind == "evil":
        assert EVIL in page.inner_text("body")
