"""Paths without `://` are local and literal."""

from __future__ import annotations

from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from lightning_emerge.store.places import is_url, open_place, to_local

LITERAL = ["exp::lr0.1", "file:x", "data:x", "memory:x", "a::memory", "~", "$HOME", "runs/a:b", "x/s3://y", "/a://b"]


@pytest.mark.parametrize("name", LITERAL)
def test_what_is_no_url_is_the_folder_of_that_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files, root = open_place(name)
    assert isinstance(files, LocalFileSystem)
    assert root == (str(tmp_path / name) if not name.startswith("/") else "/a:/b")


@pytest.mark.parametrize("url", ["memory://a", "s3://bucket/a::b", "simplecache::memory://a", "zip://x::memory://a"])
def test_urls_are_urls(url: str) -> None:
    assert is_url(url)


def test_a_url_leads_to_its_file_system() -> None:
    files, root = open_place("memory://places/run")
    assert isinstance(files, MemoryFileSystem)
    assert root == "/places/run"


def test_a_file_url_is_a_local_path(tmp_path: Path) -> None:
    assert to_local(f"file://{tmp_path}/a::b") == f"{tmp_path}/a::b"
    assert not is_url(f"file://{tmp_path}/a")
