"""Folders: literal names, whole files, and nothing that a link leads to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lightning_emerge.store import folder
from lightning_emerge.store.folder import Folder


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A folder of somebody else's."""
    home = tmp_path / "thesis"
    home.mkdir()
    (home / "chapter.txt").write_text("precious")
    return home


def is_unharmed(canary: Path) -> bool:
    return [path.name for path in canary.iterdir()] == ["chapter.txt"] and (
        (canary / "chapter.txt").read_text() == "precious"
    )


@pytest.mark.parametrize("name", ["exp::lr0.1", "file:x", "memory:x", "a::memory", "~", "a:b::c"])
def test_a_name_without_slashes_after_its_colon_is_that_of_a_local_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    Folder(f"{name}/records").put("zarr.json", b"{}")
    assert (tmp_path / name / "records/zarr.json").read_bytes() == b"{}"
    assert Folder(Path(name) / "records").read("zarr.json") == b"{}"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_is_half_written_has_a_name_that_nobody_can_guess_and_is_made_anew(tmp_path, canary, monkeypatch):
    home = tmp_path / "home"
    Folder(home).put("a", b"old")
    monkeypatch.setattr(folder, "token_hex", lambda _: "guessed")
    (home / ".a.guessed.new").symlink_to(canary / "chapter.txt")
    with pytest.raises(FileExistsError):
        Folder(home).put("a", b"new")
    assert (home / "a").read_bytes() == b"old"
    assert (home / ".a.guessed.new").is_symlink()
    assert is_unharmed(canary)
    monkeypatch.undo()
    names = {folder.token_hex(8) for _ in range(100)}
    assert len(names) == 100


def test_a_folder_within_that_is_a_link_is_not_written_through(tmp_path, canary):
    (tmp_path / "home").mkdir()
    (tmp_path / "home/rdm").symlink_to(canary)
    for make in (True, False):
        with pytest.raises(OSError, match="rdm"):
            Folder(tmp_path / "home").put("rdm/c.0", b"x", make=make)
    assert is_unharmed(canary)


def test_a_file_that_is_a_link_is_replaced_and_not_what_it_leads_to(tmp_path, canary):
    (tmp_path / "a").symlink_to(canary / "chapter.txt")
    Folder(tmp_path).put("a", b"ours")
    assert not (tmp_path / "a").is_symlink()
    assert is_unharmed(canary)


def test_links_are_neither_followed_nor_emptied(tmp_path, canary):
    home = tmp_path / "home"
    (home / "x/c").mkdir(parents=True)
    (home / "x/c/0").symlink_to(canary)
    folder = Folder(home)
    assert folder.files("x") == ["c/0"]
    folder.remove("x/c/0")
    folder.prune("x")
    assert list(home.iterdir()) == []
    assert is_unharmed(canary)


def test_a_folder_that_was_removed_is_not_made_again_unless_it_is_asked_for(tmp_path):
    folder = Folder(tmp_path / "gone")
    with pytest.raises(FileNotFoundError):
        folder.put("a", b"x", make=False)
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_no_plain_file_is_refused_at_once(tmp_path, kind):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match="is no plain file"):
        Folder(tmp_path).read(kind)


def test_a_lock_is_not_opened_through_a_link(tmp_path, canary):
    (tmp_path / ".home.lock").symlink_to(canary / "chapter.txt")
    with pytest.raises(OSError, match=r"\S"):
        Folder(tmp_path / "home").lock()
    assert is_unharmed(canary)
