"""Class selectivity: by hand, on noise of all kinds that it judges by itself, and on planted filters."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_emerge.measures.geometry import deal_folds
from lightning_emerge.measures.selectivity import CHANCE, class_selectivity, preferred_tokens, selective_share

FEW = torch.tensor([0, 0, 1, 1, 2, 2])
LABELS = torch.arange(250) // 50
FILTERS = 400


def of_tokens(*filters: tuple[float, ...], labels: torch.Tensor = FEW) -> torch.Tensor:
    """Filters with these mean responses to the tokens, which vary about them from one stimulus to the next."""
    about = torch.where(torch.arange(len(labels)) % 2 == 0, 0.5, 1.5)
    return torch.tensor(filters).T[labels] * about[:, None]


def test_the_preferred_token_is_that_of_the_largest_mean():
    pooled = of_tokens((0, 0, 1), (1, 4, 2), (3, 1, 1), (0, 0, 0), (-1, 2, 3))
    assert preferred_tokens(pooled, FEW).tolist() == [2, 1, 0, -1, -1]
    assert preferred_tokens(pooled[:, :3], FEW + (FEW > 0).long()).tolist() == [3, 2, 0]


@pytest.mark.parametrize("labels", [torch.arange(60) % 3, torch.tensor([0] * 31 + [2] * 7 + [5] * 22)])
def test_the_index_is_that_of_folds_which_the_token_is_not_found_in_less_that_of_shuffled_labels(labels):
    pooled = torch.rand(60, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) ** 2
    pooled[labels == 0] *= torch.tensor([1.0, 4.0, 1.0])

    def crossed(responses: np.ndarray) -> float:
        """The index of one filter."""
        folds, tokens, above, both = deal_folds(labels, 5).numpy(), labels.numpy(), 0.0, 0.0
        means = np.array([[responses[(folds == k) & (tokens == t)].mean() for t in set(tokens)] for k in range(5)])
        for fold in range(5):
            best = np.delete(means, fold, axis=0).mean(axis=0).argmax()
            rest = np.delete(means[fold], best).mean()
            above, both = above + means[fold, best] - rest, both + means[fold, best] + rest
        return above / both

    index, _ = class_selectivity(pooled, labels)
    draws = torch.Generator().manual_seed(0)
    orders = torch.rand(99, 60, generator=draws).argsort(dim=1)
    for k, own in enumerate(pooled.T.numpy()):
        # Labels in another order: the stimulus at a place takes the label, and the fold, of another.
        shuffled = [crossed(own[order.argsort().numpy()]) for order in orders]
        chance = (crossed(own) + sum(shuffled)) / 100
        assert index[k].item() == pytest.approx((crossed(own) - chance) / (1 - chance))


def noise(kind: str, seed: int = 0, filters: int = FILTERS) -> torch.Tensor:
    """Filters that do not know tokens: dense, or firing for a share of the stimuli, as strongly or not."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn(250, filters, generator=generator).relu()
    if kind == "dense":
        return normal
    share, _, strength = kind.partition(" ")
    fires = (torch.rand(250, filters, generator=generator) < float(share)).float()
    return fires * (normal + 0.1 if strength else 1)


KINDS = ("dense", "0.004", "0.01", "0.02", "0.02 unequally", "0.1 unequally")


@pytest.mark.parametrize("kind", KINDS)
def test_noise_has_an_index_of_zero_and_is_hardly_ever_selective(kind):
    index, selective = class_selectivity(noise(kind), LABELS)
    found = index[index.isfinite()]
    assert abs(found[:40].mean()) < 3 * found[:40].std() / 40**0.5
    assert found.mean().item() == pytest.approx(0, abs=4 * found.std().item() / len(found) ** 0.5)
    assert selective.nansum() / FILTERS <= CHANCE + 3 * (CHANCE / FILTERS) ** 0.5
    assert torch.equal(selective.isnan(), index.isnan())
    assert (index[noise(kind).sum(dim=0) == 0]).isnan().all()


def test_unequal_tokens_are_no_more_selective_by_chance():
    labels = torch.arange(5).repeat_interleave(torch.tensor([120, 60, 40, 20, 10]))
    index, selective = class_selectivity(noise("0.02 unequally"), labels)
    found = index[index.isfinite()]
    assert abs(found.mean()) < 3 * found.std() / len(found) ** 0.5
    assert selective.nansum() / FILTERS <= CHANCE + 3 * (CHANCE / FILTERS) ** 0.5


@pytest.mark.parametrize(("gain", "true"), [(3.0, 0.5), (4.0, 0.6), (9.0, 0.8)])
def test_dense_filters_that_answer_one_token_more_have_their_index(gain, true):
    pooled = noise("dense") * torch.where(LABELS == 2, gain, 1)[:, None]
    index, selective = class_selectivity(pooled, LABELS)
    assert index.mean().item() == pytest.approx(true, abs=0.02)
    assert (preferred_tokens(pooled, LABELS) == 2).float().mean() > 0.99
    assert selective.float().mean() > (0.8 if true > 0.5 else 0.4)


@pytest.mark.parametrize("stimuli", [5, 10, 50])
def test_filters_that_fire_for_some_stimuli_of_one_token_alone_are_selective(stimuli):
    chosen = torch.rand(50, FILTERS, generator=torch.Generator().manual_seed(0)).argsort(dim=0) < stimuli
    pooled = torch.zeros(250, FILTERS)
    pooled[LABELS == 3] = chosen.float()
    index, selective = class_selectivity(pooled, LABELS)
    assert index.mean() > 0.95
    assert selective.float().mean() > 0.95
    share = selective_share(selective, preferred_tokens(pooled, LABELS), 5)
    torch.testing.assert_close(share, torch.tensor([0, 0, 0, 1, 0]) * selective.double().mean())


def test_a_filter_that_prefers_no_token_counts_among_all_alone():
    share = selective_share(torch.tensor([1.0, torch.nan, 0.0, 1.0]), torch.tensor([1, -1, 0, 1]), 3)
    assert share.tolist() == [0, 0.5, 0]


@pytest.mark.parametrize(("tokens", "each", "known"), [(5, 2, False), (3, 3, False), (5, 3, True), (5, 4, True)])
def test_where_a_filter_of_one_token_alone_could_be_chance_nothing_is_said(tokens, each, known):
    labels = torch.arange(tokens).repeat_interleave(each)
    pooled = torch.nn.functional.one_hot(labels).float()
    index, selective = class_selectivity(pooled, labels)
    assert (index == 1).all()
    assert selective.isfinite().all() == known
    assert (selective.nansum() > tokens / 2) == known
    shares = selective_share(selective, preferred_tokens(pooled, labels), tokens)
    assert shares.isfinite().all() == known


def test_a_filter_that_fires_once_has_an_index_of_zero():
    pooled = torch.zeros(250, 1)
    pooled[7] = 3
    index, selective = class_selectivity(pooled, LABELS)
    assert index.item() == 0
    assert not selective.item()


def test_filters_that_answer_all_tokens_alike_or_none_or_negatively():
    labels = torch.arange(60) % 3
    index, selective = class_selectivity(of_tokens((2, 2, 2), (0, 0, 0), (-1, 2, 3), (0, 0, 1), labels=labels), labels)
    assert index[0].item() == pytest.approx(0, abs=0.05)
    assert index[1:3].isnan().all()
    assert index[3].item() == 1
    np.testing.assert_equal(selective.tolist(), [0, np.nan, np.nan, 1])


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_scale_of_a_filter_does_not_count(scale):
    pooled = torch.rand(60, 9, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(60) % 3
    found, selective = class_selectivity(pooled, labels)
    scaled, same = class_selectivity(pooled * scale, labels)
    torch.testing.assert_close(scaled, found, rtol=1e-4, atol=1e-4)
    assert torch.equal(selective, same)
    assert selective.isfinite().all()


def test_a_token_without_stimuli_does_not_count():
    pooled, labels = noise("dense", filters=9), LABELS + (LABELS > 0).long()
    torch.testing.assert_close(class_selectivity(pooled, labels)[0], class_selectivity(pooled, LABELS)[0])


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 0, 0, 1]], ids=["one token", "one stimulus"])
def test_without_two_tokens_or_a_second_stimulus_there_is_no_index(labels):
    index, selective = class_selectivity(torch.rand(4, 3), torch.tensor(labels))
    assert index.isnan().all()
    assert selective.isnan().all()
