"""Parts: names against the grammar's own count; planted detectors, part codes and token codes; noise at chance."""

from __future__ import annotations

from itertools import combinations
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
import torch

import lightning_emerge as le
from lightning_emerge.data.grammar.tokens import DEFAULT_GRAMMAR
from lightning_emerge.data.grammar.tokens import Part as GrammarPart
from lightning_emerge.measures.auc import auc
from lightning_emerge.measures.geometry import deal_folds, layer_geometry
from lightning_emerge.measures.latents import Part, parts_held
from lightning_emerge.measures.part_names import conjunction_names
from lightning_emerge.measures.parts import (
    MOST,
    Features,
    best_filter_auc,
    best_filters,
    features_of,
    filter_scores,
    linear_auc,
    transfer_auc,
)

EACH = 20


@pytest.fixture(scope="module")
def bank() -> le.StimulusBank:
    data = le.TokenDataModule(image_size=16, val_exemplars=2, test_exemplars=2, bank_exemplars=EACH)
    data.setup("fit")
    return data.stimulus_bank()


@pytest.fixture(scope="module")
def features(bank) -> Features:
    return features_of(bank)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def small(looks: list[list[str]], each: int = 2) -> le.StimulusBank:
    """A bank of tokens that are given by the words for their parts."""
    rows = [row for row in looks for _ in range(each)]
    width = max(map(len, looks))
    table = pd.DataFrame(
        {f"part{k}_appearance": [row[k] if k < len(row) else None for row in rows] for k in range(width)}
    )
    labels = torch.arange(len(looks)).repeat_interleave(each)
    ids = tuple(map(str, range(len(rows))))
    tokens = tuple(f"t{k}" for k in range(len(looks)))
    return le.StimulusBank(torch.zeros(len(rows), 3, 4, 4), labels, ids, tokens, table)


def test_the_default_grammar_has_fourteen_features_that_tokens_tell_apart(features):
    assert features.names == (
        "bar 0°",
        "bar 90°",
        "cross left / disk right",
        "cross right / disk left",
        "ring",
        "triangle",
        "cross above left of bar 0° (fep)",
        "cross above bar 0° (dax)",
        "cross above left of bar 90°",
        "cross above bar 90° (wug)",
        "ring left of bar 90° (blick)",
        "triangle left of bar 90°",
        "cross above triangle",
        "bar 90° + cross left + triangle (toma)",
    )
    assert features.kinds == ("part",) * 6 + ("pair",) * 7 + ("conjunction",)
    assert features.also[-1] == "bar 90° + disk right + triangle"


def test_features_and_their_tokens_are_those_that_the_grammar_counts(bank, features):
    table = DEFAULT_GRAMMAR.table()
    stands = {
        str(part): frozenset(np.array(table.tokens)[row]) for part, row in zip(table.parts, table.stands, strict=True)
    }
    for name, kind, tokens, looks, held in zip(
        features.names, features.kinds, features.tokens, features.appearances, features.held.T, strict=True
    ):
        owners = set(tokens.split("/"))
        assert held.tolist() == [bank.tokens[label] in owners for label in bank.labels.tolist()], name
        if kind == "part":
            assert {stands[look] for look in looks} == {frozenset(owners)}
        assert owners <= frozenset.intersection(*(stands[look] for look in looks)) | owners
    alone = [tokens for tokens in features.tokens if "/" not in tokens]
    assert sorted(alone) == sorted(bank.tokens)
    # No two features are had by the same stimuli, and none by all or none.
    assert len({tuple(column.tolist()) for column in features.held.T}) == 14
    assert features.held.any(dim=0).all()
    assert not features.held.all(dim=0).any()
    notes = features.notes()
    assert notes["stimuli"][0] == 2 * EACH
    assert notes["others"][0] == 3 * EACH


def test_kinds_can_be_taken_alone(features):
    parts = features.of_kind("part")
    assert parts.names == features.names[:6]
    assert parts.held.tolist() == features.held[:, :6].tolist()


def at(shape: str, x: float, y: float, pose: float = 0.0) -> Part:
    return Part(str(GrammarPart(shape, (x, y), pose)), shape, float(x), float(y), float(pose))


def test_names_say_what_tells_parts_apart_and_no_more():
    ring, bar, lying = at("ring", 0, 0), at("bar", 0.5, 0), at("bar", 0.5, 0, 90)
    upper, lower, other = at("disk", -0.5, -0.5), at("disk", -0.5, 0.5), Part("something else", "something else")
    conjunctions = [(ring,), (bar,), (lying,), (upper,), (lower,)]
    conjunctions += [(ring, lower), (bar, upper), (ring, bar), (other,), (ring, other)]
    assert list(conjunction_names(conjunctions).values()) == [
        "ring",
        "bar 0°",
        "bar 90°",
        "disk upper",
        "disk lower",
        "ring above right of disk",
        "disk above left of bar 0°",
        "ring left of bar 0°",
        "something else",
        "ring with something else",
    ]


def test_pairs_that_lie_alike_are_told_by_the_places_of_their_parts():
    high = (at("disk", -0.5, -0.5), at("ring", 0.5, -0.5))
    low = (at("disk", -0.5, 0.5), at("ring", 0.5, 0.5))
    assert list(conjunction_names([high, low]).values()) == [
        "disk upper left of ring upper",
        "disk lower left of ring lower",
    ]


def test_parts_are_those_of_the_grammar_with_their_places_and_poses(bank):
    parts, held = parts_held(bank.latents)
    known = {str(part): part for part in DEFAULT_GRAMMAR.table().parts}
    assert [part.appearance for part in parts] == sorted(known)
    for part, column in zip(parts, held.T, strict=True):
        own = known[part.appearance]
        assert (part.shape, part.x, part.y, part.pose) == (own.shape, *own.place, own.pose)
        having = [own in [one.appearance for one in token.parts] for token in DEFAULT_GRAMMAR.tokens]
        assert column.tolist() == [having[label] for label in bank.labels.tolist()]


def test_a_table_of_before_says_its_parts_in_words_alone(bank, features):
    table = bank.latents[[f"part{k}_appearance" for k in range(4)]]
    older = le.StimulusBank(
        bank.images, bank.labels, bank.ids, bank.tokens, table.rename(columns=lambda name: name[:6] + "look")
    )
    found = features_of(older)
    assert found.held.tolist() == features.held.tolist()
    assert found.appearances == features.appearances
    assert found.names[4] == "ring at (-0.5, 0.5)"


def test_tokens_with_one_look_have_no_features_and_a_bank_without_looks_is_refused():
    with pytest.raises(ValueError, match="all stimuli of this bank have the same parts"):
        features_of(small([["a", "b"], ["a", "b"]]))
    with pytest.raises(ValueError, match=r"columns part0_appearance"):
        features_of(le.StimulusBank(torch.zeros(2, 3, 4, 4), torch.arange(2), ("a", "b"), ("p", "q")))


def test_there_are_no_more_features_than_can_be_looked_at():
    random = np.random.default_rng(0)
    looks = [[f"p{k}" for k in sorted(random.choice(20, 5, replace=False))] for _ in range(40)]
    features = features_of(small(looks))
    assert len(features.names) == len(set(features.names)) == MOST
    assert features.kinds.count("part") == 20


def test_conjunctions_larger_than_any_that_is_kept_are_not_counted_up(monkeypatch):
    """A token of 12 parts has 4,095 of them, one of 24 has 16 million."""
    sizes = []

    def counted(parts, size):
        sizes.append(size)
        return combinations(parts, size)

    monkeypatch.setattr("lightning_emerge.measures.parts.combinations", counted)
    random = np.random.default_rng(0)
    features = features_of(small([[f"p{k}" for k in sorted(random.choice(40, 12, replace=False))] for _ in range(30)]))
    assert len(features.names) == MOST
    assert set(features.kinds) == {"part", "pair"}
    assert max(sizes) == 2


def test_a_filters_score_is_its_largest_output_over_places():
    rows = noise(4, 3, 5, 5)
    assert filter_scores(rows).tolist() == rows.numpy().max(axis=(2, 3)).tolist()
    assert filter_scores(rows[:, :, 0, 0]).tolist() == rows[:, :, 0, 0].tolist()


@pytest.mark.parametrize("distance", [1.0, 2.0])
def test_a_planted_detector_is_found_and_its_area_is_known(distance):
    labels = torch.arange(1000) % 5
    held = torch.stack([labels < 2, labels == 4], dim=1)
    scores = noise(1000, 30)
    scores[:, 7] += distance * held[:, 0]
    found = best_filter_auc(scores, held, deal_folds(labels, 5))
    assert found[0].item() == pytest.approx(NormalDist().cdf(distance / np.sqrt(2)), abs=0.04)
    assert best_filters(auc(scores, held))[0] == 7


def test_the_best_of_many_filters_is_at_chance_for_noise_as_the_naive_maximum_is_not():
    labels = torch.arange(100) % 5
    held, folds = (labels < 2)[:, None], deal_folds(labels, 5)
    naive, honest = [], []
    for seed in range(100):
        scores = noise(100, 200, seed=seed)
        naive.append(auc(scores, held).max().item())
        honest.append(best_filter_auc(scores, held, folds).item())
    assert np.mean(naive) > 0.65
    assert np.mean(honest) == pytest.approx(0.5, abs=4 * np.std(honest) / 10)


def test_a_whole_layer_tells_what_no_filter_does_and_noise_at_chance():
    labels = torch.arange(200) % 5
    held, folds = (labels < 2)[:, None], deal_folds(labels, 5)
    rows = noise(200, 60)
    spread = rows + 0.35 * (held.double() - 0.4) * torch.sign(noise(60, seed=1))
    assert linear_auc(layer_geometry(spread), held, folds) > 0.85
    assert best_filter_auc(spread, held, folds) < 0.7
    nothing = [linear_auc(layer_geometry(noise(200, 60, seed=s)), held, folds).item() for s in range(40)]
    assert np.mean(nothing) == pytest.approx(0.5, abs=4 * np.std(nothing) / np.sqrt(40))


def coded(codes: torch.Tensor, seed: int) -> torch.Tensor:
    """A random pattern for each column of what stimuli have, and noise."""
    return codes.double() @ noise(codes.shape[1], 200, seed=seed) + 0.5 * noise(len(codes), 200, seed=seed + 1000)


def test_a_code_of_parts_transfers_to_new_tokens_and_one_of_tokens_does_not(bank, features):
    folds, parts = deal_folds(bank.labels, 5), features.of_kind("part").held
    tokens = torch.nn.functional.one_hot(bank.labels)
    transfers: dict[str, list[torch.Tensor]] = {"parts": [], "tokens": []}
    for seed in range(20):
        for name, codes in (("parts", parts), ("tokens", tokens)):
            geometry = layer_geometry(coded(codes, seed))
            # Who has seen all tokens reads every part off either.
            assert linear_auc(geometry, parts, folds).min() > 0.95
            transfers[name].append(transfer_auc(geometry, parts, bank.labels, parts))
    assert torch.stack(transfers["parts"]).mean(dim=0).min() > 0.9
    chance = torch.stack(transfers["tokens"]).mean()
    assert chance.item() == pytest.approx(0.5, abs=0.06)


def test_what_only_the_token_held_out_has_cannot_transfer(bank, features):
    found = transfer_auc(
        layer_geometry(noise(len(bank), 50)), features.held, bank.labels, features.of_kind("part").held
    )
    alone = ["/" not in tokens for tokens in features.tokens]
    assert found.isnan().tolist() == alone
    two = torch.tensor([[True], [False]] * 4)
    assert transfer_auc(layer_geometry(noise(8, 5)), two, torch.arange(8) % 2, two).isnan()


def test_pairs_of_many_tokens_are_chosen_evenly_and_give_the_same(monkeypatch):
    labels = torch.arange(120) % 12
    held = torch.stack([labels % 2 == 0, labels < 6], dim=1)
    geometry = layer_geometry(coded(held, 0))
    some = transfer_auc(geometry, held, labels, held)
    monkeypatch.setattr("lightning_emerge.measures.parts.PAIRS", 1000)
    torch.testing.assert_close(some, transfer_auc(geometry, held, labels, held), atol=0.05, rtol=0)


def test_a_layer_that_answers_all_stimuli_alike_is_nan(bank, features):
    geometry = layer_geometry(torch.zeros(len(bank), 5))
    assert linear_auc(geometry, features.held, deal_folds(bank.labels, 5)).isnan().all()
    assert transfer_auc(geometry, features.held, bank.labels, features.of_kind("part").held).isnan().all()
    # A filter that is silent tells nothing.
    assert (auc(torch.zeros(len(bank), 1), features.held) == 0.5).all()
