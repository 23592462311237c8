import hashlib
import os
import threading
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_emerge.data.photographs import cache as module
from lightning_emerge.data.photographs.cache import PixelCache
from lightning_emerge.data.photographs.decoding import decode


def photograph(number: int) -> bytes:
    content = BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (12, 10, 3), np.uint8)).save(content, "png")
    return content.getvalue()


def read(cache: PixelCache, content: bytes) -> np.ndarray:
    return cache.read(content, hashlib.sha256(content).digest())


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def decodings(monkeypatch) -> list[bytes]:
    """Contents that were decoded, in turn."""
    contents: list[bytes] = []

    def counting(content: bytes, size: int) -> np.ndarray:
        contents.append(content)
        return decode(content, size)

    monkeypatch.setattr(module, "decode", counting)
    return contents


def test_a_content_is_decoded_once_and_read_back_bit_by_bit(tmp_path, decodings):
    first = [read(PixelCache(str(tmp_path), 8), photograph(k)) for k in (0, 1)]
    again = [read(PixelCache(str(tmp_path), 8), photograph(k)) for k in (0, 1)]
    assert decodings == [photograph(0), photograph(1)]
    for k in (0, 1):
        assert again[k].dtype == np.uint8
        assert (first[k] == decode(photograph(k), 8)).all()
        assert (again[k] == first[k]).all()


def test_another_size_is_decoded_anew(tmp_path, decodings):
    for size in (8, 9, 8, 9):
        assert read(PixelCache(str(tmp_path), size), photograph(0)).shape == (3, size, size)
    assert len(decodings) == 2


def test_another_version_of_the_decoding_decodes_anew(tmp_path, decodings, monkeypatch):
    read(PixelCache(str(tmp_path), 8), photograph(0))
    monkeypatch.setattr(module, "VERSION", 10**6)
    read(PixelCache(str(tmp_path), 8), photograph(0))
    assert len(decodings) == 2


def test_without_a_folder_nothing_is_kept(tmp_path, decodings, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        read(PixelCache(None, 8), photograph(0))
    assert len(decodings) == 2
    assert entries(tmp_path) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: b"",
        lambda entry: entry[:-1],
        lambda entry: entry + b"\0",
        lambda entry: bytes(len(entry)),
        lambda entry: entry[:40] + bytes([entry[40] ^ 1]) + entry[41:],
    ],
    ids=["empty", "cut", "longer", "zeros", "one bit"],
)
def test_a_damaged_entry_is_decoded_anew_and_replaced(tmp_path, decodings, damage):
    read(PixelCache(str(tmp_path), 8), photograph(0))
    [entry] = entries(tmp_path)
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    assert (read(PixelCache(str(tmp_path), 8), photograph(0)) == decode(photograph(0), 8)).all()
    assert len(decodings) == 2
    assert entry.read_bytes() == whole


def test_entries_hold_the_pixels_and_their_check_alone(tmp_path):
    pixels = read(PixelCache(str(tmp_path), 8), photograph(0))
    [entry] = entries(tmp_path)
    assert entry.read_bytes() == hashlib.sha256(pixels.tobytes()).digest() + pixels.tobytes()
    assert entry.parent.name + entry.name == hashlib.sha256(photograph(0)).hexdigest()


def test_what_cannot_be_decoded_is_not_kept(tmp_path):
    with pytest.raises(ValueError, match="not an image"):
        read(PixelCache(str(tmp_path), 8), b"text")
    assert entries(tmp_path) == []


def test_a_cache_that_cannot_be_written_costs_one_warning(tmp_path, decodings):
    (tmp_path / "file").write_text("in the way")
    cache = PixelCache(str(tmp_path / "file"), 8)
    with pytest.warns(match=r"data\.cache.*could not be written.*null") as caught:
        images = [read(cache, photograph(k)) for k in range(3)]
    assert len(caught) == 1
    for k, image in enumerate(images):
        assert (image == decode(photograph(k), 8)).all()


def test_a_full_disk_costs_one_warning_and_leaves_no_pieces(tmp_path, monkeypatch):
    cache = PixelCache(str(tmp_path), 8)
    read(cache, photograph(0))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.warns(match="No space left on device") as caught:
        images = [read(cache, photograph(k)) for k in range(3)]
    assert len(caught) == 1
    assert all((image == decode(photograph(k), 8)).all() for k, image in enumerate(images))
    assert len(entries(tmp_path)) == 1


def test_an_entry_appears_as_a_whole(tmp_path, monkeypatch):
    seen = []
    replace = os.replace

    def watched(source, target):
        seen.append((Path(target).exists(), len(Path(source).read_bytes()), Path(source).parent == Path(target).parent))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    read(PixelCache(str(tmp_path), 8), photograph(0))
    assert seen == [(False, 32 + 3 * 8 * 8, True)]


def test_several_at_once_get_the_same_pixels(tmp_path, monkeypatch):
    expected = [decode(photograph(k), 8) for k in range(4)]
    # Filters of warnings, which decoding sets, belong to the whole process.
    monkeypatch.setattr(module, "decode", lambda content, size: expected[photographs.index(content)])
    photographs = [photograph(k) for k in range(4)]
    wrong = []

    def work() -> None:
        cache = PixelCache(str(tmp_path), 8)
        for k in range(40):
            if not (read(cache, photographs[k % 4]) == expected[k % 4]).all():
                wrong.append(k)
            for entry in [path for path in entries(tmp_path) if not path.name.startswith("tmp")][:1]:
                entry.unlink(missing_ok=True)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


class TestFolder:
    def test_the_cache_home_stands_for_dot_cache(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        read(PixelCache("~/.cache/ours", 8), photograph(0))
        assert len(entries(tmp_path / "xdg" / "ours")) == len(entries(tmp_path)) == 1

    @pytest.mark.parametrize("setting", ["", "relative/folder"])
    def test_a_cache_home_that_is_no_absolute_path_does_not(self, tmp_path, monkeypatch, setting):
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.setenv("XDG_CACHE_HOME", setting)
        monkeypatch.chdir(tmp_path)
        read(PixelCache("~/.cache/ours", 8), photograph(0))
        assert len(entries(tmp_path / "home/.cache/ours")) == len(entries(tmp_path)) == 1

    def test_other_folders_are_what_they_say(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
        read(PixelCache("~/ours", 8), photograph(0))
        read(PixelCache(str(tmp_path / "there"), 8), photograph(0))
        assert len(entries(tmp_path / "home/ours")) == len(entries(tmp_path / "there")) == 1
