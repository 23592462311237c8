import os
from collections import Counter
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lightning_emerge.data import synthetic
from lightning_emerge.data.dataset import Exemplars, normalise
from lightning_emerge.data.grammar.files import write_grammar
from lightning_emerge.data.grammar.tokens import DEFAULT_GRAMMAR, Grammar, Part, Token
from lightning_emerge.data.names import SPLITS
from lightning_emerge.data.rendering.latents import scenes_of
from lightning_emerge.data.rendering.nuisances import Nuisances
from lightning_emerge.data.rendering.render import paint, render
from lightning_emerge.data.synthetic import TokenDataModule

SMALL = {"val_exemplars": 6, "test_exemplars": 5, "bank_exemplars": 4, "image_size": 12}
FEW = {"exemplars": 20, "min_exemplars": 20, "batch_size": 8}
LOADERS = ("train", "val", "test", "predict")


def make(**arguments) -> TokenDataModule:
    module = TokenDataModule(**{**SMALL, **arguments})
    module.setup("fit")
    return module


def cached(module: TokenDataModule) -> set[str]:
    return {split for split, exemplars in module.load().items() if isinstance(exemplars.images, torch.Tensor)}


def batches(module: TokenDataModule, loader: str) -> list[tuple[list[str], bytes, list[int]]]:
    found = getattr(module, f"{loader}_dataloader")()
    return [(batch["id"], batch["image"].numpy().tobytes(), batch["label"].tolist()) for batch in found]


def rendered(module: TokenDataModule, one: str) -> np.ndarray:
    """The image that an id names, rendered alone."""
    split, name, index = one.split("/")
    label = module.tokens.index(name)
    return render(
        module.grammar.tokens,
        np.array([label]),
        np.array([int(index)]),
        split=split,
        seed=module.seed,
        size=module.image_size,
        nuisances=module.nuisances,
    )[0]


@pytest.fixture(scope="module")
def data() -> TokenDataModule:
    return make()


@pytest.fixture(scope="module")
def splits(data) -> Mapping[str, Exemplars]:
    return data.load()


def test_fewer_than_500_exemplars_are_no_dense_sample():
    TokenDataModule(exemplars=500)
    with pytest.raises(ValueError, match=r"data\.exemplars .*min_exemplars \(500\).* 499\."):
        TokenDataModule(exemplars=499)


@pytest.mark.parametrize("fewest", [1, 20, 499])
def test_fewer_are_allowed_on_purpose_and_no_fewer_than_that(fewest):
    assert TokenDataModule(exemplars=fewest, min_exemplars=fewest).counts["train"] == fewest
    with pytest.raises(ValueError, match=rf"data\.min_exemplars \({fewest}\) a token; got {fewest - 1}"):
        TokenDataModule(exemplars=fewest - 1, min_exemplars=fewest)


@pytest.mark.parametrize(("name", "lowest"), [("min_exemplars", 1), ("cache_mib", 0)])
def test_an_argument_below_its_lowest_value_is_refused(name, lowest):
    TokenDataModule(**{name: lowest})
    with pytest.raises(ValueError, match=rf"data\.{name} is at least {lowest}; got {lowest - 1}\."):
        TokenDataModule(**{name: lowest - 1})


@pytest.mark.parametrize("name", ["exemplars", "val_exemplars", "test_exemplars", "bank_exemplars"])
def test_a_million_exemplars_are_the_most(name):
    TokenDataModule(**{name: 1_000_000})
    with pytest.raises(ValueError, match=rf"data\.{name} .*1,000,000 .*1,000,001\."):
        TokenDataModule(**{name: 1_000_001})


@pytest.mark.parametrize("split", ["val", "test", "bank"])
def test_a_split_of_one_exemplar_is_refused(split):
    with pytest.raises(ValueError, match=rf"^data\.{split}_exemplars is at least 2; got 1\.$"):
        TokenDataModule(**{f"{split}_exemplars": 1})


def test_five_tokens_by_default(data):
    assert data.tokens == DEFAULT_GRAMMAR.names
    assert len(data.tokens) == 5


@pytest.mark.parametrize(("split", "count"), [("train", 500), ("val", 6), ("test", 5), ("bank", 4)])
def test_every_split_has_as_many_of_each_token(splits, split, count):
    labels = splits[split].labels
    assert Counter(labels.tolist()) == dict.fromkeys(range(5), count)


def test_the_bank_is_balanced_and_in_the_order_of_tokens_then_indices(data):
    bank = data.stimulus_bank()
    assert len(bank) == 20
    assert bank.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4
    assert bank.ids[:5] == (
        "bank/dax/000000",
        "bank/dax/000001",
        "bank/dax/000002",
        "bank/dax/000003",
        "bank/wug/000000",
    )
    assert [one.split("/")[1] for one in bank.ids] == [data.tokens[label] for label in bank.labels]


def test_no_two_exemplars_share_an_id_or_an_image(splits):
    ids = [one for split in splits.values() for one in split.ids]
    images = [image.numpy().tobytes() for split in splits.values() for image in split.images]
    assert len(set(ids)) == len(ids) == 5 * (500 + 6 + 5 + 4)
    assert len(set(images)) == len(images)


def test_no_two_exemplars_share_the_numbers_that_they_are_drawn_from(data):
    tables = [data.latents(split, token, range(6)) for split in SPLITS for token in data.tokens]
    for column in ("x", "rotation", "light_x", "background_seed", "noise_seed", "part0_red", "patch_angle"):
        values = np.concatenate([table[column] for table in tables])
        assert len(np.unique(values)) == len(values) == 4 * 5 * 6


def test_an_id_says_which_draw_the_image_is(data, splits):
    split = splits["val"]
    for position, one in enumerate(split.ids):
        np.testing.assert_array_equal(split.images[position].numpy(), rendered(data, one))
        assert split.labels[position] == data.tokens.index(one.split("/")[1])


def test_two_modules_of_one_seed_have_the_same_bytes(splits):
    again = make().load()
    for split in ("train", "val", "test", "bank"):
        first, second = splits[split], again[split]
        assert first.images.numpy().tobytes() == second.images.numpy().tobytes()
        assert tuple(first.ids) == tuple(second.ids)


def test_another_seed_gives_other_images(data):
    assert not torch.equal(make(seed=1).stimulus_bank().images, data.stimulus_bank().images)


def test_the_size_of_another_split_leaves_the_bank_alone(data):
    other = make(exemplars=501, val_exemplars=9, batch_size=7)
    assert torch.equal(other.stimulus_bank().images, data.stimulus_bank().images)


def test_a_larger_bank_begins_with_the_smaller_one(data):
    small, large = data.stimulus_bank(), make(bank_exemplars=6).stimulus_bank()
    at = [large.ids.index(one) for one in small.ids]
    assert torch.equal(large.images[at], small.images)


def test_nuisances_reach_the_images(splits):
    quiet = make(nuisances=Nuisances("easy", background=0.0, light=0.0, noise=0.0))
    corner = quiet.load()["val"].images[:, :, 0, :2].float()
    assert torch.equal(corner[..., 0], corner[..., 1])
    noisy = splits["val"].images[:, :, 0, :2].float()
    assert not torch.equal(noisy[..., 0], noisy[..., 1])


class TestGrammar:
    def test_it_may_be_a_file(self, tmp_path):
        grammar = Grammar.sample(tokens=6, parts=5, arity=4, shared=2, seed=1)
        (tmp_path / "six.yaml").write_text(write_grammar(grammar), encoding="utf-8")
        module = make(grammar=str(tmp_path / "six.yaml"), **FEW)
        assert module.grammar == grammar
        assert module.tokens == grammar.names
        assert Counter(module.load()["train"].labels.tolist()) == dict.fromkeys(range(6), 20)
        assert torch.equal(module.stimulus_bank().images, make(grammar=grammar, **FEW).stimulus_bank().images)

    def test_it_reaches_the_images(self, splits):
        grammar = Grammar(DEFAULT_GRAMMAR.tokens[::-1])
        module = make(grammar=grammar, **FEW)
        assert module.tokens == DEFAULT_GRAMMAR.names[::-1]
        exemplars = module.load()["val"]
        for position in (0, 7, 29):
            np.testing.assert_array_equal(exemplars.images[position].numpy(), rendered(module, exemplars.ids[position]))
        assert not torch.equal(exemplars.images, splits["val"].images)

    def test_one_that_a_single_part_tells_is_refused(self):
        told = Grammar(tuple(Token(shape, (Part(shape, (0.0, 0.0)),)) for shape in ("disk", "ring", "bar")))
        with pytest.raises(ValueError, match="The shape disk stands in token 'disk' alone"):
            TokenDataModule(grammar=told)


class TestCache:
    @pytest.mark.parametrize("loader", LOADERS)
    def test_cached_and_rendered_anew_the_batches_have_the_same_bytes(self, loader):
        kept, anew = make(**FEW), make(**FEW, cache_mib=0)
        assert cached(kept) == set(SPLITS)
        assert cached(anew) == set()
        found = batches(kept, loader)
        assert found == batches(anew, loader) == batches(anew, loader)
        assert len(found) > 0

    def test_cached_and_rendered_anew_the_bank_is_the_same(self):
        kept, anew = make(**FEW).stimulus_bank(), make(**FEW, cache_mib=0).stimulus_bank()
        assert torch.equal(kept.images, anew.images)
        assert kept.ids == anew.ids
        assert torch.equal(kept.labels, anew.labels)

    @pytest.mark.parametrize(
        ("counts", "fits"),
        [  # of 8 x 8 pixels and five tokens, 1092 exemplars of each fill a MiB
            ((1070, 10, 10, 2), {"train", "val", "test", "bank"}),
            ((1071, 10, 10, 2), {"val", "test", "bank"}),
            ((1093, 10, 10, 2), {"val", "test", "bank"}),
            ((500, 1100, 10, 2), {"train", "test", "bank"}),
            ((500, 10, 100, 1000), {"val", "bank"}),
            ((500, 10, 10, 1093), {"train", "val", "test"}),
        ],
    )
    def test_the_bank_comes_first_then_test_val_and_train_and_what_does_not_fit_is_rendered(self, counts, fits):
        names = ("exemplars", "val_exemplars", "test_exemplars", "bank_exemplars")
        module = make(image_size=8, cache_mib=1, **dict(zip(names, counts, strict=True)))
        assert cached(module) == fits
        whole = module.load()
        for split, count in zip(SPLITS, counts, strict=True):
            at = torch.tensor([0, count - 1, count, 5 * count - 1])
            expected = np.stack([rendered(module, whole[split].ids[k]) for k in at])
            np.testing.assert_array_equal(whole[split].images[at].numpy(), expected)

    def test_what_fits_to_the_last_byte_is_cached(self):
        grammar = Grammar.sample(tokens=4, parts=4, arity=4, shared=2, seed=0)
        exact = {"val_exemplars": 4, "test_exemplars": 3, "bank_exemplars": 3, "image_size": 8, "grammar": grammar}
        exact["cache_mib"] = 3  # 4096 exemplars of four tokens
        assert "train" in cached(TokenDataModule(exemplars=4086, **exact))
        assert "train" not in cached(TokenDataModule(exemplars=4087, **exact))


class TestWorkersAndRanks:
    @pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more workers than cores, on purpose
    @pytest.mark.parametrize("cache_mib", [0, 64])
    @pytest.mark.parametrize("num_workers", [2, 4])
    def test_batches_have_the_same_bytes_from_worker_processes(self, num_workers, cache_mib):
        alone, together = make(**FEW), make(**FEW, cache_mib=cache_mib, num_workers=num_workers)
        for loader in ("train", "test"):
            assert batches(together, loader) == batches(alone, loader)

    @pytest.mark.parametrize("cache_mib", [0, 64])
    @pytest.mark.parametrize("loader", LOADERS)
    def test_an_exemplar_has_the_same_bytes_on_one_rank_and_on_two(self, monkeypatch, loader, cache_mib):
        module = make(**FEW, cache_mib=cache_mib)

        def seen(rank: int, world_size: int) -> list[dict[str, bytes]]:
            cpu = SimpleNamespace(root_device=torch.device("cpu"))
            trainer = SimpleNamespace(global_rank=rank, world_size=world_size, current_epoch=0, strategy=cpu)
            monkeypatch.setattr(module, "trainer", trainer)
            found = getattr(module, f"{loader}_dataloader")()
            return [dict(zip(b["id"], [one.numpy().tobytes() for one in b["image"]], strict=True)) for b in found]

        one, first, second = seen(0, 1), seen(0, 2), seen(1, 2)
        assert one == [a | b for a, b in zip(first, second, strict=True)]
        assert all(a and b and not set(a) & set(b) for a, b in zip(first, second, strict=True))


def resident() -> int:
    """Memory of this process, in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20


class TestAnyDensity:
    def test_one_exemplar_of_each_token(self):
        module = make(exemplars=1, min_exemplars=1, batch_size=5)
        (batch,) = module.train_dataloader()
        assert sorted(batch["id"]) == sorted(f"train/{token}/000000" for token in module.tokens)
        for one, image in zip(batch["id"], batch["image"], strict=True):
            assert torch.equal(image, normalise(torch.from_numpy(rendered(module, one))))

    def test_a_million_of_each_are_rendered_only_as_they_are_visited(self, monkeypatch):
        drawn = Counter()

        def counting(tokens, labels, indices, *, split, **rest):
            drawn[split] += len(indices)
            return render(tokens, labels, indices, split=split, **rest)

        monkeypatch.setattr(synthetic, "render", counting)
        before = resident()
        module = make(exemplars=1_000_000, image_size=8, cache_mib=1, batch_size=50)
        assert drawn == {"val": 30, "test": 25, "bank": 20}
        train = module.load()["train"]
        assert len(train) == len(train.ids) == 5_000_000
        assert train.ids[0] == "train/dax/000000"
        assert train.ids[-1] == "train/toma/999999"
        found = list(islice(module.train_dataloader(), 2))
        assert drawn["train"] == 100
        # 40 MB of labels, 40 MB of the shuffled order, and what holds its batches; the images would be 960 MB.
        assert resident() - before < 400
        for batch in found:
            for one, image, label in zip(batch["id"], batch["image"], batch["label"], strict=True):
                assert torch.equal(image, normalise(torch.from_numpy(rendered(module, one))))
                assert one.split("/")[1] == module.tokens[label]

    def test_an_index_of_a_million_has_an_image_of_its_own(self):
        images = make(**FEW).images("train", "dax", [0, 999_998, 999_999])
        assert len({image.tobytes() for image in images}) == 3


class TestIds:
    @pytest.mark.parametrize("count", [2, 3])
    def test_made_when_asked_for_they_are_those_of_a_tuple(self, count):
        ids = make(**FEW, bank_exemplars=count).load()["bank"].ids
        whole = tuple(f"bank/{token}/{index:06d}" for token in DEFAULT_GRAMMAR.names for index in range(count))
        assert tuple(ids) == whole
        assert len(ids) == len(whole)
        assert [ids[k] for k in range(-len(whole), len(whole))] == [*whole, *whole]
        for part in (slice(None), slice(2, 7), slice(None, None, -3), slice(-4, None), slice(50, 60)):
            assert ids[part] == whole[part]
        assert whole[3] in ids
        assert "bank/dax/000009" not in ids
        assert ids.index(whole[4]) == 4
        for outside in (len(whole), -len(whole) - 1):
            with pytest.raises(IndexError):
                ids[outside]


class TestLatentsImagesAndMasks:
    @pytest.mark.parametrize("token", DEFAULT_GRAMMAR.names)
    @pytest.mark.parametrize("split", SPLITS)
    def test_latents_reproduce_the_images_of_the_split(self, data, splits, split, token):
        count = data.counts[split]
        indices = [0, 3, 1, count - 1]
        found = data.latents(split, token, indices)
        first = data.tokens.index(token) * count
        own = [first + index for index in indices]
        expected = splits[split].images[own].numpy()
        np.testing.assert_array_equal(paint(scenes_of(found), data.image_size), expected)
        np.testing.assert_array_equal(data.images(split, token, indices), expected)
        assert found["id"].tolist() == [splits[split].ids[k] for k in own]
        assert found["label"].tolist() == splits[split].labels[own].tolist()

    def test_masks_are_those_of_the_latents(self, data):
        masks = data.masks("test", "fep", [4, 2])
        assert masks.shape == (2, 4, 12, 12)
        assert masks.dtype == np.float32
        found = data.latents("test", "fep", [4, 2])
        areas = np.stack([found[f"part{part}_area"] for part in range(4)], axis=1)
        np.testing.assert_allclose(masks.sum(axis=(2, 3)), areas, rtol=1e-5)
        assert areas.max() > 3

    def test_no_exemplars_have_no_rows_images_or_masks(self, data):
        some, none = data.latents("val", "dax", [0]), data.latents("val", "dax", [])
        assert len(none) == 0
        assert list(none) == list(some)
        assert data.images("val", "dax", []).shape == (0, 3, 12, 12)
        assert data.masks("val", "dax", []).shape == (0, 4, 12, 12)

    @pytest.mark.parametrize("ask", ["latents", "images", "masks"])
    def test_an_unknown_split_or_token_is_refused_and_the_known_are_listed(self, data, ask):
        with pytest.raises(ValueError, match=r"^A split is one of train, val, test, bank; got 'valid'\.$"):
            getattr(data, ask)("valid", "dax", [0])
        with pytest.raises(ValueError, match=r"dax, wug, blick, fep, toma; got 'tomo'"):
            getattr(data, ask)("val", "tomo", [0])

    def test_they_need_no_setup(self):
        module = TokenDataModule(**SMALL)
        assert len(module.latents("train", "wug", range(3))) == 3
