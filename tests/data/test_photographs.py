import os
import re
import struct
import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lightning_emerge.data.dataset import Exemplars
from lightning_emerge.data.photographs import FolderDataModule

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
ANIMALS = {"ant": 40, "bee": 55, "cow": 31}
FLOWERS = Path(os.environ.get("LIGHTNING_EMERGE_FLOWERS", Path(__file__).parents[3] / "shared/data/flowers5"))


def fill(root: Path, **counts: int) -> Path:
    """Writes so many different little photographs of each token."""
    random = np.random.default_rng(0)
    for token, count in counts.items():
        (root / token).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(random.integers(0, 256, (9, 10, 3), np.uint8)).save(root / token / f"{number:03d}.png")
    return root


def make(root: Path, **arguments) -> FolderDataModule:
    return FolderDataModule(str(root), **{"image_size": 8, "min_exemplars": 5, "bank_exemplars": 2, **arguments})


def split_of(module: FolderDataModule) -> dict[str, str]:
    return {one: split for split, exemplars in module.load().items() for one in exemplars.ids}


def pixels(splits: Mapping[str, Exemplars], name: str) -> np.ndarray:
    images = {one: image for split in splits.values() for one, image in zip(split.ids, split.images, strict=True)}
    return images[name].numpy().transpose(1, 2, 0).astype(int)


def read(tmp_path: Path, name: str, size: int = 8) -> np.ndarray:
    """Puts `tmp_path/name` among ordinary photographs and returns the pixels (y, x, channel) that it became."""
    root = fill(tmp_path / "root", one=6, two=6)
    (tmp_path / name).rename(root / "one" / name)
    return pixels(make(root, image_size=size).load(), f"one/{name}")


def halves(left: tuple[int, int, int], right: tuple[int, int, int]) -> Image.Image:
    image = Image.new("RGB", (16, 16), left)
    image.paste(right, (8, 0, 16, 16))
    return image


def png(pixels: np.ndarray, colour_type: int) -> bytes:
    """A 16-bit PNG, written by the book (RFC 2083), as Pillow writes none of more than one channel."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


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

    def test_one_photograph_under_two_names_is_in_one_split_only(self, root):
        for number in range(40):
            (root / f"ant/copy_{number}.png").write_bytes((root / f"ant/{number:03d}.png").read_bytes())
        splits = split_of(make(root))
        assert {splits[f"ant/{k:03d}.png"] == splits[f"ant/copy_{k}.png"] for k in range(40)} == {True}

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


class TestDecoding:
    @pytest.mark.parametrize(("orientation", "top", "left"), [(1, 0, RED), (3, 0, BLUE), (6, RED, 0), (8, BLUE, 0)])
    def test_turned_as_its_exif_says(self, tmp_path, orientation, top, left):
        exif = Image.Exif()
        exif[0x0112] = orientation
        halves(RED, BLUE).save(tmp_path / "turned.png", exif=exif)
        image = read(tmp_path, "turned.png", size=16)
        strip, colour = (image[:6], top) if top else (image[:, :6], left)
        assert (strip == colour).all()

    def test_cropped_in_the_middle(self, tmp_path):
        wide = Image.new("RGB", (64, 32), GREEN)
        wide.paste(RED, (16, 0, 48, 32))
        wide.save(tmp_path / "wide.png")
        assert (read(tmp_path, "wide.png")[:, 1:-1] == RED).all()

    @pytest.mark.parametrize(
        ("mode", "suffix"),
        [
            *(("RGB", suffix) for suffix in ("png", "jpg", "tif", "bmp", "gif", "webp")),
            *(("RGBA", suffix) for suffix in ("png", "tif", "webp")),
            *(("P", suffix) for suffix in ("png", "tif", "bmp", "gif")),
            *(("CMYK", suffix) for suffix in ("jpg", "tif")),
        ],
    )
    def test_colours_come_through_every_mode_and_format(self, tmp_path, mode, suffix):
        halves((220, 30, 40), (10, 60, 200)).convert(mode).save(tmp_path / f"image.{suffix}")
        image = read(tmp_path, f"image.{suffix}", size=16)
        for part, colour in ((image[:, :6], (220, 30, 40)), (image[:, -6:], (10, 60, 200))):
            np.testing.assert_allclose(part.mean(axis=(0, 1)), colour, atol=12)

    @pytest.mark.parametrize("mode", ["L", "LA", "1"])
    def test_grey_becomes_three_equal_channels(self, tmp_path, mode):
        halves((255, 255, 255), (0, 0, 0)).convert(mode).save(tmp_path / "grey.png")
        image = read(tmp_path, "grey.png", size=16)
        assert (image[:, :6] == 255).all()
        assert (image[:, -6:] == 0).all()

    def test_a_palette_with_transparency_does_not_warn(self, tmp_path):
        halves(RED, BLUE).convert("P").save(tmp_path / "palette.png", transparency=bytes(range(256)))
        np.testing.assert_allclose(read(tmp_path, "palette.png", size=16)[:, :6].mean(axis=(0, 1)), RED, atol=12)

    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_16_bit_grey_keeps_its_shades(self, tmp_path, suffix):
        ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
        Image.fromarray(ramp).save(tmp_path / f"deep.{suffix}")
        image = read(tmp_path, f"deep.{suffix}", size=16)
        np.testing.assert_allclose(image, np.repeat(ramp[..., None] / 257, 3, axis=2), atol=1)

    @pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (6, 4)])
    def test_16_bit_colour_keeps_its_shades(self, tmp_path, colour_type, channels):
        deep = np.random.default_rng(0).integers(0, 65536, (16, 16, channels)).astype(np.uint16)
        (tmp_path / "deep.png").write_bytes(png(deep, colour_type))
        np.testing.assert_allclose(read(tmp_path, "deep.png", size=16), deep[..., :3] / 257, atol=1)

    def test_the_first_picture_of_an_animation(self, tmp_path):
        frames = [Image.new("RGB", (16, 16), colour) for colour in (RED, BLUE)]
        frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
        np.testing.assert_allclose(read(tmp_path, "moving.gif"), np.broadcast_to(RED, (8, 8, 3)), atol=4)


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

    def test_an_odd_exif_block_costs_nothing_or_is_named(self, tmp_path):
        exif = Image.Exif()
        exif[0x0112], exif[0x010E] = 6, "hello"
        root = fill(tmp_path / "root", one=6, two=6)
        Image.new("RGB", (16, 16), RED).save(root / "one" / "odd.jpg", exif=exif)
        content = (root / "one" / "odd.jpg").read_bytes()
        description, width = b"\x01\x0e\x00\x02", b"\x01\x00\x00\x02"
        assert content.count(description) == 1
        (root / "one" / "odd.jpg").write_bytes(content.replace(description, width))

        def complaint() -> str:
            try:
                make(root).setup("fit")
            except ValueError as error:
                return str(error)
            return ""

        assert complaint() == "" or "odd.jpg" in complaint()


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
            FolderDataModule(str(tmp_path / "root"))
        (tmp_path / "root" / "two" / "499.png").write_bytes(tiny)
        assert FolderDataModule(str(tmp_path / "root")).tokens == ("one", "two")

    def test_too_few_is_refused_before_anything_is_decoded(self, tmp_path):
        root = fill(tmp_path / "root", one=6, two=4)
        with pytest.raises(ValueError, match=r"min_exemplars \(5\).*two has 4"):
            make(root)

    def test_an_empty_folder_is_named(self, tmp_path):
        root = fill(tmp_path / "root", one=6, two=6, empty=0)
        with pytest.raises(ValueError, match=r"folder holds photographs .*empty has none"):
            make(root)

    def test_nothing_left_to_train_on_is_refused(self, tmp_path):
        root = fill(tmp_path / "root", one=40, two=6)
        with pytest.raises(ValueError, match=r"leave no photograph of 'two' to train on.*bank_exemplars \(4\)"):
            make(root, bank_exemplars=4)

    @pytest.mark.parametrize("count", [0, 1])
    def test_fewer_than_two_folders_are_refused(self, tmp_path, count):
        root = tmp_path / "root"
        root.mkdir()
        fill(root, **dict.fromkeys(["one"][:count], 6))
        with pytest.raises(FileNotFoundError, match=rf"at least two; .*root has {count}"):
            make(root)

    def test_a_missing_root_is_named_with_its_near_match(self, tmp_path):
        fill(tmp_path / "flowers", one=6, two=6)
        with pytest.raises(FileNotFoundError, match=r"flower5 is none\. Did you mean .*/flowers\?"):
            make(tmp_path / "flower5")

    def test_a_missing_root_like_nothing_else_has_no_hint(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"zebras is none\.$"):
            make(tmp_path / "nowhere" / "zebras")

    def test_a_file_is_no_root(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(FileNotFoundError, match="file is none"):
            make(tmp_path / "file")


@pytest.fixture(scope="module")
def flowers() -> Mapping[str, Exemplars]:
    if not FLOWERS.is_dir():
        pytest.skip(f"the real photographs are not here: no folder {FLOWERS}; set LIGHTNING_EMERGE_FLOWERS")
    return FolderDataModule(str(FLOWERS), image_size=32).load()


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
