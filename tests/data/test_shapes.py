from math import acos, pi, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_emerge.data.shapes import SHAPES

PROPERTY = settings(max_examples=40, deadline=None, derandomize=True, database=None)
COORDINATE = st.floats(-2, 2, width=32)
NAMES = sorted(SHAPES)

INSIDE = dict.fromkeys(SHAPES, (0.0, 0.0)) | {"ring": (0.65, 0.0), "arc": (0.0, -0.65)}


def segment(radius: float, height: float) -> float:
    """Area of a disk below the horizontal line y = height (y downwards: the part with larger y)."""
    return radius**2 * acos(height / radius) - height * sqrt(radius**2 - height**2)


AREAS = {
    "disk": pi * 0.85**2,
    "ring": pi * (0.87**2 - 0.43**2),
    "bar": 2.0 * 0.6,
    "square": 1.44**2,
    "cross": 2 * (1.9 * 0.54) - 0.54**2,
    "triangle": 3 * sqrt(3) / 4,
    "hexagon": 3 * sqrt(3) / 2,
    "wedge": pi * 0.95**2 - segment(0.95, 0.25),
    "arc": pi * (0.87**2 - 0.43**2) - (segment(0.87, 0.1) - segment(0.43, 0.1)),
}


def at(name: str, x: float, y: float) -> float:
    return float(SHAPES[name](np.array([x], np.float32), np.array([y], np.float32))[0])


@pytest.mark.parametrize("name", NAMES)
def test_negative_inside_and_positive_far_out(name):
    assert at(name, *INSIDE[name]) < 0
    for x in (-1.5, 1.5):
        for y in (-1.5, 1.5):
            assert at(name, x, y) > 0


@pytest.mark.parametrize("name", NAMES)
def test_nothing_sticks_out_of_the_radius_that_parts_are_spaced_by(name):
    turn = np.linspace(0, 2 * pi, 720, dtype=np.float32)
    assert (SHAPES[name](np.float32(1.05) * np.cos(turn), np.float32(1.05) * np.sin(turn)) > 0).all()


@pytest.mark.parametrize("name", ["ring", "arc"])
def test_a_hole_is_outside(name):
    assert at(name, 0, 0) > 0


@pytest.mark.parametrize("name", ["triangle", "wedge", "arc"])
def test_the_upper_half_is_the_one_that_is_there(name):
    assert at(name, 0, -0.8) < 0 < at(name, 0, 0.8)


@pytest.mark.parametrize("name", NAMES)
def test_the_area_inside_is_the_shape_s_area(name):
    axis = np.linspace(-1.1, 1.1, 1101, dtype=np.float32)
    inside = SHAPES[name](axis[None, :], axis[:, None]) < 0
    assert inside.mean() * (axis[-1] - axis[0]) ** 2 == pytest.approx(AREAS[name], rel=0.01)


@pytest.mark.parametrize(
    ("name", "turn"),
    [("disk", 1.0), ("ring", 2.0), ("square", 90), ("cross", 90), ("triangle", 120), ("hexagon", 60), ("bar", 180)],
)
def test_a_turn_that_the_shape_does_not_show_leaves_its_distances(name, turn):
    x, y = np.random.default_rng(1).uniform(-1.5, 1.5, (2, 200)).astype(np.float32)
    c, s = np.float32(np.cos(np.radians(turn))), np.float32(np.sin(np.radians(turn)))
    np.testing.assert_allclose(SHAPES[name](c * x - s * y, s * x + c * y), SHAPES[name](x, y), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "turn"), [("square", 45), ("cross", 45), ("triangle", 60), ("hexagon", 30), ("bar", 90)]
)
def test_a_turn_that_the_shape_shows_changes_its_distances(name, turn):
    x, y = np.random.default_rng(1).uniform(-1.5, 1.5, (2, 200)).astype(np.float32)
    c, s = np.float32(np.cos(np.radians(turn))), np.float32(np.sin(np.radians(turn)))
    assert np.abs(SHAPES[name](c * x - s * y, s * x + c * y) - SHAPES[name](x, y)).max() > 0.1


@given(x=COORDINATE, y=COORDINATE)
@PROPERTY
def test_a_disk_s_distance_is_to_its_circle(x, y):
    assert at("disk", x, y) == pytest.approx(sqrt(x * x + y * y) - 0.85, abs=1e-5)


@pytest.mark.parametrize(("name", "half_width", "half_height"), [("square", 0.72, 0.72), ("bar", 1.0, 0.3)])
@given(x=COORDINATE, y=COORDINATE)
@PROPERTY
def test_a_box_s_distance_is_to_the_nearest_point_of_its_outline(name, half_width, half_height, x, y):
    along = np.linspace(-1, 1, 2001)
    outline = np.concatenate(
        [np.stack([np.full(2001, side * half_width), along * half_height], 1) for side in (-1, 1)]
        + [np.stack([along * half_width, np.full(2001, side * half_height)], 1) for side in (-1, 1)]
    )
    distance = np.sqrt(((outline - (x, y)) ** 2).sum(1)).min()
    inside = abs(x) < half_width and abs(y) < half_height
    assert at(name, x, y) == pytest.approx(-distance if inside else distance, abs=2e-3)


@pytest.mark.parametrize("name", NAMES)
@given(x=COORDINATE, y=COORDINATE, dx=st.floats(-0.5, 0.5), dy=st.floats(-0.5, 0.5))
@PROPERTY
def test_a_distance_never_changes_faster_than_the_point_moves(name, x, y, dx, dy):
    moved = abs(at(name, x + dx, y + dy) - at(name, x, y))
    assert moved <= sqrt(dx * dx + dy * dy) + 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_a_point_has_the_same_bytes_alone_and_in_a_vector(name):
    x, y = np.random.default_rng(2).uniform(-1.5, 1.5, (2, 257)).astype(np.float32)
    together = SHAPES[name](x, y)
    alone = np.concatenate([SHAPES[name](x[k : k + 1], y[k : k + 1]) for k in range(len(x))])
    assert together.dtype == np.float32
    assert together.tobytes() == alone.tobytes()
