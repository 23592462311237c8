"""Exemplars out of the framework and back."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from children import started

import lightning_emerge as le
from lightning_emerge.data.export import claim, export
from lightning_emerge.data.rendering.latents import scenes_of
from lightning_emerge.data.rendering.render import paint

SMALL = {"exemplars": 12, "val_exemplars": 4, "test_exemplars": 4, "bank_exemplars": 3, "image_size": 16}


def make(**changes) -> le.TokenDataModule:
    return le.TokenDataModule(**{**SMALL, "min_exemplars": 1, "batch_size": 5, **changes})


def write(data: le.TokenDataModule, folder: Path) -> tuple[int, list[int]]:
    dealt: list[int] = []
    claim(data, folder)
    return export(data, folder, dealt.append), dealt


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[le.TokenDataModule, Path]:
    folder = tmp_path_factory.mktemp("export") / "new" / "folder"
    data = make()
    count, dealt = write(data, folder)
    assert count == sum(dealt) == 5 * (12 + 4 + 4 + 3)
    return data, folder


def marks(folder: Path) -> dict[str, tuple[int, int]]:
    """What changes when a file is written again: its inode and its time."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


class TestRoundTrip:
    def test_a_folder_data_module_reads_the_same_pixels_and_splits(self, written):
        data, folder = written
        read = le.FolderDataModule(str(folder), image_size=16, min_exemplars=1, batch_size=5, cache=None)
        read.setup("fit")
        assert set(read.tokens) == set(data.tokens)
        for split, count in data.counts.items():
            images = read.examples(split, 1000).numpy()
            for label, token in enumerate(read.tokens):
                expected = data.images(split, token, range(count))
                assert images[label].tobytes() == expected.tobytes(), (split, token)

    def test_the_latents_of_every_image_are_there_and_paint_it(self, written):
        data, folder = written
        table = pd.read_parquet(folder / "latents.parquet")
        assert len(table) == table["id"].nunique() == 5 * (12 + 4 + 4 + 3)
        for (split, token), rows in table.groupby(["split", "token"]):
            assert rows["index"].tolist() == list(range(data.counts[split]))
            painted = paint(scenes_of(rows), 16)
            assert painted.tobytes() == data.images(split, token, rows["index"].tolist()).tobytes()

    def test_the_grammar_reads_back(self, written):
        data, folder = written
        assert le.read_grammar(folder / "grammar.yaml") == data.grammar

    def test_tokens_of_different_arity_share_one_table(self, tmp_path):
        left, right, low = (-0.5, -0.4), (0.5, -0.4), (0.0, 0.45)
        pairs = [("disk", "cross"), ("cross", "disk")]
        tokens = [
            le.Token(f"{a}{turn}", (le.Part(a, left), le.Part(b, right), *own))
            for a, b in pairs
            for turn, own in (("bare", ()), ("bar", (le.Part("bar", low),)))
        ]
        data = make(grammar=le.Grammar(tuple(tokens)))
        write(data, tmp_path)
        table = pd.read_parquet(tmp_path / "latents.parquet")
        bare = table["token"].str.endswith("bare")
        assert table.loc[bare, "part2_shape"].isna().all()
        assert (table.loc[~bare, "part2_shape"] == "bar").all()


class TestResume:
    def test_a_second_call_writes_nothing(self, written):
        data, folder = written
        before = marks(folder)
        assert write(data, folder)[0] == 0
        assert marks(folder) == before

    def test_what_was_removed_is_written_and_nothing_else(self, tmp_path):
        data = make()
        write(data, tmp_path)
        before = marks(tmp_path)
        gone = ["val/dax/000002.png", "latents.parquet", "grammar.yaml"]
        for name in gone:
            (tmp_path / name).unlink()
        assert write(data, tmp_path)[0] == 1
        after = marks(tmp_path)
        assert after.keys() == before.keys()
        assert [name for name in before if after[name] != before[name]] == sorted(gone, key=list(before).index)

    def test_links_at_its_names_are_not_written_through(self, tmp_path):
        precious = tmp_path / "precious"
        precious.write_text("mine")
        folder = tmp_path / "out"
        data = make()
        claim(data, folder)
        (folder / "train" / "dax").mkdir(parents=True)
        taken = ["train/dax/.000000.png", ".latents.parquet", ".data.yaml", ".grammar.yaml"]
        for name in taken:
            (folder / f"{name}.unfinished").symlink_to(precious)
        assert write(data, folder)[0] == len(list(folder.glob("*/*/0*.png")))
        assert precious.read_text() == "mine"
        assert (folder / "latents.parquet").is_file()
        assert [(folder / f"{name}.unfinished").is_symlink() for name in taken] == [True] * 4

    @pytest.mark.parametrize("name", ["train/dax/.000000.png", ".latents.parquet"])
    def test_nor_is_one_that_is_there_after_all(self, name, tmp_path, monkeypatch):
        folder, precious = tmp_path / "out", tmp_path / "precious"
        precious.write_text("mine")
        claim(make(), folder)
        (folder / "train" / "dax").mkdir(parents=True)
        monkeypatch.setattr("lightning_emerge.data.export.token_hex", lambda _: "guessed")
        (folder / f"{name}.guessed.unfinished").symlink_to(precious)
        with pytest.raises(FileExistsError):
            export(make(), folder, lambda _: None)
        assert precious.read_text() == "mine"
        assert (folder / f"{name}.guessed.unfinished").is_symlink()

    def test_what_is_written_may_be_read_by_whom_the_users_mask_lets(self, tmp_path):
        write(make(), tmp_path / "out")
        (tmp_path / "other").touch()
        modes = {path.stat().st_mode for path in (tmp_path / "out").rglob("*") if path.is_file()}
        assert modes == {(tmp_path / "other").stat().st_mode}

    def test_killed_midway_and_called_again_it_completes_without_rewriting(self, tmp_path):
        folder = tmp_path / "out"
        code = (
            "import sys; from pathlib import Path; import lightning_emerge as le;"
            "from lightning_emerge.data.export import claim, export;"
            "data = le.TokenDataModule(exemplars=600, image_size=64, min_exemplars=1);"
            "claim(data, Path(sys.argv[1])); export(data, Path(sys.argv[1]), lambda n: None)"
        )
        with started([sys.executable, "-c", code, folder], ready=True) as process:
            while len(list(folder.glob("train/*/*.png"))) < 100:
                assert process.poll() is None, "it ended before it could be killed"
                time.sleep(0.02)
        before = {name: mark for name, mark in marks(folder).items() if not name.endswith(".unfinished")}
        assert 100 <= len(before) < 3000
        assert "latents.parquet" not in before
        data = le.TokenDataModule(exemplars=600, image_size=64, min_exemplars=1)
        count, _ = write(data, folder)
        after = marks(folder)
        assert {name: after[name] for name in before} == before
        assert not [name for name in after if name.endswith(".unfinished")]
        images = [name for name in after if name.endswith(".png")]
        assert len(images) == 5 * sum(data.counts.values())
        assert count == len(images) - sum(name.endswith(".png") for name in before)
        assert len(pd.read_parquet(folder / "latents.parquet", columns=["id"])) == len(images)


class TestRefusals:
    @pytest.mark.parametrize(
        "other", [{"seed": 1}, {"exemplars": 13}, {"image_size": 17}, {"nuisances": le.Nuisances("hard")}], ids=str
    )
    def test_a_folder_of_other_exemplars_is_left_alone(self, written, other):
        _, folder = written
        before = marks(folder)
        with pytest.raises(ValueError, match=r"data\.yaml .*others"):
            claim(make(**other), folder)
        assert marks(folder) == before

    def test_so_is_one_of_another_grammar(self, written):
        _, folder = written
        with pytest.raises(ValueError, match=r"grammar\.yaml says that it holds others"):
            claim(make(grammar=le.Grammar.sample(5, 5, 4, 2, 0)), folder)

    def test_so_is_somebody_else_s_folder(self, tmp_path):
        (tmp_path / "thesis.tex").write_text("dear")
        with pytest.raises(ValueError, match=r"new folder.* is neither"):
            claim(make(), tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_memory_does_not_grow_with_the_number_of_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("lightning_emerge.data.export._BLOCK", 4)
    asked: list[int] = []
    data = make()
    images = data.images
    monkeypatch.setattr(data, "images", lambda s, t, k: (asked.append(len(k)), images(s, t, k))[1])
    write(data, tmp_path)
    assert max(asked) == 4
    assert np.sum(asked) == 5 * (12 + 4 + 4 + 3)
