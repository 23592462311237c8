"""The Emerge tab on a real run, in headless Chromium, inside TensorBoard."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlparse
from xml.etree import ElementTree

import numpy as np
import pytest
from children import started
from playwright.sync_api import Browser, FrameLocator, Locator, Page, expect

import lightning_emerge as le
from lightning_emerge.store.write import ArraySink

ROOT = Path(__file__).parents[2]
PATIENCE = 60_000
VIEWS = ("matrix", "curves", "embedding", "filters", "coupling", "gradients")
EVIL = "<img src=x onerror=alert(1)>"
PROBES = """\
trainer:
  callbacks+:
    - class_path: lightning_emerge.EmbeddingProbe
      init_args: &looks {schedule: {class_path: lightning_emerge.LogSpaced, init_args: {per_decade: 2}}}
    - class_path: lightning_emerge.TokenGradientProbe
      init_args: *looks
    - class_path: lightning_emerge.CouplingProbe
      init_args: {stimuli: 5, schedule: {class_path: lightning_emerge.LogSpaced, init_args: {per_decade: 1}}}
    - class_path: lightning_emerge.MaximisationProbe
      init_args:
        filters: 2
        iterations: 2
        schedule: {class_path: lightning_emerge.LogSpaced, init_args: {per_decade: 1}}
"""

FRAME = """\
<!doctype html>
<style>html, body { margin: 0; height: 100%; } iframe { border: 0; width: 100%; height: calc(100% - 64px); }</style>
<iframe src="data/plugin_entry.html?name=emerge"></iframe>
"""
"""A page with the tab alone."""
SLOW = """\
import time
from lightning.pytorch import Callback


class Slow(Callback):
    def on_train_batch_end(self, *arguments):
        time.sleep(0.1)
"""
FOLLOWED = """\
trainer:
  max_epochs: 100
  enable_progress_bar: false
  callbacks:
    - class_path: slow.Slow
    - class_path: lightning_emerge.CategoryProbe
      init_args: {schedule: {class_path: lightning_emerge.EverySteps, init_args: {n: 5}}}
"""

pytestmark = pytest.mark.browser


def fit(folder: Path, *more: str, config: str = "smoke") -> AbstractContextManager[Any]:
    """Starts a small fit that writes to `runs/smoke` below a folder, or to another if it has another configuration."""
    command = [sys.executable, "-m", "lightning_emerge", "fit", "--config", str(ROOT / f"configs/{config}.yaml"), *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return started(command, environment, ready=True, cwd=folder, **quiet)


@contextmanager
def board(folder: Path) -> Iterator[str]:
    """Runs `lightning board` and gives the address that it prints."""
    command = [sys.executable, "-m", "lightning_emerge", "board", str(folder), "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    said: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with started(command, environment, ready=True, **said) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        address = next((line.split()[1] for line in lines if line.startswith("Emerge")), None)
        assert address is not None, "lightning board ended without an address"
        yield address


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a real run and a copy of it under another name."""
    folder = tmp_path_factory.mktemp("fit")
    (folder / "probes.yaml").write_text(PROBES)
    with fit(folder, "--config", "probes.yaml") as running:
        assert running.wait(280) == 0
    shutil.copytree(folder / "runs/smoke/version_0", folder / "runs/again/version_0")
    return folder / "runs"


@pytest.fixture(scope="module")
def address(runs: Path) -> Iterator[str]:
    with board(runs) as found:
        yield found


FEW = {
    "--model.network.init_args.width": "2",
    "--model.network.init_args.head": "[12, 12]",
    "--trainer.limit_train_batches": "4",
    "--trainer.limit_val_batches": "1",
    "--data.bank_exemplars": "4",
    "--trainer.max_epochs": "1",
    "--trainer.enable_progress_bar": "false",
}


@pytest.fixture(scope="module")
def default_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what `make fit` leaves, of a smaller network and after four steps."""
    folder = tmp_path_factory.mktemp("default")
    with fit(folder, *(word for both in FEW.items() for word in both), config="vgg5") as running:
        assert running.wait(280) == 0
    return folder / "runs"


@pytest.fixture(scope="module")
def default_address(default_run: Path) -> Iterator[str]:
    with board(default_run) as found:
        yield found


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page without errors that asks nobody but 127.0.0.1."""
    page = browser.new_page(viewport={"width": 1500, "height": 2600}, color_scheme="light")
    page.add_init_script(COUNTED)
    errors: list[str] = []
    hosts: set[str | None] = set()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("dialog", lambda dialog: errors.append(f"dialog: {dialog.message}"))
    page.on("request", lambda request: hosts.add(urlparse(request.url).hostname))
    yield page
    page.close()
    assert errors == []
    assert hosts - {None} == {"127.0.0.1"}


@pytest.fixture
def bare_page(page: Page) -> Page:
    """The same with the tab alone, which TensorBoard serves as ever: its own page takes seconds each time."""
    page.route(
        re.compile(r"^http://127\.0\.0\.1:\d+/$"), lambda route: route.fulfill(body=FRAME, content_type="text/html")
    )
    return page


@pytest.fixture
def hasty(page: Page) -> None:
    """Makes the page ask for new runs and steps ten times as often: it waits ten seconds and two."""
    page.add_init_script("const every = setInterval; setInterval = (work, pause) => every(work, pause / 10);")


def show(page: Page, address: str, state: str = "") -> FrameLocator:
    """Opens the tab and waits for its first view."""
    page.goto("about:blank")
    page.goto(f"{address}{state}")
    tab = page.frame_locator("iframe")
    tab.locator("#emerge[data-ready=true]").wait_for(state="attached", timeout=PATIENCE)
    return tab


def wait_for_step(tab: FrameLocator, step: int) -> None:
    expect(tab.locator("#emerge")).to_have_attribute("data-step", str(step), timeout=PATIENCE)


def canvas_of(tab: FrameLocator, view: str) -> Locator:
    return tab.locator(f"[data-view={view}] canvas").first


COUNTED = """
  window.asked = 0;
  const fetched = window.fetch;
  window.fetch = (...words) => {
    window.asked += 1;
    return fetched(...words).finally(() => setTimeout(() => { window.asked -= 1; }, 30));
  };
"""
"""Counts the questions of a page that are not answered, or so shortly ago that the answer may not be drawn."""

SETTLED = """async (_, views) => {
  const now = () => JSON.stringify(views.map(
    view => document.querySelector(`[data-view=${view}] canvas`)?.toDataURL() ?? ""));
  let before = null;
  for (let k = 0; k < 300; k += 1) {
    await new Promise(done => setTimeout(done, 60));
    const found = window.asked ? null : now();
    if (found !== null && found === before) return JSON.parse(found);
    before = found;
  }
  return null; }"""


def settled(tab: FrameLocator, *views: str) -> Any:
    """What one or all views show, once all is answered and they change no more."""
    found = tab.locator("body").evaluate(SETTLED, list(views or VIEWS))
    assert found is not None, f"{views} do not settle"
    return found[0] if len(views) == 1 else dict(zip(views or VIEWS, found, strict=True))


def test_one_slider_moves_all_views(page, address):
    tab = show(page, address)
    wait_for_step(tab, 20)
    before = settled(tab)
    slider = tab.locator("#step")
    box = slider.bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.up()
    wait_for_step(tab, 0)
    now = settled(tab)
    for view in VIEWS:
        assert now[view] != before[view]
        expect(canvas_of(tab, view)).to_have_attribute("aria-label", re.compile("step 0$"))
    expect(slider).to_have_attribute("aria-valuetext", "step 0 of 20, look 1 of 8")
    slider.press("ArrowRight")
    wait_for_step(tab, 1)
    slider.press("End")
    wait_for_step(tab, 20)
    tab.locator("#scale").click()
    assert slider.input_value() == "10000"
    slider.press("ArrowLeft")
    wait_for_step(tab, 18)
    assert slider.input_value() == "9000"  # linear


def test_every_view_says_in_a_sentence_what_is_seen(bare_page, address):
    tab = show(bare_page, address)
    for view in VIEWS:
        words = tab.locator(f"[data-view={view}] .about").inner_text()
        assert len(words) > 60, view
        assert words.endswith(".")
    assert "0 (dark) to 2 (light)" in tab.locator("[data-view=matrix] .about").inner_text()
    assert "-1 (purple) to 1 (orange)" in tab.locator("[data-view=gradients] .about").inner_text()
    assert "probability, 0 to 1" in tab.locator("[data-view=curves] .about").inner_text()


def test_it_plays_and_pauses(page, address):
    tab = show(page, address, "&p.emerge.step=0")
    wait_for_step(tab, 0)
    play = tab.locator("#play")
    play.click()
    expect(play).to_have_text("Pause")
    expect(tab.locator("#emerge")).not_to_have_attribute("data-step", "0", timeout=PATIENCE)
    play.click()
    at = tab.locator("#now").inner_text()
    page.wait_for_timeout(600)
    assert tab.locator("#now").inner_text() == at
    play.click()
    wait_for_step(tab, 20)
    expect(play).to_have_text("Play")


def test_what_is_pointed_at_is_lit_in_all_views(bare_page, address):
    tab = show(bare_page, address)
    before = settled(tab)
    tab.locator(".tokens button", has_text="wug").hover()
    lit = settled(tab)
    for view in VIEWS:
        assert lit[view] != before[view], view
    bare_page.mouse.move(2, 2)
    assert settled(tab, "matrix") == before["matrix"]
    box = canvas_of(tab, "matrix").bounding_box()
    bare_page.mouse.move(box["x"] + 150, box["y"] + 100)
    expect(tab.locator(".tip")).to_contain_text(re.compile("bank/.* and bank/.*: "))
    bare_page.mouse.move(box["x"] + 152, box["y"] + 104)
    expect(tab.locator(".tip canvas")).to_have_count(2)
    lit = settled(tab)
    assert lit["embedding"] != before["embedding"]
    assert lit["curves"] != before["curves"]


def test_a_filter_has_a_biography(bare_page, address):
    tab = show(bare_page, address, "&p.emerge.layer=conv1_1")
    settled(tab, "filters")
    box = canvas_of(tab, "filters").bounding_box()
    bare_page.mouse.click(box["x"] + 60, box["y"] + 40)
    expect(tab.locator("dialog h2")).to_have_text("Filter 0 of conv1_1")
    settled(tab, "biography")
    bare_page.wait_for_url(re.compile(r"p\.emerge\.filter=conv1_1%2F0"))
    bare_page.keyboard.press("Escape")
    expect(tab.locator("dialog")).to_be_hidden()
    bare_page.wait_for_url(re.compile(r"^(?!.*emerge\.filter)"))


def test_two_runs_lie_side_by_side_at_the_same_step(page, address):
    tab = show(page, address, "&p.emerge.run=smoke%2Fversion_0&p.emerge.step=6")
    tab.locator("#other").select_option("again/version_0")
    for view in VIEWS:
        expect(tab.locator(f"[data-view={view}] .run")).to_have_text(["smoke/version_0", "again/version_0"])
    wait_for_step(tab, 6)
    for canvas in tab.locator("[data-view=matrix] canvas").all():
        expect(canvas).to_have_attribute("aria-label", re.compile("step 6$"))
    one, other = (canvas.bounding_box() for canvas in tab.locator("[data-view=matrix] canvas").all())
    assert one["y"] == other["y"]
    assert one["x"] + one["width"] < other["x"]
    tab.locator("#other").select_option("")
    expect(tab.locator("[data-view=matrix] canvas")).to_have_count(1)


def test_the_address_brings_all_back(page, address):
    tab = show(page, address)
    tab.locator("#other").select_option("again/version_0")
    tab.locator("[data-view=curves] select").first.select_option("ridge_accuracy")
    tab.locator("[data-view=gradients] button", has_text="Pin").click()
    tab.locator(".tokens button", has_text="fep").click()
    tab.locator("#scale").click()
    tab.locator("#step").press("ArrowLeft")
    wait_for_step(tab, 18)
    page.wait_for_url(re.compile(r"emerge\.step=18"))
    page.reload()
    tab.locator("#emerge[data-ready=true]").wait_for(state="attached", timeout=PATIENCE)
    wait_for_step(tab, 18)
    expect(tab.locator("#other")).to_have_value("again/version_0")
    expect(tab.locator("[data-view=curves] select").first).to_have_value("ridge_accuracy")
    expect(tab.locator("main > .panel").first).to_have_attribute("data-view", "gradients")
    expect(tab.locator(".tokens button", has_text="fep")).to_have_attribute("aria-pressed", "true")
    expect(tab.locator("#scale")).to_have_text("Linear steps")


def test_a_keyboard_is_enough(bare_page, address):
    tab = show(bare_page, address, "&p.emerge.layer=conv1_1&p.emerge.step=10")
    settled(tab, "filters")
    tab.locator("#step").focus()
    bare_page.keyboard.press("ArrowLeft")
    wait_for_step(tab, 6)
    bare_page.keyboard.press("Home")
    wait_for_step(tab, 0)
    for _ in range(60):
        bare_page.keyboard.press("Tab")
        if canvas_of(tab, "filters").evaluate("canvas => canvas === document.activeElement"):
            break
    else:
        raise AssertionError("Tab does not reach the filters")
    bare_page.keyboard.press("ArrowDown")
    expect(tab.locator(".spoken")).to_have_text("Filter 0 of conv1_1; its biography")
    bare_page.keyboard.press("ArrowRight")
    wait_for_step(tab, 1)
    bare_page.keyboard.press("Enter")
    expect(tab.locator("dialog h2")).to_have_text("Filter 0 of conv1_1")
    bare_page.keyboard.press("Escape")
    expect(tab.locator("dialog")).to_be_hidden()
    bare_page.keyboard.press("Space")
    expect(tab.locator("#play")).to_have_text("Pause")
    bare_page.keyboard.press("Space")
    expect(tab.locator("#play")).to_have_text("Play")


def test_a_screen_reader_has_labels(bare_page, address):
    tab = show(bare_page, address)
    nameless = tab.locator("body").evaluate(
        """body => [...body.querySelectorAll("button, select, input, canvas, section")].filter(node => {
          const own = node.getAttribute("aria-label") || node.getAttribute("aria-labelledby") || node.closest("label");
          return !own && !node.textContent.trim() && !node.closest(".tip"); }).map(node => node.outerHTML)"""
    )
    assert nameless == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_can_be_read_in_light_and_dark(page, address, theme, least_contrast):
    tab = show(page, address)
    light = settled(tab, "curves")
    page.evaluate("theme => document.body.classList.toggle('dark-mode', theme === 'dark')", theme)
    assert (settled(tab, "curves") != light) == (theme == "dark")
    contrast, words = least_contrast(tab, "h2, p, button, select, label, output, span")
    assert contrast > 4.5, words


def test_a_view_is_saved_as_png_and_svg(bare_page, address, tmp_path):
    tab = show(bare_page, address)
    settled(tab)
    for view in VIEWS:
        if view == "filters":
            bare_page.wait_for_timeout(1200)  # Chromium gives ten files at most without a pause of a second
        for kind in ("PNG", "SVG"):
            with bare_page.expect_download() as waiting:
                tab.locator(f"[data-view={view}] button", has_text=kind).click()
            assert waiting.value.suggested_filename == f"emerge-{view}-step-20.{kind.lower()}"
            waiting.value.save_as(tmp_path / f"{view}.{kind}")
        assert (tmp_path / f"{view}.PNG").read_bytes().startswith(b"\x89PNG")
        root = ElementTree.parse(tmp_path / f"{view}.SVG").getroot()
        assert "step 20" in " ".join(root.itertext())
        assert len(list(root.iter())) > 20


def test_names_are_words_and_no_script(page, make_run, tmp_path):
    make_run(tmp_path / "runs" / "<b>run</b>", tokens=(EVIL, "wug"), layers=(EVIL, "conv2", "fc"))
    ArraySink(tmp_path / "runs" / EVIL / "records.zarr", None).close()
    (tmp_path / "runs" / f"z{EVIL}" / "records.zarr").mkdir(parents=True)
    with board(tmp_path / "runs") as address:
        tab = show(page, address, f"&p.emerge.layer={EVIL}&p.emerge.matrix={EVIL}")
        expect(tab.locator(".tokens button").first).to_have_text(EVIL)
        assert tab.locator("#run").input_value() == "<b>run</b>"
        settled(tab, "matrix")
        box = canvas_of(tab, "curves").bounding_box()
        page.mouse.move(box["x"] + 100, box["y"] + 100)
        page.wait_for_timeout(300)
        assert tab.locator("#emerge").locator("img, b, script").count() == 0
        tab.locator("#run").select_option(EVIL)
        expect(tab.locator(".message")).to_contain_text(f"{EVIL} has no looks")
        expect(tab.locator(".message")).to_contain_text(f"z{EVIL}: The records of this run cannot be read")
        assert tab.locator("#emerge").locator("img, b, script").count() == 0


def test_where_there_is_no_run_it_says_what_to_do(page, tmp_path):
    (tmp_path / "runs").mkdir()
    with board(tmp_path / "runs") as address:
        tab = show(page, address)
        expect(tab.locator(".message")).to_contain_text("lightning fit --config vgg5")
        expect(tab.locator("main")).to_be_hidden()


def test_what_a_run_has_not_recorded_is_said(bare_page, make_run, tmp_path):
    run = make_run(tmp_path / "runs" / "bare", without=("rdm", "distances", "coupling_edges"))
    assert run.is_dir()
    with board(tmp_path / "runs") as address:
        tab = show(bare_page, address)
        expect(tab.locator("[data-view=gradients] .note")).to_contain_text("TokenGradientProbe")
        expect(tab.locator("[data-view=embedding] .note")).to_contain_text("EmbeddingProbe")


def test_it_works_behind_a_path(page, runs, tab_env: dict[str, str]):
    command = [
        sys.executable,
        "-m",
        "tensorboard.main",
        f"--logdir={runs}",
        "--host=127.0.0.1",
        "--path_prefix=/deep/er",
    ]
    port = _free_port()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with started([*command, f"--port={port}"], env=tab_env, **quiet):
        address = f"http://127.0.0.1:{port}/deep/er"
        _wait_for(lambda: urllib.request.urlopen(f"{address}/data/environment", timeout=5).close())
        tab = show(page, f"{address}/#emerge")
        tab.locator("#step").press("Home")
        wait_for_step(tab, 0)
        page.wait_for_url(re.compile(r"/deep/er/#emerge.*emerge\.step=0"))


@pytest.mark.usefixtures("hasty")
def test_a_fit_that_runs_is_followed_until_the_slider_is_moved(bare_page, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "followed.yaml").write_text(FOLLOWED)
    with ExitStack() as both:
        address = both.enter_context(board(tmp_path / "runs"))
        tab = show(bare_page, address)
        running = both.enter_context(fit(tmp_path, "--config", "followed.yaml"))
        tab.locator(".tokens button").first.wait_for(timeout=120_000)
        expect(tab.locator("#follow")).to_have_attribute("aria-pressed", "true")
        seen: list[int] = []
        end = time.monotonic() + 150
        while time.monotonic() < end and len(seen) < 3:
            step = tab.locator("#emerge").get_attribute("data-step")
            if step is not None and int(step) not in seen:
                seen.append(int(step))
            time.sleep(0.1)
        assert len(seen) == 3
        assert seen == sorted(seen)
        tab.locator("#step").press("ArrowLeft")
        expect(tab.locator("#follow")).to_have_attribute("aria-pressed", "false")
        stays = tab.locator("#emerge").get_attribute("data-step")
        known = tab.locator("#step").get_attribute("aria-valuetext")
        for _ in range(2):  # it hears of more steps
            expect(tab.locator("#step")).not_to_have_attribute("aria-valuetext", known, timeout=PATIENCE)
            known = tab.locator("#step").get_attribute("aria-valuetext")
            assert tab.locator("#emerge").get_attribute("data-step") == stays
        assert running.poll() is None


STATES = """(_, views) => views.map(view => {
  const panel = document.querySelector(`[data-view=${view}]`), canvas = panel.querySelector("canvas");
  const selects = [...panel.querySelectorAll(".choices select")];
  return {
    hidden: !canvas?.checkVisibility(),
    note: panel.querySelector(".note").innerText,
    choices: Object.fromEntries(selects.map(
      select => [select.dataset.key, [select.value, [...select.options].map(one => one.value)]])),
  }; })"""


def states_of(tab: FrameLocator, *views: str) -> list[dict[str, Any]]:
    """Of each view: whether it shows nothing, what it says instead, and its choices, as by `choices_of`."""
    return tab.locator("body").evaluate(STATES, list(views))


def choices_of(tab: FrameLocator, view: str) -> dict[str, list[Any]]:
    """What can be chosen in a view: by key, what is chosen, and among what."""
    return states_of(tab, view)[0]["choices"]


def is_seen(tab: FrameLocator) -> None:
    """Something is shown: panels, and each with a choice that is among what it offers, or with what is missing."""
    expect(tab.locator("main")).to_be_visible()
    for view, state in zip(VIEWS, states_of(tab, *VIEWS), strict=True):
        if state["hidden"]:
            assert state["note"].startswith("This run has ")
            continue
        assert state["note"] == "", view
        for key, (value, among) in state["choices"].items():
            assert value in among, (view, key)


def ink_of(tab: FrameLocator, view: str) -> int:
    """How many pixels of a view are not as its background."""
    count = (
        "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.filter(v => v).length"
    )
    return canvas_of(tab, view).evaluate(count)


def put(folder: Path, steps: dict[int, dict[str, tuple[Any, tuple[le.Axis, ...]]]], about: str = "made up") -> None:
    """Writes a run's records: by step and name, values and axes."""
    sink = ArraySink(folder / "records.zarr", None)
    for step, records in steps.items():
        made = [
            le.Measurement(
                name, np.asarray(values, np.float32), axes, step, "1 - Pearson r", about=about, distance=_distance(axes)
            )
            for name, (values, axes) in records.items()
        ]
        assert sink.write(step, made) == {}
    sink.close()


def _distance(axes: tuple[le.Axis, ...]) -> Literal["", "square"]:
    return "square" if axes[-1].name == "stimulus_b" else ""


def test_the_default_runs_first_screen_shows_what_was_recorded(page, default_address):
    tab = show(page, default_address)
    is_seen(tab)
    layers = {view: choices_of(tab, view)["layer"] for view in ("matrix", "filters")}
    assert layers["matrix"][0] == layers["filters"][0] == "conv5_3"  # that all views have
    assert "conv1_2" not in layers["filters"][1]
    assert ink_of(tab, "filters") > 10_000
    shown = [panel.get_attribute("data-view") for panel in tab.locator("main > .panel").all()]
    assert shown == ["matrix", "curves", "embedding", "filters", "coupling", "gradients"]


@pytest.mark.parametrize("view", ["matrix", "curves", "embedding", "filters"])
def test_all_that_a_view_of_the_default_run_offers_is_drawn(bare_page, default_address, view):
    tab = show(bare_page, default_address)
    key, (_, among) = next(iter(choices_of(tab, view).items()))
    assert len(among) > 1
    seen = set()
    for name in among:
        tab.locator(f"[data-view={view}] .choices select").first.select_option(name)
        is_seen(tab)
        seen.add(settled(tab, view))
        assert ink_of(tab, view) > 1000, name
    assert len(seen) > 0.8 * len(among), key  # some curves are alike


def test_a_measure_of_pairs_of_layers_is_one_matrix_with_its_numbers(bare_page, default_run, default_address):
    (run,) = default_run.rglob("records.zarr")
    cka = le.open_run(run.parent).cka
    last = cka.isel(step=-1)
    tab = show(bare_page, default_address, "&p.emerge.matrix=cka")
    assert set(choices_of(tab, "matrix")) == {"matrix"}
    assert "Rows and columns are 7 layers" in tab.locator("[data-view=matrix] .about").inner_text()
    settled(tab, "matrix")
    box = canvas_of(tab, "matrix").bounding_box()
    assert box["width"] > 450
    for row, column in ((0, 0), (1, 0), (2, 5), (6, 6)):
        bare_page.mouse.move(box["x"] + 58 + (column + 0.5) * 380 / 7, box["y"] + 24 + (row + 0.5) * 380 / 7)
        names = f"{last.layer.values[row]} and {last.layer_b.values[column]}"
        expect(tab.locator(".tip")).to_have_text(f"{names}: {digits(float(last[row, column]))}")


def digits(value: float) -> str:
    """A number as the tab says it."""
    return f"{value:.3g}" if abs(value) >= 1e-3 else "0"


@pytest.mark.parametrize("name", ["token_crossnobis", "token_rdm"])
def test_numbers_are_those_of_the_records_and_not_of_their_colours(bare_page, runs, address, name):
    array = le.open_run(runs / "smoke/version_0")[name].isel(step=-1).sel(layer="conv3_1")
    tab = show(bare_page, address, f"&p.emerge.run=smoke%2Fversion_0&p.emerge.matrix={name}&p.emerge.layer=conv3_1")
    words = words_of(bare_page, tab, "matrix")
    for row in range(5):
        for column in range(5):
            value = float(array[row, column])
            assert value == 0 or abs(value) < 1e-3 or digits(value) in words, (row, column, value)


def words_of(page: Page, tab: FrameLocator, view: str) -> list[str]:
    """The words that are drawn in a view."""
    settled(tab, view)
    with page.expect_download() as waiting:
        tab.locator(f"[data-view={view}] button", has_text="SVG").click()
    return [node.text for node in ElementTree.parse(waiting.value.path()).getroot().iter() if node.text]


def test_a_layer_of_few_filters_has_no_more(bare_page, address):
    tab = show(bare_page, address, "&p.emerge.layer=conv1_1")
    assert {word for word in words_of(bare_page, tab, "filters") if word.isdigit()} == set("0123")


@pytest.mark.usefixtures("hasty")
def test_a_run_without_looks_hides_no_other(bare_page, make_run, tmp_path):
    for name in ("run_9", "run_10"):
        make_run(tmp_path / "runs" / name)
    ArraySink(tmp_path / "runs/z_begun/records.zarr", None).close()
    make_run(tmp_path / "runs/z_torn")  # killed in its first look, none of which is committed
    shutil.copy(tmp_path / "runs/z_begun/records.zarr/zarr.json", tmp_path / "runs/z_torn/records.zarr/zarr.json")
    with board(tmp_path / "runs") as address:
        tab = show(bare_page, address)
        run = tab.locator("#run")
        expect(run).to_have_value("run_10")
        assert run.locator("option").all_inner_texts() == ["run_9", "run_10", "z_begun (no looks)", "z_torn (no looks)"]
        is_seen(tab)
        assert tab.locator(".message").inner_text() == ""
        for name in ("z_begun", "z_torn"):
            run.select_option(name)
            expect(tab.locator(".message")).to_have_text(re.compile(f"^{name} has no looks"))
            expect(tab.locator("main")).to_be_hidden()
            expect(tab.locator("#step")).to_be_hidden()
            bare_page.keyboard.press("End")
        tab.locator("#other").select_option("run_9")
        expect(tab.locator("[data-view=matrix] .run")).to_have_text(["run_9"])
        run.select_option("run_10")
        expect(tab.locator("[data-view=matrix] .run")).to_have_text(["run_10", "run_9"])
        expect(tab.locator(".message")).to_have_text("")
        tab = show(bare_page, address, "&p.emerge.run=z_begun")
        expect(run).to_have_value("z_begun")
        expect(tab.locator(".message")).to_contain_text("z_begun has no looks")
        sink = ArraySink(tmp_path / "runs/z_begun/records.zarr", 0)
        sink.write(0, [le.Measurement("bank_confidence", np.ones(2), (le.Axis("token", ["a", "b"]),), 0)])
        expect(tab.locator("[data-view=curves] canvas")).to_be_visible(timeout=PATIENCE)  # it comes by itself
        expect(tab.locator(".message")).to_have_text("")
        sink.close()


def test_only_runs_without_looks(bare_page, tmp_path):
    ArraySink(tmp_path / "runs/begun/records.zarr", None).close()
    with board(tmp_path / "runs") as address:
        tab = show(bare_page, address)
        expect(tab.locator(".message")).to_contain_text("begun has no looks")
        expect(tab.locator("#run")).to_have_value("begun")
        assert "emerge.run" not in bare_page.url


def test_a_run_that_cannot_be_read_hides_no_other(bare_page, make_run, tmp_path):
    for name in ("good", "torn", "worse", "z_cut"):
        make_run(tmp_path / "runs" / name)
    for name in ("torn", "worse"):  # a disk was full: their metadata are whole, their labels are not
        (labels,) = (tmp_path / "runs" / name / "records.zarr" / "layer").glob("c.*")
        labels.write_bytes(labels.read_bytes()[:9])
    root = tmp_path / "runs/z_cut/records.zarr/zarr.json"
    root.write_bytes(root.read_bytes()[:500])
    with board(tmp_path / "runs") as address:
        tab = show(bare_page, address)
        expect(tab.locator("#run")).to_have_value("good")
        is_seen(tab)
        for name in ("torn", "worse", "z_cut"):
            expect(tab.locator(".message")).to_contain_text(f"{name}: The records of this run cannot be read")
        tab.locator("#other").select_option("torn")
        expect(tab.locator("#other")).to_have_value("torn")
        is_seen(tab)
        tab.locator("#run").select_option("worse")
        expect(tab.locator("main")).to_be_hidden()
        tab.locator("#run").select_option("good")
        is_seen(tab)


def test_what_is_first_shown_has_numbers(bare_page, tmp_path):
    layer, token = le.Axis("layer", ["a", "b", "c", "d"]), le.Axis("token", ["x", "y"])
    pair = (layer, le.Axis("stimulus", ["1", "2"]), le.Axis("stimulus_b", ["1", "2"]))
    rdm = np.ones((4, 2, 2))
    rdm[2] = np.nan  # a layer that is dead
    few = (le.Axis("layer", ["a", "b"]), *pair[1:])
    records = {
        "bank_confidence": (np.full(2, np.nan), (token,)),
        "bank_accuracy": (np.full(2, 0.5), (token,)),
        "distances": (np.full((2, 2, 2), np.nan), few),
        "rdm": (rdm, pair),
        "dead_share": (np.full(4, 0.5), (layer,)),
    }
    put(tmp_path / "runs/one", {0: records, 3: records})
    with board(tmp_path / "runs") as address:
        tab = show(bare_page, address)
        is_seen(tab)
        assert choices_of(tab, "curves")["curves"][0] == "bank_accuracy"
        assert choices_of(tab, "embedding")["points"][0] == "rdm"
        assert choices_of(tab, "matrix") == {"matrix": ["rdm", ["distances", "rdm"]], "layer": ["b", list("abcd")]}
        tab.locator("[data-view=curves] select").first.select_option("bank_confidence")  # whoever wants it has it
        settled(tab, "curves")
        expect(tab.locator("[data-view=curves] select").first).to_have_value("bank_confidence")
        tab.locator("[data-view=matrix] select").nth(1).select_option("c")
        expect(canvas_of(tab, "matrix")).to_be_visible()


@pytest.mark.parametrize("layers", [("only",), ("conv1", "fc")])
def test_kernels_alone_have_their_layer(bare_page, tmp_path, layers):
    names = ("filter", "channel", "y", "x")
    kernels = (np.ones((4, 3, 3, 3)), tuple(le.Axis(n, range(k)) for n, k in zip(names, (4, 3, 3, 3), strict=True)))
    norm = (np.ones(len(layers)), (le.Axis("layer", list(layers)),))
    put(tmp_path / "runs/one", {0: {"kernels": kernels, "norm": norm}}, about="conv1")
    with board(tmp_path / "runs") as address:
        tab = show(bare_page, address)
        is_seen(tab)
        assert choices_of(tab, "filters") == {"layer": ["conv1", ["conv1"]]}
        assert ink_of(tab, "filters") > 1000
        shown = [panel.get_attribute("data-view") for panel in tab.locator("main > .panel").all()]
        assert shown == ["curves", "filters", "matrix", "embedding", "coupling", "gradients"]


def test_a_token_that_a_run_does_not_have_fades_nothing(bare_page, make_run, tmp_path):
    make_run(tmp_path / "runs/one")
    with board(tmp_path / "runs") as address:
        before = settled(show(bare_page, address), "filters")
        assert settled(show(bare_page, address, "&p.emerge.token=wug"), "filters") != before
        assert settled(show(bare_page, address, "&p.emerge.token=elsewhere"), "filters") == before


def test_two_runs_show_the_same_measure_or_say_that_one_lacks_it(bare_page, make_run, tmp_path):
    make_run(tmp_path / "runs/a")
    make_run(tmp_path / "runs/b", without=("rdm",))
    with board(tmp_path / "runs") as address:
        tab = show(bare_page, address, "&p.emerge.run=a&p.emerge.other=b")
        expect(tab.locator("[data-view=matrix] .run")).to_have_text(["a", "b"])
        expect(tab.locator("[data-view=matrix] .note")).to_have_text(["", "This run has recorded no rdm."])
        tab.locator("[data-view=matrix] select").first.select_option("distances")
        expect(tab.locator("[data-view=matrix] .note")).to_have_text(["", ""])


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _wait_for(work: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(OSError):
            work()
            return
        time.sleep(0.25)
    pytest.fail("TensorBoard did not answer")
