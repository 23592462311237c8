from dataclasses import fields

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lightning_emerge.data.grammar.shapes import SHAPES
from lightning_emerge.data.grammar.tokens import DEFAULT_GRAMMAR, Grammar, Part, Token
from lightning_emerge.data.rendering.latents import latents_table, scenes_of
from lightning_emerge.data.rendering.nuisances import LIMITS, Nuisances
from lightning_emerge.data.rendering.render import paint, part_masks, render
from lightning_emerge.data.rendering.scenes import Scenes, sample_scenes

PROPERTY = settings(max_examples=12, deadline=None, derandomize=True, database=None)
SIZE = 20
MIXED = Grammar(
    (
        Token("one", (Part("ring", (0.1, -0.2), 30),)),
        Token("three", (Part("arc", (-0.5, 0), 90), Part("bar", (0.5, 0)), Part("disk", (0, 0.6)))),
        Token("two", (Part("wedge", (-0.4, 0.3), 45), Part("hexagon", (0.4, 0.3), 10))),
    )
)


def draw(grammar: Grammar, token: str, indices, split="val", seed=3, nuisances: Nuisances | None = None) -> Scenes:
    label = grammar.names.index(token)
    return sample_scenes(
        grammar.tokens[label], label, indices, split=split, seed=seed, nuisances=nuisances or Nuisances("hard")
    )


def table(grammar: Grammar, token: str, indices, split="val", size=SIZE, **how) -> pd.DataFrame:
    return latents_table(draw(grammar, token, indices, split, **how), split, token, indices, grammar, size)


def assert_same(one: Scenes, other: Scenes) -> None:
    for field in fields(Scenes):
        first, second = getattr(one, field.name), getattr(other, field.name)
        np.testing.assert_array_equal(first, second, err_msg=field.name)
        assert np.asarray(first).dtype == np.asarray(second).dtype, field.name


@st.composite
def settings_of_exemplars(draw):
    """A drawn grammar, one of its tokens, some indices, and nuisances up to their limits."""
    try:
        counts = draw(st.integers(4, 9)), draw(st.integers(2, 8)), draw(st.integers(3, 7)), 2
        grammar = Grammar.sample(*counts, seed=draw(st.integers(0, 99)))
    except ValueError:  # some numbers do not go together
        assume(False)
    limits = {name: st.floats(limit.lowest, limit.highest) for name, limit in LIMITS.items()}
    limits |= {"clutter": st.integers(0, 8), "scale": st.tuples(limits["scale"], limits["scale"]).map(sorted)}
    indices = draw(st.lists(st.integers(0, 10**6 - 1), min_size=1, max_size=4, unique=True))
    nuisances = Nuisances(**draw(st.fixed_dictionaries(limits)))
    return grammar, draw(st.sampled_from(grammar.names)), indices, nuisances, draw(st.integers(0, 2**40))


class TestBackToImages:
    @given(what=settings_of_exemplars())
    @PROPERTY
    def test_a_table_gives_back_its_scenes_and_its_images_byte_for_byte(self, what):
        grammar, token, indices, nuisances, seed = what
        back = scenes_of(table(grammar, token, indices, nuisances=nuisances, seed=seed))
        assert_same(back, draw(grammar, token, indices, nuisances=nuisances, seed=seed))
        label = grammar.names.index(token)
        labels = np.full(len(indices), label)
        expected = render(
            grammar.tokens, labels, np.asarray(indices), split="val", seed=seed, size=SIZE, nuisances=nuisances
        )
        assert paint(back, SIZE).tobytes() == expected.tobytes()

    @pytest.mark.parametrize("token", MIXED.names)
    @pytest.mark.parametrize("nuisances", [Nuisances("hard", clutter=8), Nuisances("easy")], ids=["hard", "easy"])
    def test_a_file_of_tokens_with_different_numbers_of_parts_gives_back_each_token_s_images(
        self, tmp_path, token, nuisances
    ):
        tables = [table(MIXED, name, [4, 0, 9], nuisances=nuisances) for name in MIXED.names]
        pd.concat(tables, ignore_index=True).to_parquet(tmp_path / "latents.parquet")
        whole = pd.read_parquet(tmp_path / "latents.parquet")
        back = scenes_of(whole[whole["token"] == token])
        expected = draw(MIXED, token, [4, 0, 9], nuisances=nuisances)
        assert_same(back, expected)
        assert paint(back, SIZE).tobytes() == paint(expected, SIZE).tobytes()
        assert part_masks(back, SIZE).tobytes() == part_masks(expected, SIZE).tobytes()

    def test_rows_in_another_order_give_back_images_in_that_order(self):
        rows = table(MIXED, "two", range(6)).iloc[[5, 1, 1]]
        np.testing.assert_array_equal(paint(scenes_of(rows), SIZE), paint(draw(MIXED, "two", [5, 1, 1]), SIZE))

    def test_a_changed_latent_changes_the_image_where_it_says(self):
        rows = table(MIXED, "one", [0], nuisances=Nuisances("easy", blur=0, noise=0))
        red = rows.assign(part0_red=0.0)
        before, after = (paint(scenes_of(one), SIZE)[0].astype(int) for one in (rows, red))
        mask = part_masks(scenes_of(rows), SIZE)[0, 0]
        np.testing.assert_array_equal(before[1:], after[1:])
        assert (after[0] <= before[0]).all()
        np.testing.assert_array_equal(after[0][mask == 0], before[0][mask == 0])
        assert (after[0] < before[0])[mask > 0.05].all()

    def test_rows_of_several_tokens_are_refused_by_name(self):
        both = pd.concat([table(MIXED, "two", [0]), table(MIXED, "one", [0])])
        with pytest.raises(ValueError, match="Scenes are of one token; the table has 2: one, two"):
            scenes_of(both)


class TestTable:
    def test_all_tokens_have_the_same_columns_in_the_same_order_and_of_the_same_types(self):
        tables = [table(MIXED, token, range(3)) for token in MIXED.names]
        for other in tables[1:]:
            assert list(other) == list(tables[0])
            assert (other.dtypes == tables[0].dtypes).all()
        assert len(set(tables[0])) == len(tables[0].columns)

    def test_every_factor_has_a_column(self):
        pieces = [*(f"part{k}" for k in range(3)), *(f"clutter{k}" for k in range(2)), "patch"]
        own = [f"{p}_{c}" for p in pieces for c in ("shape", "x", "y", "radius", "angle", "red", "green", "blue")]
        known = ("appearance", "place_x", "place_y", "pose", "area", "left", "top", "right", "bottom")
        seen = [f"part{k}_{c}" for k in range(3) for c in known]
        whole = "id split token label index x y scale rotation light_x light_y ground_red ground_green ground_blue"
        whole += " background blur noise background_seed noise_seed"
        found = table(MIXED, "two", [0], nuisances=Nuisances(clutter=2))
        assert sorted(found) == sorted([*whole.split(), *own, *seen])

    @given(indices=st.lists(st.integers(0, 10**6 - 1), max_size=5, unique=True))
    @PROPERTY
    def test_it_says_which_exemplar_each_row_is(self, indices):
        found = table(MIXED, "three", indices, split="bank")
        assert found["index"].tolist() == indices
        assert found["id"].tolist() == [f"bank/three/{index:06d}" for index in indices]
        if indices:
            assert set(found["split"]) == {"bank"}
            assert set(found["token"]) == {"three"}
            assert set(found["label"]) == {1}
        assert len(found) == len(indices)

    def test_ids_are_unique_over_splits_tokens_and_indices(self):
        ids = [
            one
            for split in ("train", "val", "test", "bank")
            for token in MIXED.names
            for one in table(MIXED, token, [0, 1, 10, 999_999], split=split, size=8)["id"]
        ]
        assert len(set(ids)) == len(ids) == 4 * 3 * 4

    def test_a_row_says_the_shape_place_and_pose_of_each_part(self):
        still = Nuisances("easy", position=0, scale=(1, 1), rotation=0, jitter=0)
        for token in MIXED.tokens:
            row = table(MIXED, token.name, [5], nuisances=still).iloc[0]
            for number, part in enumerate(token.parts):
                assert row[f"part{number}_appearance"] == str(part)
                placed = row[[f"part{number}_{name}" for name in ("place_x", "place_y", "pose")]]
                assert tuple(placed) == (*part.place, part.appearance.pose)
                assert row[f"part{number}_shape"] == part.shape
                assert row[f"part{number}_x"] == pytest.approx(0.5 + part.place[0] / 3)
                assert row[f"part{number}_y"] == pytest.approx(0.5 + part.place[1] / 3)
                assert row[f"part{number}_angle"] == pytest.approx(part.pose)
                assert row[f"part{number}_radius"] == pytest.approx(0.14)
            for number in range(len(token.parts), 3):
                missing = row[[name for name in row.index if name.startswith(f"part{number}_")]]
                assert len(missing) == 17
                assert missing.isna().all()

    def test_pieces_that_are_not_there_are_empty_and_the_others_are_full(self):
        found = table(MIXED, "one", range(60), nuisances=Nuisances(clutter=3, occlusion=0))
        assert found[[name for name in found if name.startswith("patch_")]].isna().all(axis=None)
        for number in range(3):
            own = found[[name for name in found if name.startswith(f"clutter{number}_")]].isna()
            assert (own.all(axis=1) | ~own.any(axis=1)).all()
            assert own.iloc[:, 0].mean() == pytest.approx((number + 1) / 4, abs=0.25)

    def test_shapes_are_names_and_the_patch_is_a_square(self):
        found = table(MIXED, "one", range(30))
        assert set(found["patch_shape"]) == {"square"}
        assert set(found["clutter0_shape"].dropna()) <= set(SHAPES)


class TestAreasAndBoxes:
    @given(what=settings_of_exemplars())
    @PROPERTY
    def test_they_are_those_of_the_masks(self, what):
        grammar, token, indices, nuisances, seed = what
        found = table(grammar, token, indices, nuisances=nuisances, seed=seed)
        masks = part_masks(draw(grammar, token, indices, nuisances=nuisances, seed=seed), SIZE)
        for row, own in zip(found.to_dict("records"), masks, strict=True):
            for number, mask in enumerate(own):
                assert row[f"part{number}_area"] == pytest.approx(mask.astype(np.float64).sum(), rel=1e-9)
                y, x = np.nonzero(mask >= 0.5)
                box = (x.min(), y.min(), x.max() + 1, y.max() + 1) if len(x) else (0, 0, 0, 0)
                assert tuple(row[f"part{number}_{side}"] for side in ("left", "top", "right", "bottom")) == box

    def test_a_box_by_hand(self):
        grammar = Grammar((Token("bar", (Part("bar", (0.25, -0.5)),)), Token("disk", (Part("disk", (0, 0)),))))
        still = Nuisances(position=0, scale=(1, 1), rotation=0, jitter=0, occlusion=0)
        row = table(grammar, "bar", [0], size=300, nuisances=still).iloc[0]
        # Its middle is at (175, 100); it is 84 pixels wide and 25.2 high.
        box = [row[f"part0_{side}"] for side in ("left", "top", "right", "bottom")]
        np.testing.assert_allclose(box, [133, 87.4, 217, 112.6], atol=0.6)
        assert row["part0_area"] == pytest.approx(84 * 25.2, rel=0.01)

    def test_a_part_that_is_hidden_or_off_the_image_has_no_area_and_no_box(self):
        shown = draw(MIXED, "three", range(3), nuisances=Nuisances("easy", jitter=0, scale=(1, 1), occlusion=0.5))
        first = shown.clutter
        shown.pieces[:, -1, :3] = *shown.pieces[0, first, :2], 0.25  # the patch lies on the first part
        shown.pieces[:, first : first + 1, :2] = shown.pieces[0, first, :2]
        shown.pieces[:, first + 1, 0] = 3.0
        found = latents_table(shown, "val", "three", range(3), MIXED, SIZE)
        for number in (0, 1):
            for column in ("area", "left", "top", "right", "bottom"):
                assert (found[f"part{number}_{column}"] == 0).all()
        assert (found["part2_area"] > 10).all()

    def test_areas_of_the_default_grammar_are_those_of_the_parts_when_nothing_hides_them(self):
        still = Nuisances("easy", scale=(1, 1), occlusion=0, jitter=0)
        row = table(DEFAULT_GRAMMAR, "dax", range(10), size=96, nuisances=still)
        radius = 0.14 * 96
        for number, area in enumerate((np.pi * 0.85**2, 2 * 1.9 * 0.54 - 0.54**2, np.pi * (0.87**2 - 0.43**2), 1.2)):
            np.testing.assert_allclose(row[f"part{number}_area"], area * radius**2, rtol=0.02)
