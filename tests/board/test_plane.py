"""Points from distances: against distances of planted points, and against all eigenvectors."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_emerge.board.plane import Scaling, lay_out, lay_over


def _squared(points):
    return ((points[:, None] - points) ** 2).sum(-1)


@pytest.mark.parametrize("count", [3, 20, 120])
def test_points_of_a_plane_keep_their_distances(count):
    points = np.random.default_rng(0).normal(size=(count, 2))
    found = Scaling()(_squared(points))
    np.testing.assert_allclose(_squared(found), _squared(points), atol=1e-9)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-9)


def test_looks_after_each_other_are_those_of_all_eigenvectors():
    random = np.random.default_rng(1)
    one, other = random.normal(size=(2, 150, 12)) * np.linspace(3, 0.5, 12)
    scaling = Scaling()
    for share in np.linspace(0, 1, 30):  # from one arrangement to another that has nothing to do with it
        squared = _squared((1 - share) * one + share * other[:, ::-1])
        centring = np.eye(150) - 1 / 150
        lengths, directions = np.linalg.eigh(-0.5 * centring @ squared @ centring)
        expected = directions[:, :-3:-1] * np.sqrt(lengths[:-3:-1])
        found = lay_over(scaling(squared), expected)
        assert np.linalg.norm(found - expected) / np.linalg.norm(expected) < 0.02


def test_a_jump_to_axes_that_were_not_there_before_is_followed():
    random = np.random.default_rng(2)
    first, second = np.zeros((2, 100, 20))
    first[:, :8] = random.normal(size=(100, 8)) * 5
    second[:, 12:14] = random.normal(size=(100, 2))
    found = lay_out([_squared(first), _squared(second)], 100)
    np.testing.assert_allclose(_squared(found[1]), _squared(second), atol=1e-6)


def test_a_look_is_laid_over_the_one_before():
    points = np.random.default_rng(3).normal(size=(40, 2)) * [2, 1]
    points -= points.mean(axis=0)
    turned = points @ np.array([[0.0, -1.0], [1.0, 0.0]]) * [1, -1]
    found = lay_out([_squared(points), _squared(turned), _squared(points * 1.5)], 40)
    np.testing.assert_allclose(found[1], found[0], atol=1e-9)
    np.testing.assert_allclose(found[2], found[0] * 1.5, atol=1e-9)  # growth is not undone


def test_a_stimulus_without_distances_is_left_out_and_comes_back():
    points = np.random.default_rng(4).normal(size=(10, 2))
    points[:9] -= points[:9].mean(axis=0)
    silent = _squared(points)
    silent[9] = silent[:, 9] = np.nan
    found = lay_out([_squared(points), silent, _squared(points)], 10)
    assert np.isnan(found[1, 9]).all()
    assert np.isfinite(np.delete(found, 9, axis=1)).all()
    np.testing.assert_allclose(found[2], found[0], atol=1e-9)


def test_nothing_to_lay_out_is_nan():
    assert np.isnan(lay_out([np.full((6, 6), np.nan)], 6)).all()
    np.testing.assert_array_equal(lay_out([np.zeros((6, 6))], 6), np.zeros((1, 6, 2)))
    assert lay_out([], 4).shape == (0, 4, 2)


def test_no_global_random_number_is_drawn():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    Scaling()(_squared(np.random.default_rng(0).normal(size=(60, 3))))
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
