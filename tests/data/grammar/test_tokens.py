from collections import Counter
from itertools import chain, combinations, product
from math import inf, nan

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lightning_emerge.data.grammar.shapes import SHAPES, SYMMETRY
from lightning_emerge.data.grammar.tokens import DEFAULT_GRAMMAR, Grammar, Part, Token

PROPERTY = settings(max_examples=25, deadline=None, derandomize=True, database=None)

LEFT, RIGHT, LOW, TOP = (-0.5, 0.0), (0.5, 0.0), (0.0, 0.5), (0.0, -0.5)


def grammar(**tokens: list[tuple]) -> Grammar:
    return Grammar(tuple(Token(name, tuple(Part(*part) for part in parts)) for name, parts in tokens.items()))


def told_by(cues: list[set]) -> list:
    """Cues that one token alone has, or that one token alone lacks."""
    return [cue for cue in set.union(*cues) if sum(cue in own for own in cues) in (1, len(cues) - 1)]


def seen(token: Token) -> set[tuple]:
    """A token's parts as they look: (shape, place, pose), with poses that look the same as one."""
    return {
        (part.shape, part.place, part.pose % SYMMETRY[part.shape] if SYMMETRY[part.shape] else 0.0)
        for part in token.parts
    }


def subsets(parts) -> list[frozenset]:
    return [frozenset(own) for own in chain.from_iterable(combinations(parts, n) for n in range(1, len(parts) + 1))]


@st.composite
def sampled(draw) -> Grammar:
    counts = draw(st.integers(4, 10)), draw(st.integers(2, 8)), draw(st.integers(3, 6)), 2
    try:
        return Grammar.sample(*counts, seed=draw(st.integers(0, 999)))
    except ValueError:  # some numbers do not go together
        assume(False)


@st.composite
def written(draw) -> Grammar:
    """A grammar without any plan: some of its tokens are told by one part, some contain others."""
    parts = [Part(shape, place, pose) for shape, place, pose in product(("bar", "ring"), (LEFT, RIGHT), (0.0, 90.0))]
    parts += [Part("disk", LOW), Part("arc", LOW, 180.0), Part("arc", LOW, -180.0)]
    tokens = draw(st.lists(st.lists(st.sampled_from(parts), min_size=1, max_size=3), min_size=2, max_size=6))
    try:
        return Grammar(tuple(Token(f"t{k}", tuple(own)) for k, own in enumerate(tokens)))
    except ValueError:  # parts at one place, or tokens that look the same
        assume(False)


@st.composite
def thinned(draw) -> Grammar:
    """A sampled grammar without some of its tokens: it may pass its check, and may not."""
    found = draw(sampled())
    kept = draw(st.sets(st.sampled_from(found.tokens), min_size=max(4, len(found.tokens) - 3)))
    return Grammar(tuple(token for token in found.tokens if token in kept))


TWO_BY_TWO = {
    "a": [("disk", LEFT), ("cross", RIGHT), ("bar", LOW, 0.0)],
    "b": [("disk", LEFT), ("cross", RIGHT), ("bar", LOW, 90.0)],
    "c": [("cross", LEFT), ("disk", RIGHT), ("bar", LOW, 0.0)],
    "d": [("cross", LEFT), ("disk", RIGHT), ("bar", LOW, 90.0)],
}


class TestDefaultGrammar:
    def test_five_tokens_of_different_names_pass_the_check(self):
        DEFAULT_GRAMMAR.check()
        assert len(set(DEFAULT_GRAMMAR.names)) == 5
        assert DEFAULT_GRAMMAR.names == tuple(token.name for token in DEFAULT_GRAMMAR.tokens)

    def test_no_shape_tells_a_token_by_its_presence_or_absence(self):
        assert told_by([{part.shape for part in token.parts} for token in DEFAULT_GRAMMAR.tokens]) == []

    def test_no_number_of_a_shape_tells_a_token(self):
        bags = [Counter(part.shape for part in token.parts) for token in DEFAULT_GRAMMAR.tokens]
        assert told_by([set(bag.items()) for bag in bags]) == []

    def test_no_pair_of_shapes_tells_a_token(self):
        shapes = [[part.shape for part in token.parts] for token in DEFAULT_GRAMMAR.tokens]
        assert told_by([{frozenset(pair) for pair in combinations(own, 2)} for own in shapes]) == []

    def test_no_part_at_its_place_and_pose_tells_a_token(self):
        placed = [{(p.shape, p.place, p.pose) for p in token.parts} for token in DEFAULT_GRAMMAR.tokens]
        assert told_by(placed) == []

    def test_no_place_or_pose_tells_a_token(self):
        for cue in (lambda p: p.place, lambda p: p.pose, lambda p: (p.place, p.pose)):
            assert told_by([{cue(p) for p in token.parts} for token in DEFAULT_GRAMMAR.tokens]) == []

    def test_some_tokens_differ_by_arrangement_alone(self):
        bags = Counter(tuple(sorted(p.shape for p in token.parts)) for token in DEFAULT_GRAMMAR.tokens)
        assert max(bags.values()) >= 2


class TestCheck:
    def test_a_hand_made_grammar_of_conjunctions_passes(self):
        grammar(**TWO_BY_TWO).check()

    def test_a_shape_in_one_token_only(self):
        with pytest.raises(ValueError, match=r"shape ring .* 'b' alone"):
            grammar(a=[("disk", LEFT), ("bar", RIGHT)], b=[("disk", LEFT), ("ring", RIGHT)], c=[("bar", LEFT)]).check()

    def test_a_pair_in_one_token_only(self):
        with pytest.raises(ValueError, match=r"disk and ring .* 'a' alone"):
            grammar(
                a=[("disk", LEFT), ("ring", RIGHT)],
                b=[("disk", LEFT), ("bar", RIGHT)],
                c=[("ring", LEFT), ("bar", RIGHT)],
                d=[("bar", LEFT), ("disk", RIGHT)],
                e=[("ring", LEFT)],
            ).check()

    def test_a_pair_of_equal_shapes_in_one_token_only(self):
        with pytest.raises(ValueError, match=r"disk and disk .* 'a' alone"):
            grammar(a=[("disk", LEFT), ("disk", RIGHT)], b=[("disk", LEFT)], c=[("disk", RIGHT)]).check()

    @pytest.mark.parametrize(
        ("other", "told"),
        [
            ([("bar", LEFT), ("arc", RIGHT)], r"arc at \(-0\.5, 0\)"),
            ([("arc", LEFT, 90.0), ("bar", RIGHT, 90.0)], r"arc at \(-0\.5, 0\)"),
            ([("arc", LEFT), ("bar", RIGHT, 90.0)], r"bar at \(0\.5, 0\)"),
        ],
    )
    def test_a_part_at_its_place_or_pose_in_one_token_only(self, other, told):
        with pytest.raises(ValueError, match=rf"^The part {told} stands in token 'a' alone"):
            grammar(a=[("arc", LEFT), ("bar", RIGHT)], b=other).check()

    def test_the_error_names_a_part_s_pose_as_it_looks(self):
        with pytest.raises(ValueError, match=r"bar at \(-0\.5, 0\), 30° .* 'a' alone"):
            grammar(a=[("bar", LEFT, 210.0), ("disk", LOW)], b=[("bar", RIGHT), ("disk", LOW)]).check()

    def test_a_part_in_all_tokens_but_one(self):
        squares = [("square", TOP), ("square", (0.0, 0.0)), ("square", (0.9, 0.9))]
        without = {"a": 2, "b": 1, "c": 2, "d": 1, "e": 0}  # the first square is in all but e, each other in three
        tokens = {
            name: TWO_BY_TWO["a" if name == "e" else name] + squares[:k] + squares[k + 1 :]
            for name, k in without.items()
        }
        told = r"^The part square at \(0, -0\.5\) stands in all tokens but 'e', so its absence tells it\.$"
        with pytest.raises(ValueError, match=told):
            grammar(**tokens).check()

    def test_poses_that_look_the_same_make_no_difference(self):
        turned = {
            name: [*parts[:2], ("bar", LOW, parts[2][2] + 180.0 * k)]
            for k, (name, parts) in enumerate(TWO_BY_TWO.items())
        }
        grammar(**turned).check()

    @pytest.mark.parametrize("told", [{"a": ("arc", TOP)}, {"a": ("arc", TOP), "b": ("arc", TOP), "c": ("arc", TOP)}])
    def test_what_one_token_has_or_lacks_alone_is_found_wherever_it_is_planted(self, told):
        tokens = {name: [*parts, *([told[name]] if name in told else [])] for name, parts in TWO_BY_TWO.items()}
        with pytest.raises(ValueError, match="arc"):
            grammar(**tokens).check()

    @given(found=st.one_of(written(), thinned()))
    @settings(PROPERTY, max_examples=60)
    def test_it_passes_exactly_when_no_cue_is_in_one_token_alone_or_in_all_but_one(self, found):
        shapes = [[part.shape for part in token.parts] for token in found.tokens]
        told = told_by([set(own) for own in shapes])
        told += told_by([{tuple(sorted(two)) for two in combinations(own, 2)} | {()} for own in shapes])
        told += told_by([seen(token) for token in found.tokens])
        told = [cue for cue in told if cue != ()]
        same = len({tuple(sorted(own)) for own in shapes}) < len(shapes)
        if told or not same:
            with pytest.raises(ValueError, match=r"stands in|same shapes"):
                found.check()
        else:
            found.check()

    def test_no_two_tokens_of_the_same_shapes(self):
        places = {"disk": LEFT, "ring": RIGHT, "bar": LOW, "cross": TOP, "arc": (0.0, 0.0)}
        threes = combinations(places.items(), 3)
        with pytest.raises(ValueError, match="another arrangement"):
            grammar(**{f"t{k}": list(parts) for k, parts in enumerate(threes)}).check()

    def test_a_shape_missing_from_one_token_only(self):
        told = {name: [*parts, ("hexagon", TOP)] for name, parts in TWO_BY_TWO.items()}
        with pytest.raises(ValueError, match="hexagon"):
            grammar(**told, e=TWO_BY_TWO["a"]).check()


class TestGrammar:
    @pytest.mark.parametrize("count", [0, 1])
    def test_fewer_than_two_tokens_are_refused(self, count):
        with pytest.raises(ValueError, match=f"A grammar has two tokens or more; got {count}"):
            Grammar(DEFAULT_GRAMMAR.tokens[:count])

    def test_names_are_refused_twice(self):
        with pytest.raises(ValueError, match=r"a name of its own; got 'a' 2 times"):
            Grammar((Token("a", (Part("disk", LEFT),)), Token("a", (Part("ring", LEFT),))))

    def test_the_same_parts_in_another_order_are_refused(self):
        with pytest.raises(ValueError, match="Tokens 'a' and 'b' look the same"):
            grammar(a=[("disk", LEFT), ("ring", RIGHT)], b=[("ring", RIGHT), ("disk", LEFT)])

    @pytest.mark.parametrize(
        ("shape", "one", "other"),
        [
            ("ring", 0, 90),
            ("disk", 10, 20),
            ("bar", 240.3, 60.3),
            ("cross", 0, 90),
            ("arc", 0, 360),
            ("hexagon", 5, -55),
        ],
    )
    def test_poses_that_look_the_same_do_not_make_two_tokens_different(self, shape, one, other):
        with pytest.raises(ValueError, match="Tokens 'a' and 'b' look the same"):
            grammar(a=[(shape, LEFT, one)], b=[(shape, LEFT, other)])

    @pytest.mark.parametrize(
        ("shape", "one", "other"), [("bar", 0, 90), ("arc", 0, 180), ("cross", 0, 45), ("hexagon", 0, 30)]
    )
    def test_poses_that_can_be_told_apart_do(self, shape, one, other):
        assert grammar(a=[(shape, LEFT, one)], b=[(shape, LEFT, other)]).names == ("a", "b")

    def test_a_token_without_parts_is_refused(self):
        with pytest.raises(ValueError, match="at least one part; 'b' has none"):
            grammar(a=[("disk", LEFT)], b=[])

    def test_two_parts_at_one_place_are_refused(self):
        with pytest.raises(ValueError, match=r"different places; 'b' has 2 at \(-0\.5, 0\.0\)"):
            grammar(a=[("disk", LEFT)], b=[("disk", LEFT), ("ring", RIGHT), ("bar", LEFT)])

    @pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a\\b", "/"])
    def test_a_name_that_can_name_no_folder_is_refused(self, name):
        with pytest.raises(ValueError, match="A token's name can name a folder; got "):
            Grammar((Token(name, (Part("disk", LEFT),)), Token("b", (Part("ring", LEFT),))))

    def test_its_arity_is_that_of_the_largest_token(self):
        assert DEFAULT_GRAMMAR.arity == 4
        assert grammar(a=[("disk", LEFT)], b=[("disk", LEFT), ("ring", RIGHT)]).arity == 2


class TestPart:
    def test_an_unknown_shape_is_refused_and_the_known_are_listed(self):
        with pytest.raises(ValueError, match=rf"{', '.join(SHAPES)}; got 'blob'"):
            grammar(a=[("blob", LEFT)])

    @pytest.mark.parametrize("place", [(1.01, 0.0), (0.0, -1.01), (nan, 0.0), (0.0,), (0.0, 0.0, 0.0)])
    def test_a_place_outside_the_frame_is_refused(self, place):
        Part("disk", (1.0, -1.0))
        with pytest.raises(ValueError, match=r"A part's place is x and y in -1 to 1; got .* for a disk"):
            Part("disk", place)

    @pytest.mark.parametrize("pose", [nan, inf, -inf])
    def test_a_pose_that_is_no_angle_is_refused(self, pose):
        with pytest.raises(ValueError, match=f"pose .*{pose} for a bar"):
            Part("bar", LEFT, pose)

    def test_it_reads_as_its_shape_place_and_pose(self):
        assert str(Part("bar", (-0.5, 0.25), 270)) == "bar at (-0.5, 0.25), 90°"
        assert str(Part("ring", (0.0, 1.0), 30)) == "ring at (0, 1)"


class TestTable:
    @given(found=st.one_of(sampled(), written()))
    @PROPERTY
    def test_it_says_which_part_stands_in_which_token_and_what_tokens_share(self, found):
        table = found.table()
        looks = [seen(token) for token in found.tokens]
        rows = [next(iter(seen(Token("", (part,))))) for part in table.parts]
        assert sorted(rows) == sorted(set.union(*looks))
        assert table.tokens == found.names
        assert table.stands.shape == (len(rows), len(looks))
        assert table.stands.dtype == np.bool_
        for row, part in enumerate(rows):
            assert table.stands[row].tolist() == [part in look for look in looks]
        assert set(table.shared) == set(combinations(found.names, 2))
        for (one, other), parts in table.shared.items():
            both = looks[found.names.index(one)] & looks[found.names.index(other)]
            assert len(parts) == len(both)
            assert {next(iter(seen(Token("", (part,))))) for part in parts} == both

    def test_of_the_default_grammar_by_hand(self):
        table = DEFAULT_GRAMMAR.table()
        counts = {str(part): int(own.sum()) for part, own in zip(table.parts, table.stands, strict=True)}
        assert counts == {
            "disk at (-0.5, -0.5)": 2,
            "cross at (0.5, -0.5)": 2,
            "cross at (-0.5, -0.5)": 3,
            "disk at (0.5, -0.5)": 3,
            "ring at (-0.5, 0.5)": 2,
            "triangle at (-0.5, 0.5)": 3,
            "bar at (0.5, 0.5)": 2,
            "bar at (0.5, 0.5), 90°": 3,
        }
        sizes = {pair: len(parts) for pair, parts in table.shared.items()}
        assert sizes["dax", "toma"] == 0
        assert sizes["wug", "toma"] == 2
        assert sizes["blick", "toma"] == sizes["fep", "toma"] == 3


class TestTelling:
    @given(found=st.one_of(sampled(), written()))
    @PROPERTY
    def test_they_are_the_smallest_sets_of_parts_that_no_other_token_has(self, found):
        looks = {token.name: seen(token) for token in found.tokens}
        for name, own in looks.items():
            others = [look for other, look in looks.items() if other != name]
            tell = [parts for parts in subsets(own) if not any(parts <= other for other in others)]
            smallest = {parts for parts in tell if not any(other < parts for other in tell)}
            telling = found.telling(name)
            assert len(telling) == len(smallest)
            assert {frozenset(seen(Token("", parts))) for parts in telling} == smallest
            assert [len(parts) for parts in telling] == sorted(map(len, telling))

    @given(found=sampled())
    @PROPERTY
    def test_no_single_part_of_a_sampled_grammar_tells(self, found):
        assert min(len(parts) for name in found.names for parts in found.telling(name)) >= 2

    def test_a_token_that_another_contains_is_told_by_nothing(self):
        found = grammar(a=[("disk", LEFT)], b=[("disk", LEFT), ("bar", LOW, 180.0)])
        assert found.telling("a") == ()
        assert found.telling("b") == ((Part("bar", LOW, 0.0),),)

    def test_two_parts_tell_four_default_tokens_and_toma_takes_three(self):
        smallest = {name: len(DEFAULT_GRAMMAR.telling(name)[0]) for name in DEFAULT_GRAMMAR.names}
        assert smallest == {"dax": 2, "wug": 2, "blick": 2, "fep": 2, "toma": 3}
        looks = {tuple(map(str, parts)) for parts in DEFAULT_GRAMMAR.telling("toma")}
        low = ("triangle at (-0.5, 0.5)", "bar at (0.5, 0.5), 90°")
        assert looks == {("cross at (-0.5, -0.5)", *low), ("disk at (0.5, -0.5)", *low)}

    def test_an_unknown_token_is_refused(self):
        with pytest.raises(ValueError, match="not in tuple"):
            DEFAULT_GRAMMAR.telling("tomo")
