from collections import Counter
from itertools import combinations

import pytest

from lightning_emerge.data.tokens import DEFAULT_GRAMMAR, Grammar, Part, Token

LEFT, RIGHT, LOW, TOP = (-0.5, 0.0), (0.5, 0.0), (0.0, 0.5), (0.0, -0.5)


def grammar(**tokens: list[tuple]) -> Grammar:
    return Grammar(tuple(Token(name, tuple(Part(*part) for part in parts)) for name, parts in tokens.items()))


def told_by(cues: list[set]) -> list:
    """Cues that one token alone has, or that one token alone lacks."""
    return [cue for cue in set.union(*cues) if sum(cue in own for own in cues) in (1, len(cues) - 1)]


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
        with pytest.raises(ValueError, match=r"^The shape ring stands in token 'b' alone"):
            grammar(a=[("disk", LEFT), ("bar", RIGHT)], b=[("disk", LEFT), ("ring", RIGHT)], c=[("bar", LEFT)]).check()

    def test_a_pair_in_one_token_only(self):
        with pytest.raises(ValueError, match=r"^The pair of shapes \('disk', 'ring'\) stands in token 'a' alone"):
            grammar(
                a=[("disk", LEFT), ("ring", RIGHT)],
                b=[("disk", LEFT), ("bar", RIGHT)],
                c=[("ring", LEFT), ("bar", RIGHT)],
                d=[("bar", LEFT), ("disk", RIGHT)],
                e=[("ring", LEFT)],
            ).check()

    def test_a_pair_of_equal_shapes_in_one_token_only(self):
        with pytest.raises(ValueError, match=r"^The pair of shapes \('disk', 'disk'\) stands in token 'a' alone"):
            grammar(a=[("disk", LEFT), ("disk", RIGHT)], b=[("disk", LEFT)], c=[("disk", RIGHT)]).check()

    @pytest.mark.parametrize(
        "other", [[("ring", LEFT), ("disk", RIGHT)], [("disk", LEFT, 90.0), ("ring", RIGHT, 90.0)]]
    )
    def test_a_part_at_its_place_or_pose_in_one_token_only(self, other):
        with pytest.raises(ValueError, match=r"^The part at its place Part\(shape='.*stands in token 'a' alone"):
            grammar(a=[("disk", LEFT), ("ring", RIGHT)], b=other).check()

    def test_no_two_tokens_of_the_same_shapes(self):
        places = {"disk": LEFT, "ring": RIGHT, "bar": LOW, "cross": TOP, "arc": (0.0, 0.0)}
        threes = combinations(places.items(), 3)
        with pytest.raises(ValueError, match="At least two tokens have the same shapes in another arrangement"):
            grammar(**{f"t{k}": list(parts) for k, parts in enumerate(threes)}).check()

    def test_a_shape_missing_from_one_token_only(self):
        told = {name: [*parts, ("hexagon", TOP)] for name, parts in TWO_BY_TWO.items()}
        with pytest.raises(ValueError, match="hexagon"):
            grammar(**told, e=TWO_BY_TWO["a"]).check()


class TestGrammar:
    def test_names_are_refused_twice(self):
        with pytest.raises(ValueError, match=r"a name of its own; got \['a', 'a'\]"):
            Grammar((Token("a", (Part("disk", LEFT),)), Token("a", (Part("ring", LEFT),))))

    def test_the_same_parts_in_another_order_are_refused(self):
        with pytest.raises(ValueError, match="same parts in the same places"):
            grammar(a=[("disk", LEFT), ("ring", RIGHT)], b=[("ring", RIGHT), ("disk", LEFT)])

    def test_an_unknown_shape_is_refused_and_the_known_are_listed(self):
        with pytest.raises(ValueError, match=r"disk.*ring.*arc; got 'blob'"):
            grammar(a=[("blob", LEFT)])
