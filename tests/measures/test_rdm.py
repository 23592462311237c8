"""RDMs against rsatoolbox, SciPy, scikit-learn, closed forms, planted clusters and a null."""

from __future__ import annotations

import numpy as np
import pytest
import rsatoolbox
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform
from sklearn.covariance import ledoit_wolf

from lightning_emerge.measures.geometry import deal_folds, layer_geometry, token_weights
from lightning_emerge.measures.rdm import (
    correlation_rdm,
    cosine_rdm,
    crossnobis_rdm,
    euclidean_rdm,
    mahalanobis_rdm,
    token_distances,
)

PROPERTY = settings(max_examples=25, deadline=None, derandomize=True, database=None)
SEED = st.integers(0, 2**32 - 1)
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-9}


def draw(seed: int, stimuli: int, features: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(stimuli, features))).to(dtype)


def scipy_rdm(features: torch.Tensor) -> np.ndarray:
    return squareform(pdist(features.double().numpy(), "correlation"))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("offset", [0.0, 1e4])
@pytest.mark.parametrize(("stimuli", "features"), [(2, 2), (2, 300), (25, 40), (60, 7)])
def test_it_is_scipys_correlation_distance(stimuli, features, offset, dtype):
    rows = draw(stimuli, stimuli, features, dtype) + offset
    rdm = correlation_rdm(rows)
    assert rdm.dtype == dtype
    np.testing.assert_allclose(rdm, scipy_rdm(rows), rtol=0, atol=TOLERANCE[dtype])


def test_phases_of_a_wave_have_the_distance_of_their_cosine():
    phase = torch.tensor([0.0, torch.pi / 6, torch.pi / 2, torch.pi, 2.0], dtype=torch.float64)
    time = 2 * torch.pi * torch.arange(32, dtype=torch.float64) / 32
    rdm = correlation_rdm(torch.sin(time[None, :] + phase[:, None]))
    torch.testing.assert_close(rdm, 1 - torch.cos(phase[:, None] - phase[None, :]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_duplicates_lie_at_zero_and_mirror_images_at_two(dtype):
    rows = draw(3, 4, 30, dtype)
    rdm = correlation_rdm(torch.cat([rows, rows, -rows]))
    tolerance = TOLERANCE[dtype]
    torch.testing.assert_close(rdm[:4, 4:8].diagonal(), torch.zeros(4, dtype=dtype), rtol=0, atol=tolerance)
    torch.testing.assert_close(rdm[:4, 8:].diagonal(), torch.full((4,), 2, dtype=dtype), rtol=0, atol=tolerance)
    assert rdm.max() <= 2


@pytest.mark.parametrize("level", [0.0, 1.0, -3.7, 1e6, 1e-30, 0.1])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_a_stimulus_without_a_pattern_has_no_distance_at_all(level, dtype):
    rows = draw(4, 5, 37, dtype)
    rows[2] = level
    expected = scipy_rdm(rows)
    expected[2] = expected[:, 2] = np.nan
    np.testing.assert_allclose(correlation_rdm(rows), expected, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_rounding_is_no_pattern(dtype):
    rows = draw(4, 5, 37, dtype)
    rows[2] = 0.1
    rows[2, ::3] = torch.nextafter(rows[2, 0], torch.tensor(1, dtype=dtype))
    assert correlation_rdm(rows)[2].isnan().all()


def test_one_feature_is_no_pattern():
    assert correlation_rdm(draw(5, 4, 1)).isnan().all()


def test_a_dead_layer_has_no_distances():
    assert correlation_rdm(torch.zeros(3, 8)).isnan().all()


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e30])
def test_very_small_and_very_large_responses_keep_their_distances(scale):
    rows = draw(6, 6, 20, torch.float32)
    torch.testing.assert_close(correlation_rdm(rows * scale), correlation_rdm(rows), rtol=0, atol=1e-5)


def test_it_is_symmetric_to_the_last_bit_which_scipys_squareform_asks_for():
    rdms = {size: correlation_rdm(draw(7, size, 33, torch.float32)) for size in range(2, 40)}
    assert [size for size, rdm in rdms.items() if not torch.equal(rdm, rdm.T)] == []


@given(seed=SEED, stimuli=st.integers(2, 12), features=st.integers(2, 30))
@PROPERTY
def test_distances_lie_between_zero_and_two_and_are_zero_to_oneself(seed, stimuli, features):
    rdm = correlation_rdm(draw(seed, stimuli, features, torch.float32))
    assert (rdm.diagonal() == 0).all()
    assert ((rdm >= 0) & (rdm <= 2)).all()


@given(seed=SEED)
@PROPERTY
def test_permuted_stimuli_permute_the_matrix(seed):
    rows = draw(seed, 7, 9)
    order = torch.from_numpy(np.random.default_rng(seed).permutation(7))
    torch.testing.assert_close(correlation_rdm(rows[order]), correlation_rdm(rows)[order][:, order])


@given(seed=SEED, scale=st.floats(0.01, 100), shift=st.floats(-100, 100))
@PROPERTY
def test_gain_and_offset_of_a_stimulus_do_not_count_and_its_sign_mirrors(seed, scale, shift):
    rows = draw(seed, 5, 12)
    changed = rows.clone()
    changed[0] = changed[0] * scale + shift
    changed[1] = -changed[1] * scale
    expected = correlation_rdm(rows)
    expected[1] = 2 - expected[1]
    expected[:, 1] = 2 - expected[:, 1]
    expected[1, 1] = 0
    torch.testing.assert_close(correlation_rdm(changed), expected, rtol=0, atol=1e-9)


def test_token_distances_are_means_over_pairs():
    values = np.random.default_rng(0).uniform(0, 2, (9, 9))
    rdm = (values + values.T) / 2
    rdm[4] = rdm[:, 4] = np.nan
    labels = [0, 2, 1, 0, 0, 1, 1, 2, 0]
    pairs = [(i, j) for i in range(9) for j in range(i) if 4 not in (i, j)]
    within, between = token_distances(torch.from_numpy(rdm), torch.tensor(labels))
    assert within.item() == pytest.approx(np.mean([rdm[i, j] for i, j in pairs if labels[i] == labels[j]]))
    assert between.item() == pytest.approx(np.mean([rdm[i, j] for i, j in pairs if labels[i] != labels[j]]))


@pytest.mark.parametrize(("labels", "missing"), [([0, 0, 0], "between"), ([0, 1, 2], "within")])
def test_without_such_a_pair_there_is_no_mean(labels, missing):
    means = token_distances(correlation_rdm(draw(8, 3, 10)), torch.tensor(labels))
    found = dict(zip(("within", "between"), means, strict=True))
    assert found.pop(missing).isnan()
    assert next(iter(found.values())).isfinite()


def test_planted_clusters_are_nearer_within_and_a_null_is_not():
    labels = torch.arange(60) % 5
    noise, centres = draw(9, 60, 200), draw(10, 5, 200)
    within, between = token_distances(correlation_rdm(centres[labels] + noise), labels)
    # Signal and noise have equal variance: half of the pattern is shared within a token.
    assert within.item() == pytest.approx(0.5, abs=0.03)
    assert between.item() == pytest.approx(1, abs=0.08)
    within, between = token_distances(correlation_rdm(noise), labels)
    assert (within / between).item() == pytest.approx(1, abs=0.02)


def datasets(dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Responses of 12 stimuli of three tokens, in the cases that bite."""
    random, repeated = draw(20, 12, 40, dtype), draw(21, 12, 30, dtype)
    repeated[1::2] = repeated[::2]
    constant = draw(22, 12, 25, dtype)
    constant[:, ::3] = 5
    offset = (draw(23, 12, 30, dtype) + 10) * 3
    return {
        "random": random,
        "duplicates": repeated,
        "constant features": constant,
        "offset": offset,
        "one channel": draw(24, 12, 1, dtype) + 2,
        "two stimuli": draw(25, 2, 30, dtype),
    }


CASES = [(case, dtype) for case in datasets(torch.float64) for dtype in TOLERANCE]
LABELS = torch.arange(12) % 3


def of_toolbox(features: torch.Tensor, method: str, labels=None, **settings) -> np.ndarray:
    rows = features.double().numpy()
    names = {"token": np.arange(len(rows)) if labels is None else np.asarray(labels)}
    folds = settings.pop("folds", None)
    if folds is not None:
        names["fold"], settings["cv_descriptor"] = np.asarray(folds), "fold"
    data = rsatoolbox.data.Dataset(rows, obs_descriptors=names)
    with np.errstate(invalid="ignore"):  # the toolbox counts in an array that begins as NaN
        return rsatoolbox.rdm.calc_rdm(data, method, descriptor="token", **settings).get_matrices()[0]


def precision_of(features: torch.Tensor, labels: torch.Tensor) -> np.ndarray:
    data = rsatoolbox.data.Dataset(features.double().numpy(), obs_descriptors={"token": labels.numpy()})
    with np.errstate(invalid="ignore"):
        return rsatoolbox.data.noise.prec_from_unbalanced(data, "token", method="shrinkage_eye")


def assert_close(found: torch.Tensor, expected: np.ndarray, dtype: torch.dtype) -> None:
    """As near as the type allows, next to the largest distance if that is above 1."""
    largest = max(1, np.nanmax(np.abs(expected), initial=0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE[dtype] * largest)


@pytest.mark.parametrize(("case", "dtype"), CASES)
def test_squared_euclidean_distances_are_the_toolboxs_and_scipys(case, dtype):
    rows = datasets(dtype)[case]
    found = euclidean_rdm(layer_geometry(rows))
    assert_close(found, of_toolbox(rows, "euclidean"), dtype)
    assert_close(found, squareform(pdist(rows.double().numpy(), "sqeuclidean")) / rows.shape[1], dtype)


@pytest.mark.parametrize(("case", "dtype"), CASES)
def test_correlation_distances_are_the_toolboxs(case, dtype):
    rows = datasets(dtype)[case]
    if case == "one channel":  # no pattern: the toolbox divides by zero
        assert correlation_rdm(rows).isnan().all()
        return
    assert_close(correlation_rdm(rows), of_toolbox(rows, "correlation"), dtype)


@pytest.mark.parametrize(("case", "dtype"), CASES)
def test_cosine_distances_are_scipys(case, dtype):
    rows = datasets(dtype)[case]
    assert_close(cosine_rdm(layer_geometry(rows)), squareform(pdist(rows.double().numpy(), "cosine")), dtype)


def test_a_silent_stimulus_has_no_direction_and_an_even_one_has():
    rows = draw(26, 4, 9)
    rows[0], rows[1] = 0, 3
    found = cosine_rdm(layer_geometry(rows))
    assert found[0].isnan().all()
    np.testing.assert_allclose(found[1:, 1:], squareform(pdist(rows[1:].numpy(), "cosine")), atol=1e-12)


@pytest.mark.parametrize("method", ["euclidean", "correlation"])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_distances_between_tokens_are_the_toolboxs(method, dtype):
    rows = datasets(dtype)["offset"]
    tokens = layer_geometry(rows).average(token_weights(LABELS, 3))
    found = euclidean_rdm(tokens) if method == "euclidean" else tokens.correlation
    assert_close(found, of_toolbox(rows, method, LABELS), dtype)


@pytest.mark.parametrize(("case", "dtype"), [(case, dtype) for case, dtype in CASES if case != "two stimuli"])
def test_mahalanobis_distances_are_those_of_the_toolboxs_shrunk_precision(case, dtype):
    rows = datasets(dtype)[case]
    if case == "one channel":  # the toolbox's shrinkage divides by zero: the variance about the tokens' means is known
        means = torch.stack([rows[k == LABELS].mean(dim=0) for k in range(3)])
        precision = (9 / (rows - means[LABELS]).double().square().sum()).reshape(1, 1).numpy()
    else:
        precision = precision_of(rows, LABELS)
    geometry = layer_geometry(rows)
    assert_close(mahalanobis_rdm(geometry, LABELS), of_toolbox(rows, "mahalanobis", noise=precision), dtype)
    found = mahalanobis_rdm(geometry, LABELS, by_token=True)
    assert_close(found, of_toolbox(rows, "mahalanobis", LABELS, noise=precision), dtype)


@pytest.mark.parametrize(("case", "dtype"), [(case, dtype) for case, dtype in CASES if case[0] in "rco"])
@pytest.mark.parametrize("folds", [2, 4])
def test_crossnobis_distances_are_the_toolboxs(case, folds, dtype):
    if case == "one channel":
        return
    rows = datasets(dtype)[case]
    dealt = deal_folds(LABELS, folds)
    expected = of_toolbox(rows, "crossnobis", LABELS, noise=precision_of(rows, LABELS), folds=dealt)
    assert_close(crossnobis_rdm(layer_geometry(rows), LABELS, dealt), expected, dtype)


def test_the_noise_is_shrunk_as_scikit_learn_shrinks_it_in_more_features_than_stimuli():
    rows = draw(27, 30, 80) * torch.linspace(0.1, 3, 80)
    labels = torch.arange(30) % 3
    means = torch.stack([rows[labels == k].mean(dim=0) for k in range(3)])
    covariance, _ = ledoit_wolf((rows - means[labels]).numpy(), assume_centered=True)
    precision = np.linalg.inv(covariance * 30 / 27)
    expected = squareform(pdist(rows.numpy(), "mahalanobis", VI=precision)) ** 2 / 80
    np.testing.assert_allclose(mahalanobis_rdm(layer_geometry(rows), labels), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("rows", "labels"),
    [(draw(28, 3, 9), [0, 1, 2]), (draw(28, 2, 9), [0, 0]), (torch.ones(4, 9), [0, 0, 1, 1])],
    ids=["one exemplar each", "two of one token", "dead layer"],
)
def test_without_noise_to_measure_by_there_is_no_distance(rows, labels):
    labels = torch.tensor(labels)
    assert mahalanobis_rdm(layer_geometry(rows), labels).isnan().all()
    assert crossnobis_rdm(layer_geometry(rows), labels, deal_folds(labels, 2)).isnan().all()


def test_crossnobis_is_zero_on_average_where_tokens_are_alike_and_mahalanobis_is_not():
    labels, crossed, plain = torch.arange(40) % 2, [], []
    for seed in range(60):
        geometry = layer_geometry(draw(100 + seed, 40, 50))
        crossed.append(crossnobis_rdm(geometry, labels, deal_folds(labels, 4))[0, 1].item())
        plain.append(mahalanobis_rdm(geometry, labels, by_token=True)[0, 1].item())
    assert abs(np.mean(crossed)) < 3 * np.std(crossed) / np.sqrt(60)
    assert np.mean(plain) > 20 * np.std(plain) / np.sqrt(60)


FEWER = settings(PROPERTY, max_examples=8)
METRICS = {
    "correlation": lambda geometry, _: geometry.correlation,
    "cosine": lambda geometry, _: cosine_rdm(geometry),
    "euclidean": lambda geometry, _: euclidean_rdm(geometry),
    "mahalanobis": mahalanobis_rdm,
}


@pytest.mark.parametrize("metric", METRICS)
@given(seed=SEED)
@FEWER
def test_the_order_of_stimuli_is_that_of_the_matrix(metric, seed):
    rows, order = draw(seed, 12, 9), torch.from_numpy(np.random.default_rng(seed).permutation(12))
    found = METRICS[metric](layer_geometry(rows[order]), LABELS[order])
    torch.testing.assert_close(found, METRICS[metric](layer_geometry(rows), LABELS)[order][:, order])


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "mahalanobis", "crossnobis"])
@given(seed=SEED)
@FEWER
def test_a_rotation_of_the_features_does_not_count(metric, seed):
    measure = METRICS.get(metric, lambda geometry, labels: crossnobis_rdm(geometry, labels, deal_folds(labels, 2)))
    rows = draw(seed, 12, 9)
    turn, _ = torch.linalg.qr(draw(seed + 1, 9, 9))
    torch.testing.assert_close(measure(layer_geometry(rows @ turn), LABELS), measure(layer_geometry(rows), LABELS))


@pytest.mark.parametrize(("metric", "power"), [("correlation", 0), ("cosine", 0), ("euclidean", 2), ("mahalanobis", 0)])
@given(seed=SEED, scale=st.floats(0.001, 1000))
@FEWER
def test_the_scale_of_a_layer_counts_as_squared_or_not_at_all(metric, power, seed, scale):
    rows = draw(seed, 12, 9)
    expected = METRICS[metric](layer_geometry(rows), LABELS) * scale**power
    torch.testing.assert_close(METRICS[metric](layer_geometry(rows * scale), LABELS), expected)


@pytest.mark.parametrize("metric", ["euclidean", "mahalanobis"])
@given(seed=SEED)
@FEWER
def test_what_is_added_to_all_stimuli_does_not_count(metric, seed):
    rows = draw(seed, 12, 9)
    found = METRICS[metric](layer_geometry(rows + draw(seed + 1, 1, 9)), LABELS)
    torch.testing.assert_close(found, METRICS[metric](layer_geometry(rows), LABELS))
