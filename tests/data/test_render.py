import hashlib
import subprocess
import sys
from dataclasses import fields
from math import nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lightning_emerge.data.render import SPLITS, Nuisances, render
from lightning_emerge.data.tokens import DEFAULT_GRAMMAR, Part, Token

STILL = {"position": 0.0, "scale": (1.0, 1.0), "rotation": 0.0, "jitter": 0.0}
CLEAN = {"light": 0.0, "background": 0.0, "noise": 0.0}
BLANK = Token("blank", ())
DISK = Token("disk", (Part("disk", (0.0, 0.0)),))


def draw(token=DEFAULT_GRAMMAR.tokens[0], label=0, indices=range(4), split="train", seed=0, size=24, **nuisances):
    return render(token, label, indices, split=split, seed=seed, size=size, nuisances=Nuisances(**nuisances))


def cover(images: np.ndarray) -> np.ndarray:
    """How much of each pixel is painted, on a plain ground with parts of one colour each: 0 to 1."""
    apart = np.abs(images.astype(float) - images[:, :, :1, :1]).sum(axis=1)
    return apart / apart.max(axis=(1, 2), keepdims=True)


def centroids(images: np.ndarray) -> np.ndarray:
    """(x, y) of what is painted, in pixels from the image's centre."""
    weight = cover(images)
    pixel = np.arange(images.shape[-1]) + 0.5 - images.shape[-1] / 2
    x, y = (weight * pixel).sum((1, 2)), (weight * pixel[:, None]).sum((1, 2))
    return np.stack([x, y], 1) / weight.sum((1, 2))[:, None]


def angles(images: np.ndarray) -> np.ndarray:
    """Direction of the long axis, in degrees clockwise from the x axis, -90 to 90."""
    weight, centre = cover(images), centroids(images)
    pixel = np.arange(images.shape[-1]) + 0.5 - images.shape[-1] / 2
    x, y = pixel[None, None] - centre[:, :1, None], pixel[None, :, None] - centre[:, 1:, None]
    xx, yy, xy = ((weight * product).sum((1, 2)) for product in (x * x, y * y, x * y))
    return np.degrees(np.arctan2(2 * xy, xx - yy) / 2)


class TestSameSeedSamePicture:
    def test_images_are_bytes(self):
        images = draw(indices=range(3), size=20)
        assert images.dtype == np.uint8
        assert images.shape == (3, 3, 20, 20)

    def test_an_exemplar_is_the_same_alone_and_in_a_batch(self):
        together = draw(indices=range(70))
        alone = np.concatenate([draw(indices=[index]) for index in range(70)])
        assert together.tobytes() == alone.tobytes()

    @given(order=st.lists(st.integers(0, 10_000), min_size=1, max_size=12))
    @settings(max_examples=15, deadline=None, derandomize=True, database=None)
    def test_an_exemplar_is_the_same_in_any_order(self, order):
        images = draw(indices=order, size=8)
        np.testing.assert_array_equal(images[::-1], draw(indices=order[::-1], size=8))

    def test_an_exemplar_is_the_same_in_a_fresh_process(self):
        code = (
            "import hashlib; from lightning_emerge.data.render import *; "
            "from lightning_emerge.data.tokens import DEFAULT_GRAMMAR as g; "
            "print(hashlib.sha256(render(g.tokens[3], 3, [5, 2], split='val', seed=11, size=32, "
            "nuisances=Nuisances()).tobytes()).hexdigest())"
        )
        printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        here = draw(DEFAULT_GRAMMAR.tokens[3], 3, [2, 3, 5], split="val", seed=11, size=32)[[2, 0]]
        assert printed.strip() == hashlib.sha256(here.tobytes()).hexdigest()

    @pytest.mark.parametrize(
        "other",
        [*({"split": split} for split in SPLITS[1:]), {"seed": 1}, {"label": 1}, {"indices": range(4, 8)}],
        ids=str,
    )
    def test_another_split_seed_label_or_index_is_another_picture(self, other):
        first, second = draw(BLANK, size=16), draw(BLANK, size=16, **other)
        assert (first != second).any(axis=(1, 2, 3)).all()

    def test_tokens_drawn_with_the_same_numbers_differ_where_their_parts_do(self):
        pictures = {draw(token, label=0, indices=[0]).tobytes() for token in DEFAULT_GRAMMAR.tokens}
        assert len(pictures) == 5


class TestNuisances:
    @pytest.mark.parametrize("name", ["position", "rotation", "jitter", "light", "background", "noise"])
    @pytest.mark.parametrize("value", [-0.01, 45.1, nan])
    def test_a_value_out_of_its_range_is_refused_by_name(self, name, value):
        with pytest.raises(ValueError, match=rf"nuisances\.{name} lies in 0 to .*; got {value}"):
            Nuisances(**{name: value})

    @pytest.mark.parametrize(
        ("name", "highest"),
        [("position", 0.5), ("rotation", 45), ("jitter", 0.5), ("light", 0.5), ("background", 1), ("noise", 0.5)],
    )
    def test_the_ends_of_a_range_are_allowed_and_no_more(self, name, highest):
        Nuisances(**{name: 0.0})
        Nuisances(**{name: highest})
        with pytest.raises(ValueError, match=f"0 to {highest:g}; got {highest + 0.01}"):
            Nuisances(**{name: highest + 0.01})

    @pytest.mark.parametrize("scale", [(0.29, 1.0), (1.0, 1.51), (1.1, 0.9), (nan, 1.0)])
    def test_a_scale_out_of_its_range_is_refused(self, scale):
        with pytest.raises(ValueError, match=r"nuisances\.scale is a smallest and a largest size in 0\.3 to 1\.5"):
            Nuisances(scale=scale)

    def test_every_nuisance_changes_the_picture(self):
        plain = draw(**STILL, **CLEAN)
        other = {**dict.fromkeys(("position", "jitter", "light", "background", "noise"), 0.1), "scale": (0.7, 0.7)}
        other["rotation"] = 20.0
        assert set(other) == {field.name for field in fields(Nuisances)}
        for name, value in other.items():
            changed = draw(**{**STILL, **CLEAN, name: value})
            assert (changed != plain).any(axis=(1, 2, 3)).all(), name


class TestWithoutNuisances:
    def test_only_colours_differ_between_exemplars(self):
        images = draw(indices=range(20), size=32, **STILL, **CLEAN)
        painted = (images != images[:, :, :1, :1]).any(axis=1)
        assert painted[0].any()
        assert (painted == painted[0]).all()
        assert len(np.unique(images[:, :, 0, 0], axis=0)) == 20

    def test_parts_are_brighter_than_the_ground_in_every_channel(self):
        images = draw(DISK, indices=range(50), size=16, **STILL, **CLEAN)
        assert (images[:, :, 8, 8] > images[:, :, 0, 0]).all()

    @pytest.mark.parametrize("place", [(0.0, 0.0), (0.5, -0.5), (-0.25, 0.75)])
    def test_a_part_lies_at_its_place_in_a_frame_of_two_thirds_of_the_image(self, place):
        token = Token("t", (Part("disk", place),))
        found = centroids(draw(token, size=96, **STILL, **CLEAN))
        np.testing.assert_allclose(found, np.tile(np.array(place) * 96 / 3, (4, 1)), atol=0.1)

    @pytest.mark.parametrize("pose", [0.0, 30.0, -60.0])
    def test_a_pose_turns_a_part_clockwise(self, pose):
        token = Token("t", (Part("bar", (0.0, 0.0), pose),))
        np.testing.assert_allclose(angles(draw(token, size=96, **STILL, **CLEAN)), pose, atol=0.5)

    def test_half_the_scale_is_a_quarter_of_the_area(self):
        large, small = (
            cover(draw(DISK, size=128, **{**STILL, "scale": (scale, scale)}, **CLEAN)).sum((1, 2))
            for scale in (1.2, 0.6)
        )
        np.testing.assert_allclose(large / small, 4, rtol=0.02)


class TestPlantedNuisances:
    """One nuisance at a time: it does what its description says, and reaches what it says at most."""

    def test_position_shifts_by_a_share_of_the_image_s_side(self):
        shift = centroids(draw(DISK, indices=range(150), size=64, **{**STILL, **CLEAN, "position": 0.2})) / 64
        assert np.abs(shift).max(axis=0).min() > 0.18
        assert np.abs(shift).max() < 0.202
        assert np.abs(shift.mean(axis=0)).max() < 4 * 0.2 / np.sqrt(3 * 150)

    def test_jitter_shifts_each_part_in_the_token_s_frame(self):
        shift = centroids(draw(DISK, indices=range(150), size=64, **{**STILL, **CLEAN, "jitter": 0.3})) / (64 / 3)
        assert np.abs(shift).max(axis=0).min() > 0.27
        assert np.abs(shift).max() < 0.304

    def test_rotation_turns_places_and_poses_together(self):
        token = Token("t", (Part("bar", (0.4, 0.4)),))
        images = draw(token, indices=range(150), size=96, **{**STILL, **CLEAN, "rotation": 40.0})
        turn, (x, y) = angles(images), centroids(images).T
        np.testing.assert_allclose(np.degrees(np.arctan2(y, x)), 45 + turn, atol=1.0)
        assert turn.min() < -36
        assert turn.max() > 36
        assert np.abs(turn).max() < 40.5

    def test_scale_lies_between_its_ends(self):
        images = draw(DISK, indices=range(150), size=96, **{**STILL, **CLEAN, "scale": (0.5, 1.0)})
        unit = cover(draw(DISK, size=96, **STILL, **CLEAN)).sum((1, 2)).mean()
        scale = np.sqrt(cover(images).sum((1, 2)) / unit)
        assert scale.min() == pytest.approx(0.5, abs=0.03)
        assert scale.max() == pytest.approx(1.0, abs=0.03)

    def test_noise_has_its_deviation_and_is_independent_between_channels(self):
        noisy, still = (draw(BLANK, indices=range(60), **{**STILL, **CLEAN, "noise": noise}) for noise in (0.03, 0.0))
        bright = still.min(axis=(1, 2, 3)) > 0.03 * 255 * 4
        noise = noisy[bright].astype(float) - still[bright]
        assert noise.shape[0] > 10
        assert noise.std() == pytest.approx(0.03 * 255, rel=0.03)
        assert abs(noise.mean()) < 0.2
        flat = noise.transpose(1, 0, 2, 3).reshape(3, -1)
        assert np.abs(np.corrcoef(flat) - np.eye(3)).max() < 0.05

    def test_light_is_a_plane_whose_edges_differ_by_at_most_its_share(self):
        lit, unlit = (draw(BLANK, indices=range(150), **{**STILL, **CLEAN, "light": light}) for light in (0.1, 0.0))
        bright = unlit.min(axis=(1, 2, 3)) > 0.2 * 255
        plane = (lit[bright].astype(float) - unlit[bright]).mean(axis=1) / 255
        across_x, across_y = plane.mean(axis=1), plane.mean(axis=2)
        for across in (across_x, across_y):
            np.testing.assert_allclose(np.diff(across, n=2, axis=1), 0, atol=2 / 255)
            np.testing.assert_allclose(across[:, 0], -across[:, -1], atol=2 / 255)
            assert np.abs(across).max() < 0.1
            assert np.abs(across).max() > 0.06

    def test_background_is_grey_grows_with_its_share_and_is_mostly_coarse(self):
        half, full, none = (
            draw(BLANK, indices=range(40), size=64, **{**STILL, **CLEAN, "background": share}).astype(float)
            for share in (0.05, 0.1, 0.0)
        )
        assert none.std(axis=(2, 3)).max() == 0
        bright = none.min(axis=(1, 2, 3)) > 0.2 * 255
        half, full = half[bright] - none[bright], full[bright] - none[bright]
        assert np.abs(full - full.mean(axis=1, keepdims=True)).max() < 1
        assert full.std() / half.std() == pytest.approx(2, rel=0.05)
        power = (np.abs(np.fft.rfft(full.mean(axis=1), axis=2)) ** 2).mean(axis=(0, 1))
        assert power[1:3].mean() > 4 * power[3:6].mean() > 16 * power[6:12].mean()


@pytest.fixture(scope="module")
def colours():
    """Mean colours of the images of two splits and their labels, at the default settings."""
    rows = {}
    for split, count in (("train", 300), ("test", 200)):
        images = [
            draw(token, label, range(count), split, size=48) for label, token in enumerate(DEFAULT_GRAMMAR.tokens)
        ]
        rows[split] = np.concatenate(images).mean(axis=(2, 3)), np.repeat(np.arange(5), count)
    return rows


class TestColoursDoNotTell:
    def accuracy(self, colours, tell: float) -> float:
        tint = np.outer(np.arange(5) == 2, [tell, 0, 0])
        (x, y), (test_x, test_y) = colours["train"], colours["test"]
        model = make_pipeline(StandardScaler(), LogisticRegression()).fit(x + tint[y], y)
        return model.score(test_x + tint[test_y], test_y)

    def test_the_mean_colour_is_at_chance(self, colours):
        assert self.accuracy(colours, tell=0.0) < 0.25

    def test_a_planted_tint_of_one_token_would_be_found(self, colours):
        assert self.accuracy(colours, tell=60.0) > 0.3
