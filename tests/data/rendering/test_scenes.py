from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from lightning_emerge.data.grammar.shapes import SHAPES
from lightning_emerge.data.grammar.tokens import DEFAULT_GRAMMAR, Part, Token
from lightning_emerge.data.names import SPLITS
from lightning_emerge.data.rendering import raster
from lightning_emerge.data.rendering.nuisances import Nuisances
from lightning_emerge.data.rendering.scenes import FRAME, Scenes, sample_scenes

PROPERTY = settings(max_examples=15, deadline=None, derandomize=True, database=None)
HARD = Nuisances("hard", clutter=8)
ARRAYS = [field.name for field in fields(Scenes) if field.name != "parts"]
MANY = 1500


def draw(token=0, label=0, indices=range(5), split="train", seed=0, nuisances=HARD) -> Scenes:
    token = DEFAULT_GRAMMAR.tokens[token] if isinstance(token, int) else token
    return sample_scenes(token, label, indices, split=split, seed=seed, nuisances=nuisances)


def assert_same(one: Scenes, other: Scenes) -> None:
    for name in ARRAYS:
        first, second = getattr(one, name), getattr(other, name)
        assert first.dtype == second.dtype, name
        np.testing.assert_array_equal(first, second, err_msg=name)
    assert one.parts == other.parts


def facts(scenes: Scenes) -> dict[str, np.ndarray]:
    """What was drawn, each by itself: places, sizes and angles as seen from the token's frame."""
    x, y, scale, rotation = scenes.frames.T
    half = (scale * FRAME)[:, None]

    def own(pieces):
        place = pieces[:, :, 0] + 1j * pieces[:, :, 1] - (x + 1j * y)[:, None]
        place *= np.exp(-1j * np.radians(rotation))[:, None] / half
        return place, pieces[:, :, raster.RADIUS] / half

    clutter, parts, patch = np.split(scenes.pieces, [scenes.clutter, scenes.clutter + scenes.parts], axis=1)
    place, radius = own(parts)
    patch_place, patch_radius = own(patch)
    return {
        "place": scenes.frames[:, :2],
        "scale": scale,
        "rotation": rotation,
        "light": scenes.wholes[:, :2],
        "ground": scenes.wholes[:, 2:5],
        "background": scenes.wholes[:, 5],
        "blur": scenes.wholes[:, 6],
        "noise": scenes.wholes[:, 7],
        "seeds": scenes.seeds,
        "part places": np.stack([place.real, place.imag], axis=2),
        "part radius": radius,
        "part poses": parts[:, :, raster.ANGLE] - rotation[:, None],
        "part colours": parts[:, :, raster.RED :],
        "clutter kinds": scenes.kinds[:, : scenes.clutter],
        "clutter places": clutter[:, :, :2],
        "clutter radius": clutter[:, :, raster.RADIUS] / half,
        "clutter angles": clutter[:, :, raster.ANGLE],
        "clutter colours": clutter[:, :, raster.RED :],
        "patch place": np.stack([patch_place.real, patch_place.imag], axis=2),
        "patch side": 1.44 * patch_radius,  # the frame's is 2
        "patch angle": patch[:, :, raster.ANGLE],
        "patch colour": patch[:, :, raster.RED :],
    }


def assert_even(values: np.ndarray, low: float, high: float) -> None:
    """Whether values are as often in one stretch of a range as in another."""
    assert low <= values.min()
    assert values.max() <= high
    assert kstest(values.ravel(), "uniform", (low, high - low)).pvalue > 1e-3


class TestSameNumbersSameScene:
    @given(order=st.lists(st.integers(0, 10**6), max_size=8))
    @PROPERTY
    def test_an_exemplar_shows_the_same_in_any_order(self, order):
        together = draw(indices=order)
        assert len(together) == len(order)
        for row, index in enumerate(order):
            assert_same(together[row : row + 1], draw(indices=[index]))

    def test_a_slice_shows_what_its_exemplars_show(self):
        assert_same(draw(indices=range(10))[3:7], draw(indices=range(3, 7)))
        assert_same(draw(indices=range(10))[::-4], draw(indices=[9, 5, 1]))

    def test_no_exemplars_show_nothing(self):
        none = draw(indices=[])
        assert len(none) == 0
        assert none.kinds.shape == (0, 8 + 4 + 1)
        assert_same(none, draw()[:0])

    def test_no_two_exemplars_of_any_split_token_or_seed_share_a_number(self):
        scenes = [
            draw(label=label, split=split, seed=seed, indices=range(60))
            for label in range(3)
            for split in SPLITS
            for seed in (0, 1, 2**32, 2**40)
        ]
        for numbers in (
            np.concatenate([one.frames[:, 0] for one in scenes]),
            np.concatenate([s.seeds for s in scenes]),
        ):
            assert len(np.unique(numbers)) == numbers.size

    def test_seeds_fill_the_range_that_a_table_can_hold(self):
        seeds = draw(indices=range(MANY)).seeds
        assert seeds.dtype == np.int64
        assert_even(seeds / 2**63, 0, 1)

    def test_a_token_s_parts_keep_their_order_before_the_clutter_and_behind_the_patch(self):
        token = Token("t", tuple(Part(shape, (0.1 * k, 0.0)) for k, shape in enumerate(SHAPES[::-1])))
        scenes = draw(token)
        assert scenes.parts == len(SHAPES)
        assert scenes.clutter == 8
        assert (scenes.kinds[:, 8:-1] == np.arange(len(SHAPES))[::-1]).all()
        assert (scenes.kinds[:, -1] == SHAPES.index("square")).all()


CHANGED = {
    "position": (0.3, {"place"}),
    "scale": ((0.4, 0.5), {"scale"}),
    "rotation": (3.0, {"rotation"}),
    "jitter": (0.02, {"part places"}),
    "colour": (0.3, {"ground", "part colours", "clutter colours", "patch colour"}),
    "light": (0.1, {"light"}),
    "background": (0.2, {"background"}),
    "occlusion": (0.4, {"patch place", "patch side"}),
    "blur": (0.002, {"blur"}),
    "noise": (0.2, {"noise"}),
}


class TestNuisancesAreIndependent:
    @pytest.mark.parametrize("name", CHANGED)
    def test_changing_one_leaves_what_is_drawn_for_the_others(self, name):
        value, expected = CHANGED[name]
        before, after = facts(draw()), facts(draw(nuisances=replace(HARD, **{name: value})))
        changed = {fact for fact in before if not np.allclose(before[fact], after[fact], atol=1e-9, equal_nan=True)}
        assert changed == expected

    @pytest.mark.parametrize("clutter", [0, 1, 3])
    def test_another_number_of_pieces_of_clutter_leaves_the_rest_and_the_pieces_that_are_there_in_both(self, clutter):
        before, after = facts(draw()), facts(draw(nuisances=replace(HARD, clutter=clutter)))
        both = (before["clutter kinds"][:, :clutter] >= 0) & (after["clutter kinds"] >= 0)
        assert both.any() == (clutter > 0)
        for fact in before:
            if fact.startswith("clutter"):
                np.testing.assert_array_equal(before[fact][:, :clutter][both], after[fact][both], err_msg=fact)
            else:
                np.testing.assert_array_equal(before[fact], after[fact], err_msg=fact)

    @pytest.mark.parametrize("name", CHANGED)
    def test_turning_one_off_leaves_what_is_drawn_for_the_others(self, name):
        off = (1.0, 1.0) if name == "scale" else 0
        before, after = facts(draw()), facts(draw(nuisances=replace(HARD, **{name: off})))
        gone = {"patch place", "patch side", "patch angle", "patch colour"} if name == "occlusion" else CHANGED[name][1]
        changed = {fact for fact in before if not np.allclose(before[fact], after[fact], atol=1e-9, equal_nan=True)}
        assert changed == gone


class TestRanges:
    """Each value is drawn evenly from the range that its nuisance sets."""

    NUISANCES = Nuisances(
        position=0.2,
        scale=(0.5, 0.9),
        rotation=30,
        jitter=0.25,
        colour=1,
        light=0.3,
        background=0.6,
        clutter=5,
        occlusion=0.3,
        blur=0.04,
        noise=0.07,
    )
    FACTS = facts(draw(indices=range(MANY), nuisances=NUISANCES))

    @pytest.mark.parametrize(
        ("fact", "low", "high"),
        [
            ("place", 0.3, 0.7),
            ("scale", 0.5, 0.9),
            ("rotation", -30, 30),
            ("light", -0.3, 0.3),
            ("ground", 0.05, 0.35),
            ("background", 0, 0.6),
            ("blur", 0, 0.04),
            ("part colours", 0.5, 1),
            ("patch angle", 0, 360),
            ("patch colour", 0.05, 1),
        ],
    )
    def test_a_value_is_drawn_evenly(self, fact, low, high):
        values = self.FACTS[fact].reshape(MANY, -1)
        for column in values.T:
            assert_even(column, low, high)
        if values.shape[1] > 1:  # each of its own
            assert np.abs(np.corrcoef(values.T) - np.eye(values.shape[1])).max() < 4.5 / np.sqrt(MANY)

    def test_the_noise_is_that_of_all_exemplars(self):
        assert (self.FACTS["noise"] == 0.07).all()

    def test_parts_lie_about_their_places_in_their_poses_and_have_one_size(self):
        for number, part in enumerate(DEFAULT_GRAMMAR.tokens[0].parts):
            for axis in range(2):
                shift = self.FACTS["part places"][:, number, axis] - part.place[axis]
                assert_even(shift, -0.25 - 1e-9, 0.25 + 1e-9)
            np.testing.assert_allclose(self.FACTS["part poses"][:, number], part.pose, atol=1e-9)
        np.testing.assert_allclose(self.FACTS["part radius"], 0.42)

    def test_each_number_of_pieces_of_clutter_up_to_the_largest_is_as_frequent(self):
        there = self.FACTS["clutter kinds"] >= 0
        counts = np.bincount(there.sum(axis=1))
        assert len(counts) == 6
        assert chisquare(counts).pvalue > 1e-3
        assert (np.diff(there.astype(int), axis=1) <= 0).all()  # no gaps

    def test_clutter_is_of_any_shape_anywhere_smaller_than_a_part_and_of_the_parts_colours(self):
        there = self.FACTS["clutter kinds"] >= 0
        kinds = np.bincount(self.FACTS["clutter kinds"][there])
        assert len(kinds) == len(SHAPES)
        assert chisquare(kinds).pvalue > 1e-3
        for axis in range(2):
            assert_even(self.FACTS["clutter places"][there][:, axis], 0, 1)
        assert_even(self.FACTS["clutter angles"][there], 0, 360)
        assert_even(self.FACTS["clutter radius"][there] / 0.42, 0.4, 0.8)
        for channel in range(3):
            assert_even(self.FACTS["clutter colours"][there][:, channel], 0.5, 1)

    def test_the_patch_s_share_of_the_frame_is_drawn_evenly_and_it_lies_in_the_frame(self):
        side = self.FACTS["patch side"][:, 0]
        assert_even((side / 2) ** 2, 0, 0.3)
        # Its middle is as far from the frame's edge as it would be if it were not turned.
        assert (np.abs(self.FACTS["patch place"][:, 0]) + side[:, None] / 2 <= 1 + 1e-9).all()
        assert np.abs(self.FACTS["patch place"]).max() > 0.7

    @pytest.mark.parametrize("colour", [0.0, 0.5])
    def test_colours_depart_from_grey_by_their_share(self, colour):
        found = facts(draw(indices=range(MANY), nuisances=replace(self.NUISANCES, colour=colour)))
        middles = {"ground": (0.2, 0.15), "part colours": (0.75, 0.25), "patch colour": (0.525, 0.475)}
        for fact, (middle, half) in middles.items():
            apart = np.abs(found[fact] - middle).reshape(MANY, -1).max(axis=0)
            np.testing.assert_allclose(apart, colour * half, rtol=0.01, atol=1e-12)
