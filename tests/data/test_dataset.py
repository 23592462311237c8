import tracemalloc
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DistributedSampler

from lightning_emerge.data.dataset import BatchOrder, Exemplars, Visit, normalise

PROPERTY = settings(max_examples=40, deadline=None, derandomize=True, database=None)
WORLDS = [1, 2, 3]


def orders(size: int, batch_size: int, world_size: int, *, seed: int = 0, training: bool = True) -> list[BatchOrder]:
    return [
        BatchOrder(size, batch_size, rank=rank, world_size=world_size, seed=seed, training=training)
        for rank in range(world_size)
    ]


def indices(order: BatchOrder) -> list[list[int]]:
    return [visit.indices for visit in order]


def flat(order: BatchOrder) -> list[int]:
    return list(chain.from_iterable(indices(order)))


def unions(ranks: list[BatchOrder]) -> list[list[int]]:
    """The batches of the whole run, as sorted indices."""
    return [sorted(chain.from_iterable(parts)) for parts in zip(*map(indices, ranks), strict=True)]


class TestBatchOrder:
    def test_lightning_sees_a_distributed_sampler_and_so_leaves_it_in_place(self):
        assert isinstance(orders(10, 2, 1)[0], DistributedSampler)

    @pytest.mark.parametrize("world_size", WORLDS)
    @pytest.mark.parametrize("training", [True, False])
    def test_a_batch_s_union_over_ranks_is_the_batch_of_one_rank(self, world_size, training):
        one = unions(orders(50, 12, 1, training=training))
        assert unions(orders(50, 12, world_size, training=training)) == one

    @given(
        batches=st.integers(1, 6), share=st.integers(1, 5), rest=st.integers(0, 100), world_size=st.sampled_from(WORLDS)
    )
    @PROPERTY
    def test_training_deals_whole_batches_in_equal_shares_and_leaves_the_rest_out(
        self, batches, share, rest, world_size
    ):
        batch_size = share * world_size
        size = batches * batch_size + rest % batch_size
        ranks = orders(size, batch_size, world_size)
        dealt = [indices(rank) for rank in ranks]
        assert all(len(rank) == batches for rank in (*ranks, *dealt))
        assert all(len(part) == share for rank in dealt for part in rank)
        visited = [index for rank in dealt for part in rank for index in part]
        assert len(set(visited)) == len(visited) == batches * batch_size
        assert set(visited) <= set(range(size))

    @given(size=st.integers(1, 200), batch_size=st.integers(3, 50), world_size=st.sampled_from(WORLDS))
    @PROPERTY
    def test_evaluation_visits_each_exemplar_once_without_padding(self, size, batch_size, world_size):
        if size < world_size * -(-size // batch_size):
            with pytest.raises(ValueError, match="too few"):
                orders(size, batch_size, world_size, training=False)
            return
        ranks = orders(size, batch_size, world_size, training=False)
        dealt = [indices(rank) for rank in ranks]
        assert len({len(rank) for rank in (*ranks, *dealt)}) == 1
        assert sorted(index for rank in dealt for part in rank for index in part) == list(range(size))
        assert all(part for rank in dealt for part in rank)
        sizes = [len(batch) for batch in unions(ranks)]
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1

    def test_evaluation_keeps_the_order_whatever_the_epoch(self):
        order = orders(20, 6, 1, training=False)[0]
        first = indices(order)
        order.set_epoch(3)
        assert indices(order) == first
        assert first[0] == [0, 4, 8, 12, 16]  # across the whole set, so that one batch is a fair sample
        assert sorted(flat(order)) == list(range(20))

    def test_training_shuffles_anew_each_epoch_and_each_seed(self):
        order = orders(64, 16, 1, seed=5)[0]
        seen = set()
        for epoch in range(3):
            order.set_epoch(epoch)
            seen.add(tuple(flat(order)))
        seen |= {tuple(flat(orders(64, 16, 1, seed=seed)[0])) for seed in (6, 7)}
        assert len(seen) == 5
        assert all(sorted(once) == list(range(64)) for once in seen)

    def test_an_epoch_s_order_does_not_depend_on_the_epochs_before_it(self):
        order, fresh = orders(64, 16, 1)[0], orders(64, 16, 1)[0]
        for epoch in (0, 1, 2):
            order.set_epoch(epoch)
            before = list(order)
        fresh.set_epoch(2)
        assert list(fresh) == before

    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("rank", [0, 1])
    def test_each_visit_says_in_which_epoch_it_is(self, training, rank):
        order = orders(40, 10, 2, training=training)[rank]
        for epoch in (0, 7):
            order.set_epoch(epoch)
            assert [visit.epoch for visit in order] == [epoch] * 4

    @pytest.mark.parametrize("training", [True, False])
    def test_a_visit_s_indices_are_plain_numbers(self, training):
        assert {type(index) for index in flat(orders(40, 10, 1, training=training)[0])} == {int}

    @pytest.mark.parametrize("training", [True, False])
    def test_a_hundred_thousand_exemplars_take_a_few_megabytes_however_many_batches_they_are(self, training):
        order = orders(100_000, 100, 1, training=training)[0]
        tracemalloc.start()
        visits = iter(order)
        first = next(visits)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(first.indices) == 100
        assert peak < 8 * 2**20

    def test_a_shuffled_place_says_nothing_about_the_index(self):
        place = np.array(flat(orders(2000, 50, 1)[0]))
        assert abs(np.corrcoef(place, np.arange(2000))[0, 1]) < 4 / np.sqrt(2000)

    def test_a_batch_that_does_not_divide_over_the_ranks_is_refused(self):
        with pytest.raises(ValueError, match="batch_size 32 with 3 processes"):
            orders(100, 32, 3)

    @pytest.mark.parametrize(
        ("size", "batch_size", "world_size", "training"), [(31, 32, 1, True), (2, 32, 3, False), (5, 2, 2, False)]
    )
    def test_too_few_exemplars_are_refused(self, size, batch_size, world_size, training):
        with pytest.raises(ValueError, match=rf"{size} exemplars are too few for batches of {batch_size}"):
            orders(size, batch_size, world_size, training=training)


class TestExemplars:
    def make(self) -> Exemplars:
        images = torch.arange(4, dtype=torch.uint8)[:, None, None, None].expand(4, 3, 2, 2)
        return Exemplars(images, torch.tensor([0, 0, 1, 1]), ("a", "b", "c", "d"))

    def test_a_batch_is_looked_up_in_the_order_asked_for(self):
        batch = self.make()[Visit([3, 0, 3], 0)]
        assert batch["id"] == ["d", "a", "d"]
        assert batch["label"].tolist() == [1, 0, 1]
        assert batch["image"].dtype == torch.float32
        assert batch["image"].shape == (3, 3, 2, 2)
        torch.testing.assert_close(batch["image"][:, 0, 0, 0], torch.tensor([12 / 255 - 2, -2, 12 / 255 - 2]))

    def test_as_many_as_labels(self):
        assert len(self.make()) == 4

    def test_its_pixels_are_the_images_as_they_are(self):
        exemplars = self.make()
        assert torch.equal(exemplars.pixels(), exemplars.images)
        assert exemplars.pixels().dtype == torch.uint8

    def test_images_that_are_made_when_asked_for_are_asked_for_a_whole_batch_at_once(self):
        asked = []

        class Made:
            def __getitem__(self, at):
                asked.append(at.tolist())
                return (at.to(torch.uint8) * 50)[:, None, None, None].expand(-1, 3, 2, 2)

        exemplars = Exemplars(Made(), torch.tensor([0, 0, 1, 1]), ("a", "b", "c", "d"))
        image = exemplars[Visit([2, 1], 0)]["image"]
        torch.testing.assert_close(image, normalise(torch.tensor([100, 50]))[:, None, None, None].expand(2, 3, 2, 2))
        assert exemplars.pixels()[:, 0, 0, 0].tolist() == [0, 50, 100, 150]
        assert asked == [[2, 1], [0, 1, 2, 3]]

    def test_what_augments_gets_bytes_positions_and_epoch_and_changes_the_images_alone(self):
        seen = []

        def invert(images, visit):
            seen.append((images.dtype, visit))
            return 255 - images

        plain = self.make()
        augmented = Exemplars(plain.images, plain.labels, plain.ids, invert)
        visit = Visit([3, 1], 5)
        before, after = plain[visit], augmented[visit]
        assert seen == [(torch.uint8, visit)]
        torch.testing.assert_close(after["image"], -before["image"])
        assert torch.equal(after["label"], before["label"])
        assert after["id"] == before["id"]
        assert torch.equal(augmented.pixels(), plain.pixels())

    def test_black_is_minus_two_and_white_two(self):
        pixels = torch.tensor([0, 51, 255], dtype=torch.uint8)
        torch.testing.assert_close(normalise(pixels), torch.tensor([-2.0, -1.2, 2.0]))
