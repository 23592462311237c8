import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from children import run_group
from PIL import Image
from torchvision import datasets
from torchvision.transforms import v2

from lightning_emerge.data.vision import VisionDataModule

SMALL = {"image_size": 8, "min_exemplars": 5, "bank_exemplars": 2, "val_share": 0.2, "test_share": 0.1}
NAMES = ("cat", "dog", "ship")


class Pictures(datasets.VisionDataset):
    """Twelve pictures of each class, in turn, that count how often each is looked at."""

    classes = NAMES

    def __init__(self, transform=None, target_transform=None, each: int = 12) -> None:
        super().__init__("nowhere", transform=transform, target_transform=target_transform)
        self.targets = [k % 3 for k in range(3 * each)]
        self.looks: Counter[int] = Counter()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, position: int):
        self.looks[position] += 1
        pixels = np.random.default_rng(position).integers(0, 256, (9, 10, 3), np.uint8)
        image = Image.fromarray(pixels)
        return self.transform(image) if self.transform else image, self.targets[position]


def make(dataset, **arguments) -> VisionDataModule:
    return VisionDataModule(dataset, **{**SMALL, **arguments})


def ids_of(module: VisionDataModule) -> dict[str, tuple[str, ...]]:
    return {split: tuple(exemplars.ids) for split, exemplars in module.load().items()}


def write_mnist(root: Path, each: int) -> tuple[np.ndarray, np.ndarray]:
    """Writes MNIST's four files, as its home page describes them, with so many digits of each."""
    labels = np.tile(np.arange(10, dtype=np.uint8), each)
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 28, 28), np.uint8)
    folder = root / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for part in ("train", "t10k"):
        header = struct.pack(">IIII", 0x803, *images.shape)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, len(labels)) + labels.tobytes())
    return images, labels


class TestDataSets:
    def test_mnist(self, tmp_path):
        images, labels = write_mnist(tmp_path, 9)
        module = make(datasets.MNIST(str(tmp_path)), classes=["7 - seven", "1 - one"], image_size=28)
        assert module.tokens == ("7 - seven", "1 - one")
        seen = 0
        for exemplars in module.load().values():
            for one, label, image in zip(exemplars.ids, exemplars.labels, exemplars.pixels(), strict=True):
                token, position = one.split("/")
                assert token == module.tokens[label]
                assert labels[int(position)] == (7, 1)[label]
                assert (image.numpy() == images[int(position)]).all()
                seen += 1
        assert seen == 18

    def test_an_image_folder(self, tmp_path):
        for token in ("b", "a"):
            (tmp_path / token).mkdir()
            for k in range(9):
                shade = 10 * k + (token == "b")
                Image.new("RGB", (12, 9), (shade, 100, 200)).save(tmp_path / token / f"{k}.png")
        module = make(datasets.ImageFolder(str(tmp_path)))
        assert module.tokens == ("a", "b")
        for exemplars in module.load().values():
            for one, image in zip(exemplars.ids, exemplars.pixels(), strict=True):
                token, position = one.split("/")
                shade = 10 * (int(position) % 9) + (token == "b")
                assert (image.permute(1, 2, 0).numpy() == (shade, 100, 200)).all()

    def test_one_that_has_neither_labels_nor_names(self):
        dataset = datasets.FakeData(40, (3, 8, 8), num_classes=3)
        module = make(dataset)
        assert module.tokens == ("0", "1", "2")
        found = [one for ids in ids_of(module).values() for one in ids]
        assert sorted(int(one.split("/")[1]) for one in found) == list(range(40))
        for one in found:
            token, position = one.split("/")
            assert int(token) == dataset[int(position)][1]

    @pytest.mark.parametrize("attribute", ["targets", "labels", "_labels"])
    @pytest.mark.parametrize("kind", [list, np.asarray, torch.tensor])
    def test_labels_are_found_under_each_of_their_names(self, attribute, kind):
        dataset = Pictures()
        labels = dataset.__dict__.pop("targets")
        dataset.__class__ = type("Named", (Pictures,), {"__len__": lambda self: len(labels)})
        setattr(dataset, attribute, kind(labels))
        assert make(dataset)._positions == {name: list(range(k, 36, 3)) for k, name in enumerate(NAMES)}
        assert dataset.looks == {}

    def test_names_of_class_to_idx(self, monkeypatch):
        monkeypatch.delattr(Pictures, "classes")
        dataset = Pictures()
        dataset.class_to_idx = {"ship": 1, "dog": 2, "cat": 0}
        assert make(dataset).tokens == ("cat", "ship", "dog")

    def test_names_that_are_numbers(self, monkeypatch):
        monkeypatch.setattr(Pictures, "classes", [10, 20, 30])
        assert make(Pictures(), classes=["30", "10"]).tokens == ("30", "10")

    def test_several_names_of_a_class_are_joined_and_one_name_of_two_is_told_apart(self, monkeypatch):
        monkeypatch.setattr(Pictures, "classes", [("crane",), ("tench", "Tinca tinca"), ("crane",)])
        assert make(Pictures()).tokens == ("crane (0)", "tench, Tinca tinca", "crane (2)")

    def test_a_class_without_images_is_no_token(self, monkeypatch):
        monkeypatch.setattr(Pictures, "classes", ["N/A", *NAMES])
        dataset = Pictures()
        dataset.targets = [label + 1 for label in dataset.targets]
        assert make(dataset).tokens == NAMES

    @pytest.mark.parametrize("before", [v2.Identity(), v2.Grayscale(1)])
    @pytest.mark.parametrize("to_tensor", [v2.PILToTensor(), v2.ToImage()])
    def test_uint8_tensors_are_as_good_as_pil_images(self, before, to_tensor):
        plain, tensors = (make(Pictures(t)).load() for t in (before, v2.Compose([before, to_tensor])))
        for split, exemplars in plain.items():
            assert exemplars.ids == tensors[split].ids
            assert exemplars.pixels().equal(tensors[split].pixels())


class TestClasses:
    def test_the_order_given_is_the_order_of_labels(self):
        module = make(Pictures(), classes=["ship", "cat"])
        assert module.tokens == ("ship", "cat")
        for exemplars in module.load().values():
            for one, label in zip(exemplars.ids, exemplars.labels, strict=True):
                assert module.tokens[label] == one.split("/")[0]
                assert NAMES[int(one.split("/")[1]) % 3] == one.split("/")[0]

    def test_only_those_chosen_are_decoded_each_once(self):
        dataset = Pictures()
        make(dataset, classes=["ship", "cat"]).load()
        assert dataset.looks == {k: 1 for k in range(36) if k % 3 != 1}

    def test_unknown_ones_are_all_in_one_error_with_the_nearest(self):
        with pytest.raises(ValueError, match=r"cat, dog, ship; got Cat, shop, zebra\. Did you mean cat, ship\?$"):
            make(Pictures(), classes=["Cat", "dog", "shop", "zebra"])

    def test_of_many_names_the_first_twenty_are_listed(self, monkeypatch):
        monkeypatch.setattr(Pictures, "classes", [f"n{k}" for k in range(30)])
        dataset = Pictures(each=10)
        dataset.targets = list(range(30))
        with pytest.raises(ValueError, match=r"n18, n19 and 10 more; got ----\.$"):
            make(dataset, classes=["n1", "----"])

    @pytest.mark.parametrize("classes", [[], ["cat"], ["cat", "cat"]])
    def test_at_least_two_different_ones(self, classes):
        with pytest.raises(ValueError, match=r"data\.classes .*two.* got (none|cat)"):
            make(Pictures(), classes=classes)


class TestSplit:
    def test_splits_have_their_shares_and_training_what_is_left(self):
        counts = {split: len(ids) for split, ids in ids_of(make(Pictures())).items()}
        assert counts == {"train": 3 * 7, "val": 3 * 2, "test": 3 * 1, "bank": 3 * 2}

    def test_exemplars_are_the_most_of_each_that_are_trained_on(self):
        every, few = ids_of(make(Pictures())), ids_of(make(Pictures(), exemplars=5))
        assert Counter(one.split("/")[0] for one in few["train"]) == dict.fromkeys(NAMES, 5)
        assert set(few["train"]) < set(every["train"])
        assert {split: few[split] for split in ("val", "test", "bank")} == {
            split: every[split] for split in ("val", "test", "bank")
        }

    def test_the_split_does_not_depend_on_the_size_of_the_images_but_on_the_seed(self):
        assert ids_of(make(Pictures(), image_size=12)) == ids_of(make(Pictures()))
        assert ids_of(make(Pictures(), seed=1)) != ids_of(make(Pictures()))

    def test_a_picture_that_is_there_twice_is_trained_on(self):
        # Of the last images, three cats are cats that were there before, and three are dogs.
        copied = {69: 0, 66: 3, 63: 6, 60: 1, 57: 4, 54: 7}

        class Copies(Pictures):
            def __getitem__(self, position):
                return super().__getitem__(copied.get(position, position))[0], self.targets[position]

        for seed in range(10):
            trained = {int(one.split("/")[1]) for one in ids_of(make(Copies(each=24), seed=seed))["train"]}
            assert trained >= {*copied, *copied.values()}

    def test_pictures_of_the_same_bytes_and_another_shape_are_not_the_same(self):
        class Shapes(Pictures):
            def __getitem__(self, position):
                pixels = np.random.default_rng(position // 2).integers(0, 256, (8, 16, 3), np.uint8)
                return Image.fromarray(pixels.reshape((8, 16, 3) if position % 2 else (16, 8, 3))), position % 3

        assert {split: len(ids) for split, ids in ids_of(make(Shapes())).items()}["bank"] == 6


class TestAugmentations:
    def test_they_change_training_alone(self):
        plain, changed = (make(Pictures(), batch_size=4, augmentations=a) for a in (None, [v2.RandomInvert(p=1.0)]))
        for module in (plain, changed):
            module.setup("fit")
        for name, sign in (("train", -1), ("val", 1), ("test", 1)):
            one, other = (next(iter(getattr(m, f"{name}_dataloader")())) for m in (plain, changed))
            assert one["id"] == other["id"]
            torch.testing.assert_close(one["image"], sign * other["image"])
        assert plain.stimulus_bank().images.equal(changed.stimulus_bank().images)

    def test_they_follow_the_seed(self):
        modules = [make(Pictures(), seed=seed, augmentations=[v2.RandomErasing(p=1.0)]) for seed in (0, 0, 1)]
        augments = [module.load()["train"].augment for module in modules]
        image, visit = torch.full((1, 3, 8, 8), 99, dtype=torch.uint8), SimpleNamespace(indices=[0], epoch=0)
        first, same, other = (augment(image.clone(), visit) for augment in augments)
        assert first.equal(same)
        assert not first.equal(other)


class TestRefusals:
    @pytest.mark.parametrize(
        ("transform", "kind"),
        [
            (v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]), r"torch\.float32 tensors"),
            (np.asarray, "ndarray"),
        ],
    )
    def test_other_images_are_refused_once(self, transform, kind):
        with pytest.raises(ValueError, match=rf"data\.dataset .*got {kind}\. Leave"):
            make(Pictures(transform)).load()

    def test_images_that_cannot_be_read_are_listed_in_one_error(self, tmp_path):
        for token in ("a", "b"):
            (tmp_path / token).mkdir()
            for k in range(9):
                Image.new("RGB", (9, 9), (k, 0, 0)).save(tmp_path / token / f"{k}.png")
        for name in ("a/3.png", "b/0.png"):
            (tmp_path / name).write_bytes(b"text")
        with pytest.raises(ValueError, match=r"2 cannot: a/000003 \(.*a/3\.png.*b/000009 \(.*b/0\.png.*Repair"):
            make(datasets.ImageFolder(str(tmp_path))).load()

    def test_a_transform_that_draws_is_refused(self):
        with pytest.raises(ValueError, match=r"same image .*data\.augmentations"):
            make(Pictures(v2.RandomHorizontalFlip())).load()

    def test_a_target_transform_is_refused(self):
        with pytest.raises(ValueError, match=r"data\.dataset has its own labels; got a target_transform"):
            make(Pictures(target_transform=lambda label: 0))

    @pytest.mark.parametrize(
        "labels",
        [["a.xml"] * 36, [0.5] * 36, np.zeros((36, 40), int), [0, 1], [{"boxes": []}] * 36, [[1], [1, 2]] * 18],
    )
    def test_labels_that_are_no_classes_are_refused(self, labels):
        dataset = Pictures()
        dataset.__class__ = type("Other", (Pictures,), {"__len__": lambda self: 36})
        dataset.targets = labels
        with pytest.raises(ValueError, match=r"labels .*whole numbers.*36 images"):
            make(dataset)

    def test_a_label_that_is_none_of_the_classes_is_refused(self):
        dataset = Pictures()
        dataset.targets[4] = -1
        with pytest.raises(ValueError, match=r"one of its 3 classes; got -1, which is none"):
            make(dataset)

    def test_too_few_of_a_class_are_refused_before_anything_is_decoded(self):
        dataset = Pictures()
        with pytest.raises(ValueError, match=r"min_exemplars \(13\) exemplars; ship has 12"):
            make(dataset, classes=["ship", "cat"], min_exemplars=13)
        with pytest.raises(ValueError, match=r"leave no exemplar of 'cat' to train on"):
            make(dataset, bank_exemplars=9)
        assert dataset.looks == {}

    def test_500_are_a_dense_sample(self):
        with pytest.raises(ValueError, match=r"min_exemplars \(500\) exemplars; cat has 499"):
            VisionDataModule(Pictures(each=499))
        assert VisionDataModule(Pictures(each=500)).tokens == NAMES

    @pytest.mark.parametrize(
        ("argument", "value", "rule"),
        [("exemplars", 4, r"at least data\.min_exemplars \(5\); got 4"), ("image_size", 7, "at least 8; got 7")],
    )
    def test_an_argument_out_of_its_range(self, argument, value, rule):
        with pytest.raises(ValueError, match=rf"data\.{argument} is {rule}"):
            make(Pictures(), **{argument: value})


@pytest.mark.slow
class TestCommandLine:
    """`configs/cifar.yaml`, with another data set in the place of CIFAR-10."""

    @pytest.fixture
    def arguments(self, tmp_path) -> list[str]:
        for number, token in enumerate(("a", "b", "c")):
            (tmp_path / "pictures" / token).mkdir(parents=True)
            for k in range(20):
                pixels = np.random.default_rng((number, k)).integers(0, 256, (9, 10, 3), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "pictures" / token / f"{k}.png")
        dataset = ["--data.dataset", "torchvision.datasets.ImageFolder", "--data.dataset.init_args.root", "pictures"]
        sizes = ["--data.exemplars", "9", "--data.min_exemplars", "9", "--data.bank_exemplars", "3"]
        model = ["--model.network.init_args.tokens", "2", "--model.network.init_args.width", "2"]
        trainer = ["--trainer.max_steps", "2", "--trainer.accelerator", "cpu", "--trainer.callbacks", "null"]
        return [*dataset, *sizes, "--data.batch_size", "6", *model, *trainer]

    @staticmethod
    def fit(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        config = str(Path(__file__).parents[2] / "configs" / "cifar.yaml")
        command = [sys.executable, "-m", "lightning_emerge", "fit", "--config", config, *arguments]
        return run_group(command, cwd=folder, ready=True)

    def test_it_trains_on_the_classes_chosen_with_its_augmentations(self, tmp_path, arguments):
        ended = self.fit(tmp_path, *arguments, "--data.classes", "[c, a]")
        assert ended.returncode == 0, ended.stderr
        assert "Trained   2 optimizer steps" in ended.stdout
        saved = yaml.safe_load((tmp_path / "runs/cifar/version_0/config.yaml").read_text())["data"]["init_args"]
        assert saved["classes"] == ["c", "a"]
        assert saved["dataset"]["class_path"] == "torchvision.datasets.ImageFolder"
        assert [one["class_path"].split(".")[-1] for one in saved["augmentations"]] == [
            "RandomHorizontalFlip",
            "RandomCrop",
        ]

    def test_a_mistake_is_one_line(self, tmp_path, arguments):
        ended = self.fit(tmp_path, *arguments)
        assert ended.returncode == 2
        assert "data.classes are classes of the data set: a, b, c; got cat, ship" in ended.stderr
        assert len(ended.stderr.strip().splitlines()) == 1
        assert not (tmp_path / "runs").exists()
