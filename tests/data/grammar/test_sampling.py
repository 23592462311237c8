from collections import Counter
from itertools import combinations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lightning_emerge.data.grammar.shapes import SHAPES, SYMMETRY
from lightning_emerge.data.grammar.tokens import Grammar

PROPERTY = settings(max_examples=60, deadline=None, derandomize=True, database=None)
PART_RADIUS = 0.42
WELL = {"tokens": 8, "parts": 5, "arity": 4, "shared": 2, "seed": 0}

ASKED = st.fixed_dictionaries(
    {
        "tokens": st.integers(4, 24),
        "parts": st.integers(2, 9),
        "arity": st.integers(3, 7),
        "shared": st.integers(2, 4),
        "seed": st.integers(0, 2**63),
    }
)
LARGE = [
    {"tokens": 1000, "parts": 9, "arity": 7, "shared": 2, "seed": 1},
    {"tokens": 1000, "parts": 9, "arity": 7, "shared": 100, "seed": 2},
    {"tokens": 100, "parts": 2, "arity": 7, "shared": 8, "seed": 3},
]


def sample(**asked) -> Grammar:
    try:
        return Grammar.sample(**asked)
    except ValueError as error:
        if not str(error).startswith("No grammar of"):
            raise
        assume(False)


def assert_as_asked(found: Grammar, tokens: int, parts: int, arity: int, shared: int) -> None:
    found.check()
    assert len(found.tokens) == len(set(found.names)) == tokens
    assert {len(token.parts) for token in found.tokens} == {arity}
    assert len({part.shape for token in found.tokens for part in token.parts}) == parts
    standing = Counter((part.shape, part.place, part.pose) for token in found.tokens for part in token.parts)
    assert min(standing.values()) >= shared


class TestWhatWasAskedFor:
    @given(asked=ASKED)
    @PROPERTY
    def test_a_grammar_passes_its_check_and_has_what_was_asked_for(self, asked):
        assume(asked["shared"] <= asked["tokens"] // 2)
        found = sample(**asked)
        del asked["seed"]
        assert_as_asked(found, **asked)

    @pytest.mark.parametrize("asked", LARGE, ids=str)
    def test_a_large_grammar_too(self, asked):
        found = Grammar.sample(**asked)
        assert_as_asked(found, **{name: value for name, value in asked.items() if name != "seed"})

    @pytest.mark.parametrize("arity", [3, 4, 5, 6, 7])
    @pytest.mark.parametrize("tokens", [6, 12])
    def test_there_is_one_of_every_arity(self, arity, tokens):
        found = Grammar.sample(tokens=tokens, parts=4, arity=arity, shared=2, seed=0)
        assert_as_asked(found, tokens, 4, arity, 2)

    @given(asked=ASKED)
    @PROPERTY
    def test_parts_do_not_overlap_and_lie_in_the_frame(self, asked):
        assume(asked["shared"] <= asked["tokens"] // 2)
        for token in sample(**asked).tokens:
            places = [complex(*part.place) for part in token.parts]
            # A thousandth: places are rounded.
            assert min(abs(a - b) for a, b in combinations(places, 2)) >= 2 * PART_RADIUS - 1e-3
            assert all(max(map(abs, part.place)) <= 1 for part in token.parts)

    @given(asked=ASKED)
    @PROPERTY
    def test_poses_that_a_shape_has_at_one_place_can_be_told_apart(self, asked):
        assume(asked["shared"] <= asked["tokens"] // 2)
        poses: dict[tuple, set[float]] = {}
        for token in sample(**asked).tokens:
            for part in token.parts:
                poses.setdefault((part.shape, part.place), set()).add(part.pose)
        for (shape, _), own in poses.items():
            turn = SYMMETRY[shape]
            assert len(own) == 1 if not turn else len({pose % turn for pose in own}) == len(own)

    def test_all_tokens_use_the_same_places(self):
        found = Grammar.sample(**WELL)
        assert len({frozenset(part.place for part in token.parts) for token in found.tokens}) == 1

    def test_every_shape_is_drawn_sometimes(self):
        drawn = [Grammar.sample(**{**WELL, "seed": seed}) for seed in range(30)]
        shapes = Counter(s for one in drawn for s in {part.shape for token in one.tokens for part in token.parts})
        assert set(shapes) == set(SHAPES)
        assert min(shapes.values()) >= 5  # of 30, five of nine shapes each


class TestSeed:
    @given(asked=ASKED)
    @settings(PROPERTY, max_examples=20)
    def test_the_same_seed_is_the_same_grammar(self, asked):
        assume(asked["shared"] <= asked["tokens"] // 2)
        assert sample(**asked) == Grammar.sample(**asked)

    def test_another_seed_is_another_grammar(self):
        assert len({Grammar.sample(**{**WELL, "seed": seed}) for seed in range(20)}) == 20


class TestRefusals:
    @pytest.mark.parametrize(
        ("name", "lowest", "highest"),
        [("tokens", 4, 1000), ("parts", 2, 9), ("arity", 3, 7), ("shared", 2, 4), ("seed", 0, 2**63)],
    )
    def test_an_argument_out_of_its_range_is_refused_by_name(self, name, lowest, highest):
        for value in (lowest - 1, highest + 1, -5):
            with pytest.raises(ValueError, match=rf"sample\.{name} .*{lowest} to {highest}; got {value}\."):
                Grammar.sample(**{**WELL, name: value})

    @pytest.mark.parametrize("shared", [2, 4])
    def test_the_ends_of_what_is_shared_depend_on_the_tokens(self, shared):
        assert_as_asked(Grammar.sample(**{**WELL, "arity": 5, "shared": shared}), 8, 5, 5, shared)

    @pytest.mark.parametrize(
        "changes",
        [
            {"tokens": 9, "parts": 9, "arity": 3},  # eight choices at one place, in two tokens each, are too many
            {"tokens": 1000, "parts": 2, "arity": 3},  # there are not so many combinations
            {"tokens": 1000, "parts": 9, "arity": 7, "shared": 500},  # two choices at each of six places make 64
        ],
        ids=str,
    )
    def test_what_cannot_be_is_refused_with_what_was_asked_for_and_what_would_help(self, changes):
        asked = {**WELL, **changes}
        with pytest.raises(ValueError, match=r"^No grammar of .*`shared`") as error:
            Grammar.sample(**asked)
        for name in ("tokens", "parts", "arity", "shared"):
            assert str(asked[name]) in str(error.value)
