import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from lightning_emerge.data.augment import Augmentations, augmented
from lightning_emerge.data.dataset import BatchOrder, Exemplars, Visit

COUNT = 24


def transforms(side: int = 12) -> list[v2.Transform]:
    """Transforms that draw numbers of several kinds."""
    return [v2.RandomHorizontalFlip(), v2.RandomResizedCrop(side), v2.ColorJitter(0.4, 0.4), v2.RandomErasing()]


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    drawn = np.random.default_rng(0).integers(0, 256, (COUNT, 3, 12, 12), np.uint8)
    return torch.from_numpy(drawn)


@pytest.fixture
def exemplars(images) -> Exemplars:
    return augmented(Exemplars(images, torch.arange(COUNT), [str(k) for k in range(COUNT)]), transforms(), 0)


def look(augment: Callable, images: torch.Tensor, indices: list[int], epoch: int = 0) -> torch.Tensor:
    return augment(images[torch.tensor(indices)], Visit(indices, epoch))


def visited(exemplars: Exemplars, epoch: int, *, batch_size: int = 8, workers: int = 0, ranks: int = 1) -> dict:
    """Each exemplar's image at its visit in an epoch, by id."""
    found = {}
    for rank in range(ranks):
        order = BatchOrder(COUNT, batch_size, rank=rank, world_size=ranks, seed=0, training=True)
        order.set_epoch(epoch)
        for batch in DataLoader(exemplars, sampler=order, batch_size=None, num_workers=workers):
            found.update(zip(batch["id"], batch["image"], strict=True))
    assert len(found) == COUNT
    return found


class TestPure:
    def test_alone_or_in_a_batch_or_in_another_order(self, images):
        augment = Augmentations(transforms(), 0)
        together = look(augment, images, list(range(COUNT)))
        assert torch.cat([look(augment, images, [k]) for k in range(COUNT)]).equal(together)
        assert look(augment, images, list(range(COUNT))[::-1]).flip(0).equal(together)

    # Python 3.12 warns of any fork in a process with threads, such as those of earlier tests.
    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
    @pytest.mark.parametrize("changes", [{"batch_size": 4}, {"workers": 2}, {"ranks": 2}])
    def test_whatever_the_batches_and_processes(self, exemplars, changes):
        expected = visited(exemplars, 3)
        for one, image in visited(exemplars, 3, **changes).items():
            assert image.equal(expected[one])

    def test_whatever_was_drawn_before(self, images):
        augment = Augmentations(transforms(), 0)
        first = look(augment, images, [0, 1])
        torch.rand(100)
        assert look(augment, images, [0, 1]).equal(first)


class TestDiffers:
    @pytest.fixture
    def noise(self):
        class Noise(v2.Transform):
            def transform(self, inpt, params):
                return torch.randint(0, 256, inpt.shape, dtype=torch.uint8)

        return [Noise()]

    def test_between_seeds_epochs_and_positions(self, images, noise):
        drawn = {
            look(Augmentations(noise, seed), images, [position], epoch).numpy().tobytes()
            for seed in range(8)
            for epoch in range(8)
            for position in range(8)
        }
        assert len(drawn) == 8**3

    def test_between_visits_of_one_run(self, exemplars):
        first, second = (visited(exemplars, epoch) for epoch in (0, 1))
        assert sum(not first[one].equal(second[one]) for one in first) > COUNT / 2

    def test_about_half_are_flipped(self, images):
        augment = Augmentations([v2.RandomHorizontalFlip()], 0)
        flipped = 0
        for epoch in range(20):
            changed = look(augment, images, list(range(COUNT)), epoch)
            mirrored = [one.equal(image.flip(-1)) for one, image in zip(changed, images, strict=True)]
            assert all(m or one.equal(i) for m, one, i in zip(mirrored, changed, images, strict=True))
            flipped += sum(mirrored)
        assert flipped / (20 * COUNT) == pytest.approx(0.5, abs=0.1)


class TestPassive:
    def test_random_numbers_go_on_as_if_nothing_had_been_drawn(self, images, exemplars):
        before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
        augmented(exemplars, transforms(), 0)
        look(Augmentations(transforms(), 0), images, [0, 1])
        assert torch.get_rng_state().equal(before[0])
        assert (random.getstate(), np.random.get_state()[1].tolist()) == before[1:]  # noqa: NPY002

    def test_they_do_so_after_an_error_too(self, images):
        before = torch.get_rng_state()
        with pytest.raises(ValueError, match="uint8"):
            look(Augmentations([v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32)], 0), images, [0])
        assert torch.get_rng_state().equal(before)

    def test_the_gpu_s_random_numbers_are_not_touched(self, images, monkeypatch):
        def reached(*_):
            raise AssertionError("worker processes must not reach for the GPU")

        for name in ("manual_seed", "manual_seed_all", "_lazy_init"):
            monkeypatch.setattr(torch.cuda, name, reached)
        look(Augmentations(transforms(), 0), images, [0])

    def test_images_stay_as_they_are(self, images, exemplars):
        before = images.clone()
        visited(augmented(exemplars, [v2.RandomErasing(p=1.0, inplace=True)], 0), 0)
        assert images.equal(before)
        assert exemplars.pixels().equal(before)


class TestOrder:
    def test_transforms_follow_each_other(self, images):
        pad = Augmentations([v2.Pad(2, fill=255), v2.CenterCrop(12), v2.RandomInvert(p=1.0)], 0)
        assert look(pad, images, [0, 5]).equal(255 - images[[0, 5]])


class TestRefusals:
    @pytest.mark.parametrize(
        ("transform", "got"),
        [
            (v2.ToDtype(torch.float32, scale=True), r"float32 \(3, 12, 12\)"),
            (v2.RandomCrop(8), r"uint8 \(3, 8, 8\)"),
            (v2.Grayscale(1), r"uint8 \(1, 12, 12\)"),
            (v2.ToPILImage(), "Image"),
        ],
    )
    def test_another_shape_or_type_is_refused_with_what_came(self, exemplars, transform, got):
        with pytest.raises(
            ValueError, match=rf"data\.augmentations give uint8 .*\(3, 12, 12\); got {got}\. Leave ToDtype"
        ):
            augmented(exemplars, [transform], 0)

    def test_a_transform_that_cannot_is_refused_with_its_error(self, exemplars):
        with pytest.raises(ValueError, match=r"data\.augmentations change uint8 .*got TypeError: .*Correct the"):
            augmented(exemplars, [v2.Normalize([0.5] * 3, [0.5] * 3)], 0)

    def test_one_that_goes_wrong_only_sometimes_is_refused_when_it_does(self, images):
        sometimes = Augmentations([v2.RandomApply([v2.ToDtype(torch.float32)], p=0.5)], 0)
        with pytest.raises(ValueError, match="got float32"):
            look(sometimes, images, list(range(COUNT)))

    def test_none_or_an_empty_list_leaves_the_exemplars_as_they_are(self, images):
        plain = Exemplars(images, torch.arange(COUNT), [])
        assert augmented(plain, None, 0) is plain
        assert augmented(plain, [], 0) is plain
