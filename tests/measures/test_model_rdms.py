"""Model RDMs against counting and SciPy; and planted geometry, which has to have the right winner."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist, squareform
from scipy.stats import binomtest

import lightning_emerge as le
from lightning_emerge.data.grammar.tokens import DEFAULT_GRAMMAR
from lightning_emerge.measures.compare import pearson, spearman
from lightning_emerge.measures.latents import parts_held
from lightning_emerge.measures.model_rdms import conjunctions_model, distance_model, model_rdms, parts_model
from lightning_emerge.measures.rdm import correlation_rdm

EACH = 6


@pytest.fixture(scope="module")
def bank() -> le.StimulusBank:
    data = le.TokenDataModule(image_size=16, val_exemplars=4, test_exemplars=4, bank_exemplars=EACH, seed=3)
    data.setup("fit")
    return data.stimulus_bank()


@pytest.fixture(scope="module")
def models(bank) -> dict[str, torch.Tensor]:
    return model_rdms(bank)


def conjunctions(parts: set[str]) -> set[tuple[str, ...]]:
    return {found for size in range(2, len(parts) + 1) for found in combinations(sorted(parts), size)}


@pytest.mark.parametrize(("name", "pieces"), [("parts", set), ("conjunctions", conjunctions)])
def test_parts_and_conjunctions_are_those_that_the_grammar_counts(models, name, pieces):
    held = [pieces({str(part) for part in token.parts}) for token in DEFAULT_GRAMMAR.tokens]
    for a, b in combinations(range(5), 2):
        expected = 1 - len(held[a] & held[b]) / len(held[a] | held[b])
        block = models[name][a * EACH : (a + 1) * EACH, b * EACH : (b + 1) * EACH]
        assert block.unique().tolist() == pytest.approx([expected])
        assert (models[name][a * EACH : (a + 1) * EACH, a * EACH : (a + 1) * EACH] == 0).all()


def test_pose_colour_and_pixels_are_scipys_distances_of_latents_and_images(bank, models):
    table = bank.latents
    pose = table[["x", "y", "scale", "rotation"]].to_numpy(float)
    np.testing.assert_allclose(models["pose"], squareform(pdist(pose, "seuclidean", V=pose.var(axis=0))), atol=1e-6)
    parts = [table[[f"part{k}_{colour}" for k in range(4)]].mean(axis=1) for colour in ("red", "green", "blue")]
    colours = np.column_stack([table[["ground_red", "ground_green", "ground_blue"]], *parts])
    expected = squareform(pdist(colours, "seuclidean", V=colours.var(axis=0)))
    np.testing.assert_allclose(models["colour"], expected, atol=1e-6)
    pixels = squareform(pdist(bank.images.flatten(1).double().numpy(), "correlation"))
    np.testing.assert_allclose(models["pixels"], pixels, atol=1e-5)


def test_a_bank_without_latents_has_tokens_and_pixels():
    bank = le.StimulusBank(torch.rand(6, 3, 4, 4), torch.arange(6) % 2, tuple("abcdef"), ("p", "q"))
    assert list(model_rdms(bank)) == ["token", "pixels"]


def test_tokens_with_fewer_parts_have_nothing_beyond_their_last():
    data = le.TokenDataModule(image_size=16, val_exemplars=4, test_exemplars=4, bank_exemplars=2)
    table = data.latents("bank", "dax", range(2))
    table["part3_appearance"] = None
    _, held = parts_held(table)
    assert held.shape == (2, 3)
    assert held.all()


def test_single_parts_have_no_conjunctions_and_a_factor_that_does_not_vary_no_distance():
    assert (conjunctions_model(torch.eye(3, dtype=torch.bool)) == 0).all()
    assert (parts_model(torch.eye(3, dtype=torch.bool)) == 1 - torch.eye(3)).all()
    columns = torch.stack([torch.arange(4.0), torch.full((4,), 3.3)], dim=1).double()
    torch.testing.assert_close(distance_model(columns), distance_model(columns[:, :1]))


def planted(kind: str, bank: le.StimulusBank, noise: float, seed: int) -> torch.Tensor:
    """Responses that hold tokens, or parts, alone: a random pattern for each, and noise of a size."""
    random = np.random.default_rng(seed)
    codes = torch.eye(5)[bank.labels] if kind == "token" else parts_held(bank.latents)[1].float()
    patterns = torch.from_numpy(random.normal(size=(codes.shape[1], 300))).float()
    return (codes - codes.mean(dim=0)) @ patterns + noise * torch.from_numpy(random.normal(size=(30, 300))).float()


@pytest.mark.parametrize("comparison", [pearson, spearman])
@pytest.mark.parametrize("kind", ["token", "parts"])
@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0])
def test_what_was_planted_wins_wherever_a_sign_test_can_tell(comparison, kind, noise, bank, models):
    rivals = [name for name in models if name != kind]
    stack, fits = torch.stack(list(models.values())), []
    truth, other = models[kind], models["parts" if kind == "token" else "token"]
    told = []
    for seed in range(40):
        rdm = correlation_rdm(planted(kind, bank, noise, seed))
        fits.append(dict(zip(models, comparison(rdm[None], stack)[0].tolist(), strict=True)))
        # The sign test knows both candidates: does the one that was planted leave the smaller error?
        upper = torch.triu_indices(30, 30, 1)
        errors = [residual(rdm[*upper].numpy(), model[*upper].numpy()) for model in (truth, other)]
        told.append(errors[0] < errors[1])
    if binomtest(sum(told), len(told), alternative="greater").pvalue > 0.01:
        return
    mean = {name: np.mean([fit[name] for fit in fits]) for name in models}
    assert max(mean, key=mean.__getitem__) == kind, (noise, mean)
    wins = [fit[kind] > max(fit[name] for name in rivals) for fit in fits]
    assert np.mean(wins) > (0.5 if noise < 8 else 2 / len(models))  # of which chance has 1 / len(models)


def residual(distances: np.ndarray, model: np.ndarray) -> float:
    return float(np.polyfit(model, distances, 1, full=True)[1].sum())


def test_the_planted_levels_run_from_clear_to_hopeless(bank, models):
    """Or else the test above would say nothing."""

    def told(noise: float) -> float:
        upper = torch.triu_indices(30, 30, 1)
        draws = [correlation_rdm(planted("parts", bank, noise, seed))[*upper].numpy() for seed in range(40)]
        truth, other = (models[name][*upper].numpy() for name in ("parts", "token"))
        return float(np.mean([residual(draw, truth) < residual(draw, other) for draw in draws]))

    assert told(0.5) == 1
    assert told(16.0) < 0.8
