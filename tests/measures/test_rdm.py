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
    in_order,
    mahalanobis_rdm,
    mean_distances,
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
def test_mahalanobis_distances_of_tokens_are_those_of_the_toolboxs_shrunk_precision(case, dtype):
    rows = datasets(dtype)[case]
    if case == "one channel":  # the toolbox's shrinkage divides by zero: the variance about the tokens' means is known
        precision = (9 / residuals(rows.double(), LABELS).square().sum()).reshape(1, 1).numpy()
    else:
        precision = precision_of(rows, LABELS)
    found = mahalanobis_rdm(layer_geometry(rows), LABELS, by_token=True)
    assert_close(found, of_toolbox(rows, "mahalanobis", LABELS, noise=precision), dtype)


def residuals(rows: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return torch.cat([rows[labels == k] - rows[labels == k].mean(dim=0) for k in labels.unique()])


def shrunk(rows: torch.Tensor, labels: torch.Tensor) -> tuple[np.ndarray, float]:
    """The noise covariance that scikit-learn shrinks, and how far it does so."""
    noise = residuals(rows.double(), labels).numpy()
    covariance, share = ledoit_wolf(noise, assume_centered=True)
    return covariance * len(noise) / (len(noise) - len(labels.unique())), share


UNEQUAL = [LABELS, torch.tensor([0, 0, 1, 1, 1, 1, 2, 3, 3, 3, 3, 3]), torch.tensor([0] * 3 + [1] * 9), 0 * LABELS]


@pytest.mark.parametrize("labels", UNEQUAL, ids=["equal", "unequal", "two tokens", "one token"])
@pytest.mark.parametrize("features", [3, 40])
def test_mahalanobis_distances_of_stimuli_are_by_the_noise_of_all_others(features, labels):
    rows = draw(29, 12, features) * torch.linspace(0.2, 2, features)
    covariance, share = shrunk(rows, labels)
    common = share * np.trace(covariance) / features * np.eye(features)
    freedom = 10 - len(labels.unique())
    expected = np.zeros((12, 12))
    for i, j in zip(*np.triu_indices(12, 1), strict=True):
        others = [k for k in range(12) if k not in (i, j)]
        noise = residuals(rows[others], labels[others]).numpy()
        apart = (rows[i] - rows[j]).numpy()
        whole = common + (1 - share) * noise.T @ noise / freedom
        expected[i, j] = expected[j, i] = apart @ np.linalg.solve(whole, apart) / features
    few = labels.bincount()[labels].numpy() < 3  # both left out, they would lose fewer degrees of freedom than others
    expected[few] = expected[:, few] = np.nan
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(mahalanobis_rdm(layer_geometry(rows), labels), expected, rtol=1e-9)


@pytest.mark.parametrize("features", [20, 300])
def test_pure_noise_has_mahalanobis_distances_that_do_not_know_tokens(features):
    labels, ratios = torch.arange(60) // 20, []
    for seed in range(40):
        rows = draw(300 + seed, 60, features) * torch.logspace(0, -1, features)
        within, between = token_distances(mahalanobis_rdm(layer_geometry(rows), labels), labels)
        ratios.append((within / between).item())
    assert abs(z_of(np.array(ratios) - 1)) < 3
    assert np.mean(ratios) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("folds", [2, 3])
@pytest.mark.parametrize("labels", [LABELS, torch.tensor([0] * 3 + [2] * 9)], ids=["equal", "unequal"])
@pytest.mark.parametrize("features", [3, 40])
def test_crossnobis_distances_are_fold_by_fold_by_the_noise_of_the_others(features, labels, folds):
    rows = draw(30, 12, features) * torch.linspace(0.2, 2, features)
    dealt, expected = deal_folds(labels, folds), np.full((3, 3), np.nan)
    for a in labels.unique().tolist():
        for b in labels.unique().tolist():
            found = []
            for fold in range(folds):
                here, there = (
                    rows[inside & (labels == a)].mean(dim=0) - rows[inside & (labels == b)].mean(dim=0)
                    for inside in (dealt == fold, dealt != fold)
                )
                noise, _ = shrunk(rows[dealt != fold], labels[dealt != fold])
                found.append(here.numpy() @ np.linalg.solve(noise, there.numpy()) / features)
            expected[a, b] = np.mean(found)
    np.testing.assert_allclose(crossnobis_rdm(layer_geometry(rows), labels, dealt), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_crossnobis_distances_of_spherical_noise_are_the_toolboxs_without_whitening(dtype):
    """In features alike the noise is shrunk to one variance, and its covariance to a multiple of the identity."""
    rows = torch.cat([torch.eye(6), -torch.eye(6)]).repeat(4, 1).to(dtype) + draw(34, 1, 6, dtype)
    labels, dealt = torch.arange(48) // 12 % 2, torch.arange(48) // 24
    rows = rows + labels[:, None] * draw(35, 1, 6, dtype)
    expected = of_toolbox(rows, "crossnobis", labels, noise=np.eye(6) * (24 - 2) / 4, folds=dealt)
    assert_close(crossnobis_rdm(layer_geometry(rows), labels, dealt), expected, dtype)


def test_the_noise_is_shrunk_as_scikit_learn_shrinks_it_in_more_features_than_stimuli():
    rows = draw(27, 30, 80) * torch.linspace(0.1, 3, 80)
    labels = torch.arange(30) % 3
    means = np.stack([rows[labels == k].mean(dim=0).numpy() for k in range(3)])
    precision = np.linalg.inv(shrunk(rows, labels)[0])
    expected = squareform(pdist(means, "mahalanobis", VI=precision)) ** 2 / 80
    found = mahalanobis_rdm(layer_geometry(rows), labels, by_token=True)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("rows", "labels"),
    [(draw(28, 3, 9), [0, 1, 2]), (draw(28, 2, 9), [0, 0]), (torch.ones(4, 9), [0, 0, 1, 1])],
    ids=["one exemplar each", "two of one token", "dead layer"],
)
def test_without_noise_to_measure_by_there_is_no_distance(rows, labels):
    labels = torch.tensor(labels)
    assert mahalanobis_rdm(layer_geometry(rows), labels).isnan().all()
    assert crossnobis_rdm(layer_geometry(rows), labels, deal_folds(labels, 2)).isnan().all()


def test_one_exemplar_of_each_token_beside_a_fold_leaves_no_noise_and_two_do():
    labels = torch.arange(12) % 3
    for count, known in ((6, False), (9, True)):
        rows, own = draw(31, count, 9), labels[:count]
        found = crossnobis_rdm(layer_geometry(rows), own, deal_folds(own, 5))
        assert found.isfinite().all() == known


def z_of(values) -> float:
    """How many standard errors the mean of draws lies from zero."""
    return float(np.mean(values) / (np.std(values, ddof=1) / np.sqrt(len(values))))


def mean_crossnobis(rows: torch.Tensor, labels: torch.Tensor, folds: int) -> float:
    found = crossnobis_rdm(layer_geometry(rows), labels, deal_folds(labels, folds))
    return found[tuple(torch.triu_indices(len(found), len(found), 1))].mean().item()


BALANCED = torch.arange(120) // 30
COUNTS = torch.arange(4).repeat_interleave(torch.tensor([60, 30, 20, 10]))


@pytest.mark.parametrize("labels", [BALANCED, COUNTS], ids=["equal", "unequal"])
@pytest.mark.parametrize("folds", [2, 5])
@pytest.mark.parametrize("features", [3, 50, 500])
def test_pure_noise_has_crossnobis_distances_of_zero_with_all_that_they_estimate_themselves(features, folds, labels):
    spread = torch.logspace(0, -1, features)
    draws = [draw(1000 + seed, 120, features) * spread for seed in range(40)]
    assert abs(z_of([mean_crossnobis(rows, labels, folds) for rows in draws])) < 3
    skewed = [rows.exp() for rows in draws]
    assert abs(z_of([mean_crossnobis(rows, labels, folds) for rows in skewed])) < 3


@pytest.mark.parametrize("folds", [2, 5])
def test_layers_of_an_untrained_network_have_crossnobis_distances_of_zero_between_shuffled_tokens(folds):
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(100, 3, 4, 4, generator=generator)
    network = torch.nn.Sequential(
        *(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool2d(2)),
        *(torch.nn.Conv2d(8, 16, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(1024, 5)),
    )
    rows = torch.nn.functional.interpolate(coarse, size=16, mode="bilinear")
    labels = torch.arange(100) // 20
    with torch.no_grad():
        for module in network:
            for parameter in module.parameters():
                bound = 1 / parameter[0].numel() ** 0.5
                parameter.uniform_(-bound, bound, generator=generator)
            rows = module(rows)
            if isinstance(module, torch.nn.ReLU | torch.nn.Linear):
                orders = [torch.randperm(100, generator=generator) for _ in range(40)]
                found = [mean_crossnobis(rows.flatten(1), labels[order], folds) for order in orders]
                assert abs(z_of(found)) < 3


@pytest.mark.parametrize("features", [4, 300])
def test_a_planted_difference_in_noise_of_one_variance_has_its_own_crossnobis_distance(features):
    apart = draw(32, 1, features)[0]
    true = apart.square().mean().item()
    rows = [draw(500 + seed, 120, features) + BALANCED[:, None] * apart for seed in range(40)]
    found = [crossnobis_rdm(layer_geometry(x), BALANCED, deal_folds(BALANCED, 5))[0, 1].item() for x in rows]
    # The inverse of an estimated variance is a little too large.
    assert abs(np.mean(found) - true) < 3 * np.std(found, ddof=1) / np.sqrt(40) + 0.01 * true


def test_a_crossnobis_distance_is_that_of_the_true_means_by_the_shrunk_noise():
    apart, scale, folds = 0.3 * draw(33, 1, 40)[0], torch.logspace(0, -1, 40), deal_folds(BALANCED, 2)
    errors = []
    for seed in range(40):
        rows = draw(600 + seed, 120, 40) * scale + BALANCED[:, None] * apart
        inverses = [np.linalg.inv(shrunk(rows[folds == k], BALANCED[folds == k])[0]) for k in range(2)]
        found = crossnobis_rdm(layer_geometry(rows), BALANCED, folds)[0, 1].item()
        errors.append(found - apart.numpy() @ np.mean(inverses, axis=0) @ apart.numpy() / 40)
    assert abs(z_of(errors)) < 3


def test_mahalanobis_distances_of_tokens_are_above_zero_for_noise_alone():
    plain = [mahalanobis_rdm(layer_geometry(draw(k, 40, 50)), torch.arange(40) % 2, by_token=True) for k in range(20)]
    assert z_of([rdm[0, 1].item() for rdm in plain]) > 20


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


def test_stimuli_are_put_in_order_and_neighbours_averaged_until_they_fit():
    rdms = torch.rand(2, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    order = [3, 1, 4, 0, 2]
    ordered = in_order(rdms, torch.tensor(order), 5)
    assert torch.equal(ordered, rdms[:, order][:, :, order])
    rdms[1, 3, 1] = torch.nan  # the first row's second
    rdms[1, 2, 2] = torch.nan  # alone in the last cell
    found = in_order(rdms, torch.tensor(order), 3)
    values = rdms.numpy()[:, order][:, :, order]
    for layer in range(2):
        for row in range(3):
            for column in range(3):
                block = values[layer, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                known = block[np.isfinite(block)]
                expected = known.mean() if known.size else np.nan
                np.testing.assert_allclose(found[layer, row, column], expected, rtol=1e-12)
    assert found[1, 2, 2].isnan()


def test_mean_distances_are_of_the_pairs_that_are_known():
    rdms = torch.tensor([[[9, 1, 3], [1, 9, torch.nan], [3, torch.nan, 9.0]]])
    silent = torch.full((1, 3, 3), torch.nan)
    equal = torch.zeros(1, 3, 3)
    np.testing.assert_allclose(mean_distances(torch.cat([rdms, silent, equal])), [2, np.nan, np.nan])
