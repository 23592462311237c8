from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest
import torch

from lightning_emerge.data.dataset import Exemplars
from lightning_emerge.data.render import Nuisances, render
from lightning_emerge.data.synthetic import TokenDataModule
from lightning_emerge.data.tokens import DEFAULT_GRAMMAR

SMALL = {"val_exemplars": 6, "test_exemplars": 5, "bank_exemplars": 4, "image_size": 12}


def make(**arguments) -> TokenDataModule:
    module = TokenDataModule(**{**SMALL, **arguments})
    module.setup("fit")
    return module


@pytest.fixture(scope="module")
def data() -> TokenDataModule:
    return make()


@pytest.fixture(scope="module")
def splits(data) -> Mapping[str, Exemplars]:
    return data.load()


def test_fewer_than_500_exemplars_are_no_dense_sample():
    TokenDataModule(exemplars=500)
    with pytest.raises(ValueError, match=r"data\.exemplars is at least 500 a token.*got 499"):
        TokenDataModule(exemplars=499)


@pytest.mark.parametrize("split", ["val", "test", "bank"])
def test_a_split_of_one_exemplar_is_refused(split):
    with pytest.raises(ValueError, match=rf"data\.{split}_exemplars is at least 2 a token; got 1"):
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


def test_an_id_says_which_draw_the_image_is(data, splits):
    split = splits["val"]
    for position, one in enumerate(split.ids):
        name, token, index = one.split("/")
        label = data.tokens.index(token)
        expected = render(
            DEFAULT_GRAMMAR.tokens[label], label, [int(index)], split=name, seed=0, size=12, nuisances=Nuisances()
        )
        np.testing.assert_array_equal(split.images[position].numpy(), expected[0])
        assert split.labels[position] == label


def test_two_modules_of_one_seed_have_the_same_bytes(splits):
    again = make().load()
    for split in ("train", "val", "test", "bank"):
        first, second = splits[split], again[split]
        assert first.images.numpy().tobytes() == second.images.numpy().tobytes()
        assert first.ids == second.ids


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
    quiet = make(nuisances=Nuisances(background=0.0, light=0.0, noise=0.0))
    corner = quiet.load()["val"].images[:, :, 0, :2].float()
    assert torch.equal(corner[..., 0], corner[..., 1])
    noisy = splits["val"].images[:, :, 0, :2].float()
    assert not torch.equal(noisy[..., 0], noisy[..., 1])
