import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from lightning_emerge.data.dataset import Exemplars
from lightning_emerge.data.photographs import FolderDataModule

RED = (255, 0, 0)
ANIMALS = {"ant": 40, "bee": 55, "cow": 31}
FLOWERS = Path(os.environ.get("LIGHTNING_EMERGE_FLOWERS", Path(__file__).parents[4] / "shared/data/flowers5"))


def fill(root: Path, seed: int = 0, **counts: int) -> Path:
    """Writes so many different little photographs of each token."""
    random = np.random.default_rng(seed)
    for token, count in counts.items():
        (root / token).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(random.integers(0, 256, (9, 10, 3), np.uint8)).save(root / token / f"{number:03d}.png")
    return root


def make(root: Path, **arguments) -> FolderDataModule:
    return FolderDataModule(
        str(root), **{"image_size": 8, "min_exemplars": 5, "bank_exemplars": 2, "cache": None, **arguments}
    )


def split_of(module: FolderDataModule) -> dict[str, str]:
    return {one: split for split, exemplars in module.load().items() for one in exemplars.ids}


def images_of(splits: Mapping[str, Exemplars]) -> dict[str, np.ndarray]:
    """Pixels (y, x, channel) by id."""
    return {
        one: image.numpy().transpose(1, 2, 0)
        for split in splits.values()
        for one, image in zip(split.ids, split.pixels(), strict=True)
    }


class TestSplit:
    @pytest.fixture
    def root(self, tmp_path):
        return fill(tmp_path / "animals", **ANIMALS)

    def test_tokens_are_the_folders_in_the_order_of_their_names(self, root):
        module = make(root)
        assert module.tokens == ("ant", "bee", "cow")
        for exemplars in module.load().values():
            assert [one.split("/")[0] for one in exemplars.ids] == [module.tokens[k] for k in exemplars.labels]

    def test_every_photograph_is_in_one_split_and_only_one(self, root):
        ids = [one for exemplars in make(root).load().values() for one in exemplars.ids]
        assert sorted(ids) == sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))

    def test_each_token_gives_each_split_its_share(self, root):
        found = Counter((split, one.split("/")[0]) for one, split in split_of(make(root, val_share=0.2)).items())
        for token, count in ANIMALS.items():
            assert found["bank", token] == 2
            assert found["val", token] == pytest.approx(0.2 * count, abs=0.5)
            assert found["test", token] == pytest.approx(0.1 * count, abs=0.5)
            assert found["train", token] == pytest.approx(0.7 * count - 2, abs=1)

    def test_a_small_share_is_one_photograph_at_least(self, root):
        found = Counter(split_of(make(root, val_share=0.001, test_share=0.001)).values())
        assert (found["val"], found["test"], found["bank"]) == (3, 3, 6)

    def test_the_bank_is_balanced(self, root):
        module = make(root, bank_exemplars=7)
        module.setup("fit")
        assert Counter(module.stimulus_bank().labels.tolist()) == {0: 7, 1: 7, 2: 7}

    def test_the_same_folder_elsewhere_is_split_the_same_and_has_the_same_images(self, root, tmp_path):
        first = make(root).load()
        second = make(root.rename(tmp_path / "moved")).load()
        for split, exemplars in first.items():
            assert exemplars.ids == second[split].ids
            assert exemplars.images.equal(second[split].images)

    def test_another_seed_is_another_split(self, root):
        assert split_of(make(root)) != split_of(make(root, seed=1))

    def test_the_split_does_not_follow_the_order_of_names(self, root):
        held_out = [int(one[4:7]) for one, split in split_of(make(root)).items() if split != "train" and one < "b"]
        assert held_out != sorted(held_out)
        assert max(held_out) - min(held_out) > len(held_out)

    @pytest.mark.parametrize("name", ["new_a", "new_b", "new_c", "new_d"])
    def test_a_photograph_more_moves_one_other_at_most_over_each_boundary(self, root, name):
        before = split_of(make(root))
        Image.new("RGB", (9, 9), RED).save(root / "ant" / f"{name}.png")
        after = split_of(make(root))
        moves = Counter((split, after[one]) for one, split in before.items() if split != after[one])
        assert all(moves[move] == 1 for move in moves)
        assert set(moves) <= {("bank", "val"), ("val", "test"), ("test", "train")}
        assert {one for one in before if before[one] != after[one]} <= {one for one in before if one.startswith("ant")}

    def test_one_photograph_under_two_names_or_tokens_is_trained_on(self, root):
        for number in range(20):
            content = (root / f"ant/{number:03d}.png").read_bytes()
            (root / f"{'ant' if number % 2 else 'bee'}/copy_{number}.png").write_bytes(content)
        splits = split_of(make(root))
        assert {splits[f"ant/{k:03d}.png"] for k in range(20)} == {"train"}
        assert {split for one, split in splits.items() if "copy" in one} == {"train"}

    def test_other_files_and_hidden_ones_are_no_photographs(self, root):
        (root / "ant" / "notes.txt").write_text("seen at noon")
        (root / "ant" / ".thumbnail.png").write_bytes(b"")
        (root / ".cache").mkdir()
        (root / "LICENSE").write_text("free")
        module = make(root)
        assert module.tokens == ("ant", "bee", "cow")
        assert len(split_of(module)) == sum(ANIMALS.values())

    def test_an_upper_case_suffix_is_a_photograph(self, root):
        Image.new("RGB", (9, 9), RED).save(root / "ant" / "LOUD.JPG")
        assert "ant/LOUD.JPG" in split_of(make(root))


class TestGivenSplits:
    """A folder with train, val, test and bank in it."""

    @pytest.fixture
    def root(self, tmp_path):
        for number, (split, count) in enumerate({"train": 7, "val": 3, "test": 4, "bank": 2}.items()):
            fill(tmp_path / split, seed=number, dax=count, wug=count + (split == "train"))
        (tmp_path / "train" / "latents.parquet").write_bytes(b"PAR1")
        (tmp_path / "grammar.yaml").write_text("tokens: []")
        return tmp_path

    def test_splits_are_as_they_are(self, root):
        splits = make(root).load()
        for split, count in {"train": 7, "val": 3, "test": 4, "bank": 2}.items():
            many = count + (split == "train")
            dax, wug = ([f"{split}/{t}/{k:03d}.png" for k in range(n)] for t, n in (("dax", count), ("wug", many)))
            assert splits[split].ids == (*dax, *wug)
            assert splits[split].labels.tolist() == [0] * count + [1] * many

    def test_pixels_of_the_size_asked_for_come_back_exactly(self, root):
        for path in root.rglob("*.png"):
            random = np.random.default_rng(len(path.as_posix()))
            Image.fromarray(random.integers(0, 256, (24, 24, 3), np.uint8)).save(path)
        found = images_of(make(root, image_size=24).load())
        for path in root.rglob("*.png"):
            assert (found[path.relative_to(root).as_posix()] == np.asarray(Image.open(path))).all()

    def test_shares_and_the_size_of_the_bank_are_not_used(self, root):
        before = make(root).load()
        after = make(root, val_share=0.4, test_share=0.4, bank_exemplars=50, seed=3).load()
        assert {split: one.ids for split, one in before.items()} == {split: one.ids for split, one in after.items()}

    def test_a_dense_sample_is_asked_of_training_alone(self, root):
        assert make(root, min_exemplars=7).tokens == ("dax", "wug")
        with pytest.raises(ValueError, match=r"min_exemplars \(8\).*train/dax has 7"):
            make(root, min_exemplars=8)

    def test_the_bank_is_its_folder(self, root):
        module = make(root)
        module.setup("fit")
        bank = module.stimulus_bank()
        assert bank.ids == ("bank/dax/000.png", "bank/dax/001.png", "bank/wug/000.png", "bank/wug/001.png")
        assert bank.tokens == ("dax", "wug")

    def test_a_broken_file_in_any_of_them_is_named(self, root):
        for split in ("train", "val", "test", "bank"):
            (root / split / "wug/000.png").write_bytes(b"text")
        with pytest.raises(ValueError, match="4 cannot") as caught:
            make(root).load()
        assert all(
            f"{split}/wug/000.png (not an image)" in str(caught.value) for split in ("train", "val", "test", "bank")
        )


class TestCache:
    def test_a_second_start_gives_the_same_without_decoding(self, tmp_path, monkeypatch):
        root, cache = fill(tmp_path / "root", one=9, two=9), str(tmp_path / "cache")
        first = make(root, cache=cache).load()
        monkeypatch.delattr("lightning_emerge.data.photographs.cache.decode")
        second = make(root, cache=cache).load()
        assert (images_of(make(root, cache=cache, seed=1).load()).keys()) == images_of(first).keys()
        for split, exemplars in first.items():
            assert exemplars.ids == second[split].ids
            assert exemplars.pixels().equal(second[split].pixels())

    def test_a_photograph_that_changed_is_read_anew(self, tmp_path):
        root, cache = fill(tmp_path / "root", one=9, two=9), str(tmp_path / "cache")
        make(root, cache=cache).load()
        stamp = (root / "one/000.png").stat()
        Image.new("RGB", (9, 9), RED).save(root / "one/000.png")
        os.utime(root / "one/000.png", ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
        assert (images_of(make(root, cache=cache).load())["one/000.png"] == RED).all()

    def test_without_one_nothing_is_written(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
        make(fill(tmp_path / "root", one=9, two=9)).load()
        assert {path.name for path in tmp_path.iterdir()} == {"root"}

    def test_by_default_it_is_in_the_cache_home(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
        FolderDataModule(
            str(fill(tmp_path / "root", one=9, two=9)), image_size=8, min_exemplars=5, bank_exemplars=2
        ).load()
        assert sum(path.is_file() for path in (tmp_path / "home/lightning_emerge").rglob("*")) == 18


class TestAugmentations:
    def test_they_change_training_alone(self, tmp_path):
        root = fill(tmp_path / "root", one=20, two=20)
        plain, changed = make(root, batch_size=4), make(root, batch_size=4, augmentations=[v2.RandomInvert(p=1.0)])
        for module in (plain, changed):
            module.setup("fit")
        for name, sign in (("train", -1), ("val", 1), ("test", 1), ("predict", 1)):
            one, other = (next(iter(getattr(m, f"{name}_dataloader")())) for m in (plain, changed))
            assert one["id"] == other["id"]
            torch.testing.assert_close(one["image"], sign * other["image"])
        assert plain.stimulus_bank().images.equal(changed.stimulus_bank().images)

    def test_they_are_tried_before_training(self, tmp_path):
        module = make(fill(tmp_path / "root", one=9, two=9), augmentations=[v2.ToDtype(torch.float32)])
        with pytest.raises(
            ValueError, match=r"data\.augmentations give uint8.*got float32 \(3, 8, 8\)\. Leave ToDtype"
        ):
            module.setup("fit")

    def test_without_any_images_are_what_was_decoded(self, tmp_path):
        root = fill(tmp_path / "root", one=9, two=9)
        assert make(root).load()["train"].augment is make(root, augmentations=[]).load()["train"].augment is None


class TestBrokenFiles:
    def test_a_truncated_photograph_is_named(self, tmp_path):
        root = fill(tmp_path / "root", one=6, two=6)
        Image.effect_noise((64, 64), 80).convert("RGB").save(root / "one" / "cut.jpg")
        whole = (root / "one" / "cut.jpg").read_bytes()
        (root / "one" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match=r"1 cannot: .*one/cut\.jpg \(image file is truncated.*Repair or remove"):
            make(root).setup("fit")

    @pytest.mark.parametrize("content", [b"I am no photograph.", b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"])
    def test_what_is_no_image_is_named(self, tmp_path, content):
        root = fill(tmp_path / "root", one=6, two=6)
        (root / "two" / "fake.jpg").write_bytes(content)
        with pytest.raises(ValueError, match=r"1 cannot: .*two/fake\.jpg"):
            make(root).setup("fit")

    def test_all_broken_ones_are_listed_in_one_error(self, tmp_path):
        root = fill(tmp_path / "root", one=6, two=6)
        names = ["one/a.jpg", "one/b.png", "two/c.webp"]
        for name in names:
            (root / name).write_bytes(b"text")
        with pytest.raises(ValueError, match="3 cannot") as caught:
            make(root).setup("fit")
        assert all(name in str(caught.value) for name in names)

    def test_of_many_the_first_ten_are_listed_and_the_rest_counted(self, tmp_path):
        root = fill(tmp_path / "root", one=6, two=6)
        for number in range(13):
            (root / "one" / f"bad{number}.jpg").write_bytes(b"text")
        with pytest.raises(ValueError, match=r"13 cannot.* and 3 more") as caught:
            make(root).setup("fit")
        assert len(set(re.findall(r"one/bad\d+", str(caught.value)))) == 10

    def test_an_odd_exif_block_is_named(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112], exif[0x010E] = 6, "hello"
        root = fill(tmp_path / "root", one=6, two=6)
        Image.new("RGB", (16, 16), RED).save(root / "one" / "odd.jpg", exif=exif)
        content = (root / "one" / "odd.jpg").read_bytes()
        description, width = b"\x01\x0e\x00\x02", b"\x01\x00\x00\x02"
        assert content.count(description) == 1
        (root / "one" / "odd.jpg").write_bytes(content.replace(description, width))
        with pytest.raises(ValueError, match=r"1 cannot: .*one/odd\.jpg"):
            make(root).setup("fit")


class TestRefusals:
    @pytest.mark.parametrize(
        ("argument", "value", "rule"),
        [
            ("val_share", 0.0, "above 0 and below 0.5; got 0.0"),
            ("val_share", 0.5, "above 0 and below 0.5; got 0.5"),
            ("test_share", -0.1, "above 0 and below 0.5; got -0.1"),
            ("min_exemplars", 0, "at least 1; got 0"),
            ("bank_exemplars", 1, "at least 2; got 1"),
            ("image_size", 7, "at least 8; got 7"),
        ],
    )
    def test_an_argument_out_of_its_range(self, tmp_path, argument, value, rule):
        root = fill(tmp_path / "root", one=6, two=6)
        with pytest.raises(ValueError, match=rf"data\.{argument} .*{rule}"):
            make(root, **{argument: value})

    def test_499_photographs_are_no_dense_sample(self, tmp_path):
        Image.new("RGB", (8, 8), RED).save(tmp_path / "tiny.png")
        tiny = (tmp_path / "tiny.png").read_bytes()
        for token, count in (("one", 500), ("two", 499)):
            (tmp_path / "root" / token).mkdir(parents=True)
            for number in range(count):
                (tmp_path / "root" / token / f"{number}.png").write_bytes(tiny)
        with pytest.raises(ValueError, match=r"min_exemplars \(500\).*two has 499"):
            FolderDataModule(str(tmp_path / "root"), cache=None)
        (tmp_path / "root" / "two" / "499.png").write_bytes(tiny)
        assert FolderDataModule(str(tmp_path / "root"), cache=None).tokens == ("one", "two")
        with pytest.raises(TypeError):  # once the second argument was the size of images
            FolderDataModule(str(tmp_path / "root"), 64)

    def test_too_few_is_refused_before_anything_is_decoded(self, tmp_path):
        root = fill(tmp_path / "root", one=6, two=4)
        with pytest.raises(ValueError, match=r"min_exemplars \(5\).*two has 4"):
            make(root)

    def test_nothing_left_to_train_on_is_refused(self, tmp_path):
        root = fill(tmp_path / "root", one=40, two=6)
        with pytest.raises(ValueError, match=r"'two' to train on.*bank_exemplars \(4\)"):
            make(root, bank_exemplars=4)


@pytest.fixture(scope="module")
def flowers() -> Mapping[str, Exemplars]:
    if not FLOWERS.is_dir():
        pytest.skip(f"the real photographs are not here: no folder {FLOWERS}; set LIGHTNING_EMERGE_FLOWERS")
    return FolderDataModule(str(FLOWERS), image_size=32, cache=None).load()


class TestRealPhotographs:
    def test_every_photograph_of_five_tokens_is_in_one_split(self, flowers):
        ids = [one for split in flowers.values() for one in split.ids]
        assert len(set(ids)) == len(ids) == 3670
        counts = {"daisy": 633, "dandelion": 898, "roses": 641, "sunflowers": 699, "tulips": 799}
        assert Counter(one.split("/")[0] for one in ids) == counts

    def test_splits_have_their_shares(self, flowers):
        assert len(flowers["bank"]) == 250
        for split in ("val", "test"):
            assert len(flowers[split]) == pytest.approx(367, abs=2.5)

    def test_images_have_contrast_and_colour(self, flowers):
        images = flowers["bank"].images.float() / 255
        assert images.shape == (250, 3, 32, 32)
        assert (images.std(dim=(1, 2, 3)) > 0.02).all()
        assert (images[:, 0] - images[:, 2]).abs().mean() > 0.05

    def test_no_picture_is_in_two_splits(self, flowers):
        homes: dict[bytes, dict[str, str]] = {}
        for split, exemplars in flowers.items():
            for one, image in zip(exemplars.ids, exemplars.images, strict=True):
                homes.setdefault(image.numpy().tobytes(), {})[one] = split
        assert [found for found in homes.values() if len(set(found.values())) > 1] == []
