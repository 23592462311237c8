"""The public names: each imported from its home when it is asked for, each on the page of the API."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

import lightning_emerge as le

ROOT = Path(__file__).parents[1]
_HOMES = dict(
    reversed(line)
    for line in re.findall(
        r"^from \.([\w.]+) import (\w+) as \2$", (ROOT / "lightning_emerge" / "__init__.pyi").read_text(), re.MULTILINE
    )
)


def test_the_stub_is_all_that_is_public():
    assert sorted(_HOMES) == le.__all__ == dir(le)


@pytest.mark.parametrize("name", le.__all__)
def test_a_public_name_is_what_its_home_holds(name):
    assert getattr(le, name) is getattr(import_module(f"lightning_emerge.{_HOMES[name]}"), name)


def test_the_page_of_the_api_has_every_public_name_and_no_other():
    page = (ROOT / "docs" / "api.md").read_text()
    assert sorted(re.findall(r"auto(?:class|function):: (\w+)(?=\(|$)", page, re.MULTILINE)) == le.__all__


def test_a_name_that_is_none_is_refused():
    with pytest.raises(AttributeError, match="SimilarityProb"):
        _ = le.SimilarityProb
