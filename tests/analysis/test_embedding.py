"""Aligned embeddings: they do not jump, they are to be trusted, and they come from records alone."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.manifold import trustworthiness

import lightning_emerge as le
from lightning_emerge.analysis.embedding import align_components, align_umap
from lightning_emerge.store.write import ArraySink

LABELS = np.arange(120) % 4


def learning(steps: int, settled: int, stimuli: int = 120) -> list[np.ndarray]:
    """Responses in which clusters form until a step, and that hardly change from then on."""
    random = np.random.default_rng(0)
    centres, own = random.normal(size=(4, 60)), random.normal(size=(stimuli, 60))
    grown = [min(1.0, step / settled) for step in range(steps)]
    noise = [0.03 * random.normal(size=(stimuli, 60)) for _ in grown]
    return [own * (1.2 - 0.6 * s) + 1.2 * s * centres[LABELS[:stimuli]] + n for s, n in zip(grown, noise, strict=True)]


def squared(rows: list[np.ndarray]) -> list[torch.Tensor]:
    return [torch.cdist(one, one) ** 2 for one in map(torch.from_numpy, rows)]


def test_what_umap_compiles_is_kept_on_disk():
    align_umap(squared(learning(1, 1)))
    from umap.layouts import _nb_optimize_layout_euclidean_single_epoch
    from umap.umap_ import compute_membership_strengths, smooth_knn_dist
    from umap.utils import fast_knn_indices

    slow = (fast_knn_indices, smooth_knn_dist, compute_membership_strengths, _nb_optimize_layout_euclidean_single_epoch)
    assert [function.py_func.__name__ for function in slow if not function.stats.cache_path] == []


@pytest.mark.slow
def test_points_settle_with_the_layer_and_are_trusted_as_much_as_umaps_own():
    rows = learning(14, 6)
    planes = align_umap(squared(rows))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from umap import UMAP

        for data, plane in list(zip(rows, planes, strict=True))[::6]:
            alone = UMAP(n_neighbors=15, random_state=0, n_jobs=1).fit_transform(data)
            assert plane.trust == pytest.approx(trustworthiness(data, plane.points, n_neighbors=15))
            assert plane.trust > trustworthiness(data, alone, n_neighbors=15) - 0.02
    moves = []
    for before, after in pairwise(planes[8:]):
        width = np.ptp(after.points, axis=0).max()
        moves.append(np.linalg.norm(after.points - before.points, axis=1).mean() / width)
    assert np.mean(moves) < 0.05


def test_the_same_distances_give_the_same_picture_and_no_global_number_is_drawn():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    one, other = (align_umap(squared(learning(2, 1))) for _ in range(2))
    np.testing.assert_array_equal(one[1].points, other[1].points)
    assert np.array_equal(np.random.get_state()[1], before)  # noqa: NPY002


def test_torch_keeps_its_number_of_threads():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        align_umap(squared(learning(1, 1, 20)))
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_a_dead_layer_has_no_picture_and_the_next_step_begins_anew():
    alive = squared(learning(1, 1, 20))[0]
    for align in (align_umap, align_components):
        dead, first = align([torch.zeros(20, 20), alive])
        assert np.isnan(dead.points).all()
        assert np.isnan(dead.trust)
        assert np.isfinite(first.points).all()


def test_components_are_mirrored_as_at_the_step_before():
    rows = learning(1, 1, 30)[0]
    first, second = align_components(squared([rows, rows]))
    np.testing.assert_allclose(first.points, second.points)
    assert first.share == pytest.approx(second.share)


def record(folder, stimuli: int = 20) -> None:
    ids = tuple(f"bank/{k}" for k in range(stimuli))
    bank = le.StimulusBank(torch.zeros(stimuli, 3, 4, 4), torch.from_numpy(LABELS[:stimuli]), ids, ("a", "b", "c", "d"))
    sink, probe = ArraySink(folder / "records.zarr", None), le.EmbeddingProbe()
    for step, rows in enumerate(learning(5, 3, stimuli)):
        capture = le.Capture(
            step, ("one", "two"), bank, activations={"one": torch.from_numpy(rows).float(), "two": torch.rand(20, 5)}
        )
        sink.write(step, list(probe.measure(capture)))
    sink.close()


def test_a_run_is_embedded_from_its_records_and_again_the_same(tmp_path):
    record(tmp_path)
    found = le.embed_run(tmp_path, looks=3)
    assert found.step.values.tolist() == [0, 2, 4]
    assert found.umap.dims == ("step", "layer", "stimulus", "plane")
    assert found.stimulus_token.values[:4].tolist() == ["a", "b", "c", "d"]
    for name in ("umap_trust", "pca_trust", "pca_share"):
        assert ((found[name] > 0) & (found[name] <= 1)).all()
    rows = learning(5, 3, 20)[4]
    expected = np.linalg.svd(rows - rows.mean(axis=0), compute_uv=False) ** 2
    assert found.pca_share.values[2, 0] == pytest.approx(expected[:2].sum() / expected.sum(), abs=1e-4)
    again = le.embed_run(tmp_path, looks=3)
    assert again.equals(found)
    assert le.open_run(tmp_path / "embedding").load().equals(found)


def test_a_run_without_distances_is_said_to_have_none(tmp_path):
    ArraySink(tmp_path / "records.zarr", None).close()
    with pytest.raises(ValueError, match="made from what an EmbeddingProbe records"):
        le.embed_run(tmp_path)
