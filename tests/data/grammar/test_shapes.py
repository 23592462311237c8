import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_emerge.data.grammar.shapes import ROUND, SHAPES, STRAIGHT, SYMMETRY, visible_pose
from lightning_emerge.data.rendering.raster import signed_distance

PROPERTY = settings(max_examples=60, deadline=None, derandomize=True, database=None)
POINTS = np.random.default_rng(1).uniform(-1.5, 1.5, 400) + 1j * np.random.default_rng(2).uniform(-1.5, 1.5, 400)
POSE = st.floats(-1000, 1000)


def distances(name: str, turn: float) -> np.ndarray:
    """Distances of some points to a shape that is turned clockwise: the points are turned back instead."""
    back = POINTS * np.exp(-1j * np.radians(turn))
    return np.vectorize(signed_distance)(SHAPES.index(name), back.real, back.imag)


def test_every_shape_is_round_or_straight_has_a_symmetry_and_is_there_once():
    assert sorted(SHAPES) == sorted({*ROUND, *STRAIGHT}) == sorted(SYMMETRY)
    assert len(SHAPES) == 9


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("times", [1, -1, 3])
def test_a_turn_by_its_symmetry_cannot_be_seen(name, times):
    turn = SYMMETRY[name] or 37.3
    np.testing.assert_allclose(distances(name, times * turn), distances(name, 0), atol=1e-12)


@pytest.mark.parametrize("name", [name for name in SHAPES if SYMMETRY[name]])
@pytest.mark.parametrize("share", [1 / 2, 1 / 3, 1 / 5])
def test_a_turn_by_a_part_of_its_symmetry_can_be_seen(name, share):
    assert np.abs(distances(name, share * SYMMETRY[name]) - distances(name, 0)).max() > 0.05


def test_no_two_shapes_look_the_same_in_any_pose_of_whole_degrees():
    for one, name in enumerate(SHAPES):
        for other in SHAPES[one + 1 :]:
            turns = range(0, int(SYMMETRY[other]) + 1, 15)
            assert min(np.abs(distances(name, 0) - distances(other, turn)).max() for turn in turns) > 0.05


@pytest.mark.parametrize("name", SHAPES)
@given(pose=POSE)
@PROPERTY
def test_the_visible_pose_looks_like_the_pose_and_is_the_smallest(name, pose):
    seen = visible_pose(name, pose)
    assert 0 <= seen < (SYMMETRY[name] or 1e-9)
    np.testing.assert_allclose(distances(name, seen), distances(name, pose), atol=1e-6)


@pytest.mark.parametrize("name", SHAPES)
@given(pose=POSE, times=st.integers(-5, 5))
@PROPERTY
def test_poses_that_look_the_same_have_one_visible_pose(name, pose, times):
    pose = round(pose, 3)
    assert visible_pose(name, pose + times * SYMMETRY[name]) == visible_pose(name, pose)


@pytest.mark.parametrize(
    ("name", "pose", "seen"),
    [("bar", -30, 150), ("bar", 240.3, 60.3), ("ring", 77, 0), ("arc", 360, 0), ("bar", -1e-20, 0)],
)
def test_visible_poses_by_hand(name, pose, seen):
    assert visible_pose(name, pose) == seen
