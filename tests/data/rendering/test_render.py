import hashlib
import sys
from dataclasses import replace
from inspect import signature

import numpy as np
import pytest
import torch
from children import run_group
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lightning_emerge.data.grammar.shapes import SHAPES
from lightning_emerge.data.grammar.tokens import DEFAULT_GRAMMAR, Grammar, Part, Token
from lightning_emerge.data.names import SPLITS
from lightning_emerge.data.rendering import raster
from lightning_emerge.data.rendering.nuisances import LIMITS, Nuisances
from lightning_emerge.data.rendering.raster import signed_distance
from lightning_emerge.data.rendering.render import paint, part_masks, render
from lightning_emerge.data.rendering.scenes import Scenes, sample_scenes

PROPERTY = settings(max_examples=25, deadline=None, derandomize=True, database=None)
STILL = {"position": 0.0, "scale": (1.0, 1.0), "rotation": 0.0, "jitter": 0.0}
CLEAN = {"light": 0.0, "background": 0.0, "clutter": 0, "occlusion": 0.0, "blur": 0.0, "noise": 0.0}
BLANK = Token("blank", ())
DISK = Token("disk", (Part("disk", (0.0, 0.0)),))


def one_token(token, label, indices, **how):
    numbers = np.asarray(list(indices), np.int64)
    return render([token] * (label + 1), np.full(len(numbers), label), numbers, **how)


def draw(token=DEFAULT_GRAMMAR.tokens[0], label=0, indices=range(4), split="train", seed=0, size=24, **nuisances):
    return one_token(token, label, indices, split=split, seed=seed, size=size, nuisances=Nuisances(**nuisances))


def scenes(indices=range(4), token=DEFAULT_GRAMMAR.tokens[0], preset="hard", seed=0, **nuisances) -> Scenes:
    return sample_scenes(token, 0, indices, split="train", seed=seed, nuisances=Nuisances(preset, **nuisances))


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
            "import hashlib; from lightning_emerge.data.rendering.render import *; "
            "from lightning_emerge.data.rendering.nuisances import Nuisances; "
            "from lightning_emerge.data.grammar.tokens import DEFAULT_GRAMMAR as g; "
            "print(hashlib.sha256(render(g.tokens, np.array([3, 3]), np.array([5, 2]), split='val', seed=11, size=32, "
            "nuisances=Nuisances()).tobytes()).hexdigest())"
        )
        printed = run_group([sys.executable, "-c", code], check=True).stdout
        here = draw(DEFAULT_GRAMMAR.tokens[3], 3, [2, 3, 5], split="val", seed=11, size=32)[[2, 0]]
        assert printed.strip() == hashlib.sha256(here.tobytes()).hexdigest()

    def test_an_exemplar_is_the_same_with_one_thread_and_with_several(self, monkeypatch):
        several = {}
        for threads in (1, 3):
            monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
            several[threads] = draw(indices=range(200), size=8), part_masks(scenes(range(200)), 8)
        for one, three in zip(several[1], several[3], strict=True):
            assert one.tobytes() == three.tobytes()

    def test_tokens_can_be_mixed(self):
        labels, indices = np.array([2, 0, 2, 4, 0]), np.array([7, 7, 1, 0, 3])
        how = {"split": "val", "seed": 3, "size": 12, "nuisances": Nuisances("hard")}
        mixed = render(DEFAULT_GRAMMAR.tokens, labels, indices, **how)
        for image, label, index in zip(mixed, labels, indices, strict=True):
            np.testing.assert_array_equal(image, one_token(DEFAULT_GRAMMAR.tokens[label], label, [index], **how)[0])

    def test_rendering_is_drawing_a_scene_and_painting_it(self):
        token = DEFAULT_GRAMMAR.tokens[2]
        how = {"split": "val", "seed": 4, "nuisances": Nuisances("hard")}
        shown = sample_scenes(token, 2, range(150), **how)
        np.testing.assert_array_equal(paint(shown, 12), one_token(token, 2, range(150), size=12, **how))
        np.testing.assert_array_equal(paint(shown[70:72], 12), one_token(token, 2, [70, 71], size=12, **how))

    def test_a_mask_is_the_same_alone_and_in_a_batch(self):
        alone = np.concatenate([part_masks(scenes([index]), 8) for index in range(150)])
        assert part_masks(scenes(range(150)), 8).tobytes() == alone.tobytes()

    def test_no_exemplars_are_no_images(self):
        assert draw(indices=[], size=8).shape == (0, 3, 8, 8)
        assert paint(scenes([]), 8).shape == (0, 3, 8, 8)
        assert part_masks(scenes([]), 8).shape == (0, 4, 8, 8)

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


def test_every_nuisance_changes_the_picture():
    still = {**STILL, **CLEAN, "colour": 0.0}
    other = dict.fromkeys(LIMITS, 0.1) | {"scale": (0.7, 0.7), "rotation": 20.0, "clutter": 8, "blur": 0.04}
    assert {*other, "preset"} == set(signature(Nuisances).parameters)
    plain = draw(indices=range(30), **still)
    for name, value in other.items():
        changed = draw(indices=range(30), **{**still, name: value})
        # Not every exemplar has clutter, not all of it can be seen, and a little blur cannot.
        assert (changed != plain).any(axis=(1, 2, 3)).mean() >= (0.6 if name in ("clutter", "blur") else 1), name


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

    def test_without_colour_all_channels_are_equal_and_with_it_they_are_not(self):
        grey, full = (
            draw(indices=range(20), **{**STILL, **CLEAN, "clutter": 3, "occlusion": 0.2, "colour": share}).astype(int)
            for share in (0.0, 1.0)
        )
        assert (grey == grey[:, :1]).all()
        assert (np.ptp(full, axis=1).max(axis=(1, 2)) > 20).all()

    def test_blur_is_a_gaussian_of_at_most_its_share_of_the_side(self):
        size, share = 48, 0.05
        sharp, soft = (draw(indices=range(30), size=size, **{**STILL, **CLEAN, "blur": blur}) for blur in (0.0, share))
        deviations = np.linspace(0, share * size, 97)
        found = []
        for before, after in zip(sharp, soft, strict=True):
            blurred = [gaussian_filter(before.astype(float), (0, d, d), mode="nearest", truncate=3) for d in deviations]
            apart = [np.abs(after - one).max() for one in blurred]
            assert min(apart) < 3
            found.append(deviations[np.argmin(apart)] / (share * size))
        assert np.mean(found) == pytest.approx(0.5, abs=4 / np.sqrt(12 * 30))
        assert min(found) < 0.15
        assert max(found) > 0.85


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

    def test_the_colours_of_all_the_parts_the_ground_and_the_patch_are_at_chance(self):
        rows = {}
        for split in ("train", "test"):
            shown = [
                sample_scenes(token, label, range(300), split=split, seed=0, nuisances=Nuisances(occlusion=0.1))
                for label, token in enumerate(DEFAULT_GRAMMAR.tokens)
            ]
            own = [np.hstack([one.wholes[:, 2:5], one.pieces[:, 1:, raster.RED :].reshape(300, -1)]) for one in shown]
            rows[split] = np.concatenate(own), np.repeat(np.arange(5), 300)
        assert rows["train"][0].shape == (1500, 3 + 5 * 3)
        model = make_pipeline(StandardScaler(), LogisticRegression()).fit(*rows["train"])
        assert model.score(*rows["test"]) < 0.25


@st.composite
def sampled(draw) -> Scenes:
    """Some exemplars of a token of a drawn grammar, with nuisances up to their limits."""
    arity = draw(st.integers(3, 7))
    counts = draw(st.integers(4, 10)), draw(st.integers(2, min(9, 2 * arity - 2))), arity, 2
    try:
        grammar = Grammar.sample(*counts, seed=draw(st.integers(0, 99)))
    except ValueError:  # some numbers do not go together
        assume(False)
    limits = {
        name: st.floats(limit.lowest, limit.highest).map(lambda value: round(value, 4))
        for name, limit in LIMITS.items()
    }
    limits |= {"clutter": st.integers(0, 8), "scale": st.tuples(limits["scale"], limits["scale"]).map(sorted)}
    label = draw(st.integers(0, len(grammar.tokens) - 1))
    nuisances = Nuisances(**draw(st.fixed_dictionaries(limits)))
    first, seed = draw(st.integers(0, 10**6)), draw(st.integers(0, 99))
    return sample_scenes(
        grammar.tokens[label], label, range(first, first + 3), split="test", seed=seed, nuisances=nuisances
    )


def plain(shown: Scenes, *white: int) -> Scenes:
    """The same places, black on black without light, blur and noise; only some parts are white."""
    pieces = shown.pieces.copy()
    pieces[:, :, raster.RED :] = 0.0
    for part in white:
        pieces[:, shown.clutter + part, raster.RED :] = 1.0
    return replace(shown, wholes=np.zeros_like(shown.wholes), pieces=pieces)


def looked_up(shown: Scenes, size: int, fine: int = 4) -> np.ndarray:
    """The share of each pixel of which each part is the frontmost piece, by looking at points of it one by one."""
    axis = (np.arange(size * fine) + 0.5) / (size * fine)
    points = axis[None, :] + 1j * axis[:, None]
    shares = np.empty((len(shown), shown.parts, size, size))
    for exemplar in range(len(shown)):
        front = np.full(points.shape, -1)
        for number, kind in enumerate(shown.kinds[exemplar]):
            if kind == raster.NONE:
                continue
            x, y, radius, angle = shown.pieces[exemplar, number, :4]
            near = (points - complex(x, y)) * np.exp(-1j * np.radians(angle)) / radius
            front[np.vectorize(signed_distance)(kind, near.real, near.imag) < 0] = number
        for part in range(shown.parts):
            own = (front == shown.clutter + part).reshape(size, fine, size, fine)
            shares[exemplar, part] = own.mean(axis=(1, 3))
    return shares


class TestMasks:
    @given(shown=sampled())
    @PROPERTY
    def test_they_are_shares_of_pixels_and_sum_to_at_most_one(self, shown):
        masks = part_masks(shown, 20)
        assert masks.dtype == np.float32
        assert masks.shape == (3, shown.parts, 20, 20)
        assert masks.min() >= 0
        assert masks.sum(axis=1).max() <= 1 + 1e-6

    @given(shown=sampled())
    @PROPERTY
    def test_their_union_is_the_foreground(self, shown):
        foreground = paint(plain(shown, *range(shown.parts)), 24) / 255
        union = part_masks(shown, 24).sum(axis=1)
        np.testing.assert_allclose(foreground, np.repeat(union[:, None], 3, axis=1), atol=0.5 / 255 + 1e-5)

    @given(shown=sampled())
    @PROPERTY
    def test_each_is_what_is_painted_of_its_part(self, shown):
        masks = part_masks(shown, 24)
        for part in range(shown.parts):
            np.testing.assert_allclose(paint(plain(shown, part), 24)[:, 0] / 255, masks[:, part], atol=0.5 / 255 + 1e-5)

    @given(shown=sampled())
    @PROPERTY
    def test_a_part_is_where_it_is_the_frontmost_piece(self, shown):
        apart = np.abs(part_masks(shown[:1], 20) - looked_up(shown[:1], 20))
        assert apart.mean() < 0.01
        # A pixel that the edges of several pieces cross is a product of shares, not the share of what is left.
        assert (apart > 0.35).mean() < 0.005

    @given(shown=sampled())
    @PROPERTY
    def test_clutter_is_in_none_and_changes_nothing_that_a_part_fills(self, shown):
        kinds = shown.kinds.copy()
        kinds[:, : shown.clutter] = raster.NONE
        bare = replace(shown, kinds=kinds)
        masks = part_masks(shown, 24)
        np.testing.assert_array_equal(part_masks(bare, 24), masks)
        wholes = shown.wholes * ([1] * 6 + [0, 0])  # without blur and noise
        with_it, without = (paint(replace(one, wholes=wholes), 24) for one in (shown, bare))
        filled = np.repeat((masks.sum(axis=1) > 1 - 1e-6)[:, None], 3, axis=1)
        np.testing.assert_array_equal(with_it[filled], without[filled])

    @pytest.mark.parametrize(("size", "apart"), [(16, 0.2), (48, 0.02), (200, 0.01)])
    @pytest.mark.parametrize("shape", SHAPES)
    def test_the_mask_of_a_part_alone_has_the_shape_s_area(self, shape, size, apart):
        token = Token("t", (Part(shape, (0.0, 0.0)),))
        masks = part_masks(scenes(token=token, indices=range(20), clutter=8, occlusion=0, scale=(1, 1)), size)
        axis = 2.2 * ((np.arange(300) + 0.5) / 300 - 0.5)
        inside = np.vectorize(signed_distance)(SHAPES.index(shape), axis[None], axis[:, None]) < 0
        expected = inside.mean() * 2.2**2 * (0.42 / 3 * size) ** 2
        np.testing.assert_allclose(masks.sum(axis=(2, 3)), expected, rtol=apart)

    def test_a_later_part_hides_an_earlier_one(self):
        token = Token("t", (Part("ring", (0.0, 0.0)), Part("disk", (0.3, 0.0)), Part("bar", (0.3, 0.0))))
        ring, disk, bar = part_masks(scenes([0], token, **STILL, occlusion=0), 60)[0]
        disk_alone, bar_alone = (
            part_masks(scenes([0], Token("t", (part,)), **STILL, occlusion=0), 60)[0, 0] for part in token.parts[1:]
        )
        np.testing.assert_array_equal(bar, bar_alone)
        assert bar.sum() > 50
        assert disk[bar == 1].max() == 0
        np.testing.assert_array_equal(disk[bar == 0], disk_alone[bar == 0])
        assert ring[disk_alone == 1].max() == 0

    def test_the_patch_lies_before_all_parts(self):
        shown = scenes(range(60), occlusion=0.5, position=0.0, light=0, noise=0, blur=0)
        size = 64
        images, masks = paint(shown, size), part_masks(shown, size)
        seen = 0
        for exemplar in range(60):
            x, y, radius = shown.pieces[exemplar, -1, :3] * size
            if radius > 4 and min(x, y) >= 0 and max(x, y) < size:
                colour = shown.pieces[exemplar, -1, raster.RED :]
                np.testing.assert_allclose(images[exemplar, :, int(y), int(x)], 255 * colour, atol=0.51)
                assert masks[exemplar, :, int(y), int(x)].max() == 0
                seen += 1
        assert seen > 40

    def test_what_the_patch_hides_has_no_area_and_what_lies_beside_it_keeps_its_own(self):
        token = Token("t", (Part("disk", (-0.5, 0.0)), Part("hexagon", (0.5, 0.0))))
        shown = scenes(range(3), token, **STILL, occlusion=0.5)
        pieces = shown.pieces.copy()
        pieces[:, -1, : raster.ANGLE] = *pieces[0, shown.clutter, :2], 0.19
        hidden, beside = part_masks(replace(shown, pieces=pieces), 48).transpose(1, 0, 2, 3)
        free = part_masks(scenes(range(3), token, **STILL, occlusion=0), 48)
        assert hidden.max() == 0
        assert free[:, 0].sum() > 100
        np.testing.assert_array_equal(beside, free[:, 1])

    def test_the_patch_covers_at_most_its_share_of_the_frame(self):
        size, share = 96, 0.2
        shown = scenes(range(200), occlusion=share, position=0.0, scale=(0.6, 1.0), rotation=20)
        patch = replace(
            plain(shown), parts=1, kinds=shown.kinds[:, -1:].repeat(2, 1), pieces=shown.pieces[:, -1:].repeat(2, 1)
        )
        patch.kinds[:, 1] = raster.NONE
        area = part_masks(patch, size)[:, 0].sum(axis=(1, 2)) / (shown.frames[:, 2] * 2 / 3 * size) ** 2
        assert area.max() < share * 1.02
        assert area.max() > share * 0.95
        assert area.min() < share * 0.03
        assert area.mean() == pytest.approx(share / 2, abs=4 * share / np.sqrt(12 * 200))

    def test_parts_off_the_image_are_nowhere(self):
        shown = scenes()
        pieces = shown.pieces.copy()
        pieces[:, shown.clutter : -1, raster.X] += 5.0
        pieces[2:, shown.clutter : -1, raster.Y] -= 1e6
        assert part_masks(replace(shown, pieces=pieces), 24).max() == 0
