from math import acos, pi, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.stats import kurtosis, skew

from lightning_emerge.data.grammar.shapes import SHAPES
from lightning_emerge.data.rendering import raster
from lightning_emerge.data.rendering.compiled import random_bits
from lightning_emerge.data.rendering.raster import signed_distance

PROPERTY = settings(max_examples=40, deadline=None, derandomize=True, database=None)
COORDINATE = st.floats(-2, 2, width=32)
INSIDE = dict.fromkeys(SHAPES, (0.0, 0.0)) | {"ring": (0.65, 0.0), "arc": (0.0, -0.65)}
WORD = 2**64


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


def at(name: str, x, y) -> np.ndarray:
    return np.vectorize(signed_distance)(SHAPES.index(name), x, y)


class TestSignedDistance:
    @pytest.mark.parametrize("name", SHAPES)
    def test_negative_inside_and_positive_far_out(self, name):
        assert at(name, *INSIDE[name]) < 0
        assert (at(name, [-1.5, -1.5, 1.5, 1.5], [-1.5, 1.5, -1.5, 1.5]) > 0).all()

    @pytest.mark.parametrize("name", SHAPES)
    def test_nothing_sticks_out_of_the_circle_that_is_painted(self, name):
        turn = np.linspace(0, 2 * pi, 720)
        assert (at(name, 1.05 * np.cos(turn), 1.05 * np.sin(turn)) > 0).all()

    @pytest.mark.parametrize("name", ["ring", "arc"])
    def test_a_hole_is_outside(self, name):
        assert at(name, 0.0, 0.0) > 0

    @pytest.mark.parametrize("name", ["triangle", "wedge", "arc"])
    def test_the_upper_half_is_the_one_that_is_there(self, name):
        assert at(name, 0.0, -0.8) < 0 < at(name, 0.0, 0.8)

    @pytest.mark.parametrize("name", SHAPES)
    def test_the_area_inside_is_the_shape_s_area(self, name):
        axis = np.linspace(-1.1, 1.1, 501)
        inside = at(name, axis[None, :], axis[:, None]) < 0
        assert inside.mean() * (axis[-1] - axis[0] + axis[1] - axis[0]) ** 2 == pytest.approx(AREAS[name], rel=0.01)

    @given(x=COORDINATE, y=COORDINATE)
    @PROPERTY
    def test_a_disk_s_distance_is_to_its_circle(self, x, y):
        assert at("disk", x, y) == pytest.approx(abs(complex(x, y)) - 0.85, abs=1e-12)

    @pytest.mark.parametrize(("name", "half_width", "half_height"), [("square", 0.72, 0.72), ("bar", 1.0, 0.3)])
    @given(x=COORDINATE, y=COORDINATE)
    @PROPERTY
    def test_a_box_s_distance_is_to_the_nearest_point_of_its_outline(self, name, half_width, half_height, x, y):
        along = np.linspace(-1, 1, 2001)
        outline = np.concatenate(
            [np.stack([np.full(2001, side * half_width), along * half_height], 1) for side in (-1, 1)]
            + [np.stack([along * half_width, np.full(2001, side * half_height)], 1) for side in (-1, 1)]
        )
        distance = np.sqrt(((outline - (x, y)) ** 2).sum(1)).min()
        inside = abs(x) < half_width and abs(y) < half_height
        assert at(name, x, y) == pytest.approx(-distance if inside else distance, abs=2e-3)

    @pytest.mark.parametrize("name", SHAPES)
    @given(x=COORDINATE, y=COORDINATE, dx=st.floats(-0.5, 0.5), dy=st.floats(-0.5, 0.5))
    @PROPERTY
    def test_a_distance_never_changes_faster_than_the_point_moves(self, name, x, y, dx, dy):
        moved = abs(at(name, x + dx, y + dy) - at(name, x, y))
        assert moved <= sqrt(dx * dx + dy * dy) + 1e-12


def split_mix(seed: int, count: int) -> list[int]:
    """SplitMix64 with whole numbers of Python: a state that goes on by the golden ratio, and its scrambled values."""
    values, state = [], seed
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) % WORD
        z = state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % WORD
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % WORD
        values.append(z ^ (z >> 31))
    return values


def bits(seed: int, count: int) -> list[int]:
    return [int(random_bits(np.uint64(seed), np.uint64(position))) for position in range(count)]


class TestRandomBits:
    def test_they_are_the_published_ones(self):
        published = [
            6457827717110365317,
            3203168211198807973,
            9817491932198370423,
            4593380528125082431,
            16408922859458223821,
        ]
        assert bits(1234567, 5) == split_mix(1234567, 5) == published

    @given(seed=st.integers(0, WORD - 1))
    @PROPERTY
    def test_they_are_those_of_the_sequence_for_any_seed(self, seed):
        assert bits(seed, 6) == split_mix(seed, 6)


CROSS = (0.4, 0.55, 0.3, 20.0, 0.9, 0.7, 0.2)  # x, y, radius, angle and a colour


def paint(size: int = 32, seeds=((1, 2),), cross: bool = False, **whole) -> np.ndarray:
    """Paints a ground, grey unless told otherwise, and a cross if asked; float (exemplar, channel, y, x), 0 to 255."""
    wholes = np.zeros((len(seeds), raster.WHOLE_COLUMNS))
    wholes[:, raster.GROUND : raster.GROUND + 3] = 0.5
    for name, value in whole.items():
        wholes[:, getattr(raster, name)] = value
    kinds = np.full((len(seeds), 1), raster.CROSS if cross else raster.NONE)
    pieces = np.tile(np.array(CROSS) if cross else np.nan, (len(seeds), 1, 1 if cross else raster.PIECE_COLUMNS))
    images = np.empty((len(seeds), 3, size, size), np.uint8)
    raster.paint(wholes, np.array(seeds, np.uint64), kinds, pieces, images)
    return images.astype(float)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return abs(np.corrcoef(one.ravel(), other.ravel())[0, 1])


class TestNoise:
    NOISE = paint(64, [(0, seed) for seed in range(8)], NOISE=0.1) - 127.5

    def test_without_noise_a_ground_is_plain_and_rounded_to_the_nearest_level(self):
        assert (paint(GROUND=100.4 / 255)[:, 0] == 100).all()
        assert (paint(GROUND=100.6 / 255)[:, 0] == 101).all()

    def test_it_is_normal_about_zero_with_its_deviation(self):
        assert abs(self.NOISE.mean()) < 4 * 25.5 / sqrt(self.NOISE.size)
        assert self.NOISE.std() == pytest.approx(25.5, rel=0.01)
        assert abs(skew(self.NOISE.ravel())) < 0.05
        assert abs(kurtosis(self.NOISE.ravel())) < 0.05
        assert np.abs(self.NOISE).max() > 3.5 * 25.5

    @pytest.mark.parametrize("shift", [1, 2, 3, 4, 5, 64, 4096])
    def test_values_one_after_the_other_are_independent(self, shift):
        rows = self.NOISE.reshape(8, -1)
        assert correlation(rows[:, :-shift], rows[:, shift:]) < 4 / sqrt(rows[:, shift:].size)

    def test_channels_and_exemplars_are_independent(self):
        for one in range(3):
            for other in range(one):
                assert correlation(self.NOISE[:, one], self.NOISE[:, other]) < 4 / sqrt(8 * 64**2)
        for one in range(8):
            for other in range(one):
                assert correlation(self.NOISE[one], self.NOISE[other]) < 4.5 / sqrt(3 * 64**2)

    def test_it_depends_on_its_own_seed_alone(self):
        ground, noise = {"CONTRAST": 0.2}, {"NOISE": 0.1}
        assert np.array_equal(paint(seeds=[(1, 5)], **noise), paint(seeds=[(2, 5)], **noise))
        assert not np.array_equal(paint(seeds=[(1, 5)], **noise), paint(seeds=[(1, 6)], **noise))
        assert np.array_equal(paint(seeds=[(1, 5)], **ground), paint(seeds=[(1, 6)], **ground))
        assert not np.array_equal(paint(seeds=[(1, 5)], **ground), paint(seeds=[(2, 5)], **ground))

    @pytest.mark.parametrize("size", [8, 9, 11])
    def test_a_number_of_values_that_is_no_multiple_of_four_is_filled_to_the_end(self, size):
        images = paint(size, [(0, seed) for seed in range(300)], NOISE=0.1)
        assert images[:, 2, -1, -4:].std(axis=0).min() > 20

    def test_it_is_cut_at_black_and_white(self):
        for ground, end in ((0.0, 0), (1.0, 255)):
            images = paint(GROUND=ground, NOISE=0.1)[:, 0]
            assert 0.4 < (images == end).mean() < 0.6
            assert np.abs(images - end).max() < 4 * 25.5


class TestGround:
    @pytest.mark.parametrize("size", [8, 37, 64])
    def test_it_is_four_octaves_of_interpolated_random_grids_each_half_as_strong_as_the_one_before(self, size):
        random, place = iter(split_mix(99, 9 + 25 + 81 + 289)), (np.arange(size) + 0.5) / size
        expected = np.full((size, size), 0.5)
        for cells, amplitude in ((2, 0.2), (4, 0.1), (8, 0.05), (16, 0.025)):
            # The highest 24 bits, as -1 to 1.
            grid = np.array([(next(random) >> 40) / 2**23 - 1 for _ in range((cells + 1) ** 2)]).reshape(cells + 1, -1)
            expected += amplitude * map_coordinates(
                grid, np.meshgrid(place * cells, place * cells, indexing="ij"), order=1
            )
        found = paint(size, [(99, 0)], CONTRAST=0.2)[0]
        np.testing.assert_allclose(found, np.broadcast_to(255 * expected, found.shape), atol=0.51)
        assert found.std() > 5


class TestBlur:
    @pytest.mark.parametrize(("size", "deviation"), [(32, 0.5), (32, 1.0), (48, 2.4), (16, 0.8), (9, 4.0)])
    def test_it_is_scipy_s_gaussian_that_goes_on_beyond_the_edge(self, size, deviation):
        look = {"CONTRAST": 0.1, "LIGHT_X": 0.05, "LIGHT_Y": -0.03}
        sharp = paint(size, [(5, 6)], cross=True, **look)[0]
        expected = gaussian_filter(sharp, (0, deviation, deviation), mode="nearest", radius=int(np.ceil(3 * deviation)))
        found = paint(size, [(5, 6)], cross=True, BLUR=deviation / size, **look)[0]
        np.testing.assert_allclose(found, expected, atol=1.1)
        assert np.abs(found - sharp).max() > 10

    def test_no_blur_and_one_too_small_to_see_leave_the_bytes(self):
        sharp = paint(cross=True)
        assert np.array_equal(paint(cross=True, BLUR=0.0), sharp)
        assert np.array_equal(paint(cross=True, BLUR=0.09 / 32), sharp)
        assert not np.array_equal(paint(cross=True, BLUR=0.3 / 32), sharp)

    def test_noise_is_not_blurred(self):
        np.testing.assert_array_equal(paint(NOISE=0.1, BLUR=0.05), paint(NOISE=0.1))


class TestLight:
    def test_it_changes_from_minus_its_share_to_plus_along_each_axis(self):
        size = 64
        edge = 1 - 1 / size  # the middle of the last pixel
        image = paint(size, LIGHT_X=0.2, LIGHT_Y=-0.1)[0, 1]
        for (y, x), light in {(0, 0): -0.1, (0, -1): 0.3, (-1, 0): -0.3, (-1, -1): 0.1}.items():
            assert image[y, x] / 255 == pytest.approx(0.5 + edge * light, abs=0.003)
        along_x, along_y = np.diff(image, axis=1), np.diff(image, axis=0)
        np.testing.assert_allclose(along_x, 255 * 0.4 / size, atol=1.01)
        np.testing.assert_allclose(along_y, -255 * 0.2 / size, atol=1.01)
