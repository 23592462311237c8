"""CONTRIBUTING.md says what is so: the rooms of the package, the order of its imports, and where things are."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lightning_emerge"
PAGE = (ROOT / "CONTRIBUTING.md").read_text()
_MAP = re.findall(r"^\|[^|]+\| `([\w/]+\.py)` \| `([\w.]+)` \|$", PAGE, re.MULTILINE)


def _layers() -> list[set[str]]:
    """The rooms of import-linter's contract, the highest first."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (rooms,) = [contract for contract in contracts if contract.get("containers") == ["lightning_emerge"]]
    assert rooms["exhaustive"]
    return [set(layer.split(" | ")) for layer in rooms["layers"]]


def _definitions(path: Path) -> set[str]:
    """Functions and classes of a module, and methods as `Class.method`."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return found


def test_the_rooms_of_the_page_are_those_of_the_package():
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    named = re.findall(r"^\| `(\w+)(?:/|\.py)` \|", PAGE, re.MULTILINE)
    assert sorted(named) == sorted(rooms - {"__init__", "__main__"})


def test_the_order_of_the_page_is_the_contract():
    (said,) = re.findall(r"^    (cli > .*(?:\n    .*)*)$", PAGE, re.MULTILINE)
    order = [set(layer.split(" | ")) for layer in " ".join(said.split()).split(" > ")]
    assert order == [layer for layer in _layers() if layer != {"__main__"}]


@pytest.mark.parametrize(("path", "name"), _MAP, ids=[name for _, name in _MAP])
def test_the_map_leads_to_what_is_there(path, name):
    assert name in _definitions(PACKAGE / path)


def test_the_map_has_ten_behaviours():
    assert len(_MAP) == 10
