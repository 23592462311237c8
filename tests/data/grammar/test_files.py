import re
from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lightning_emerge.data.grammar.files import read_grammar, write_grammar
from lightning_emerge.data.grammar.shapes import SHAPES
from lightning_emerge.data.grammar.tokens import DEFAULT_GRAMMAR, Grammar, Part, Token

PROPERTY = settings(max_examples=40, deadline=None, derandomize=True, database=None)
A, B = "a: [{shape: disk, place: [0, 0]}]", "b: [{shape: bar, place: [0, 0]}]"
NUMBER = st.floats(-1, 1)
NAME = st.one_of(
    st.sampled_from(
        [
            "yes",
            "no",
            "null",
            "~",
            "007",
            "1e3",
            "1:30",
            "a: b",
            "- x",
            "#a",
            "{",
            "'",
            '"',
            "<<",
            "a\nb",
            " a ",
            "é ü",
            "=",
            "!x",
        ]
    ),
    st.text(st.characters(exclude_characters="/\\", exclude_categories=("Cc", "Cs")), min_size=1, max_size=6),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("grammars")


def read(folder: Path, text: str) -> Grammar:
    (folder / "tokens.yaml").write_text(text, encoding="utf-8")
    return read_grammar(folder / "tokens.yaml")


def refusal(folder: Path, text: str) -> str:
    """What a wrong file is refused with, but for the path, which comes first."""
    with pytest.raises(ValueError, match=rf"^{re.escape(str(folder))}.tokens\.yaml: ") as error:
        read(folder, text)
    message = str(error.value)
    assert "\n" not in message
    return message.removeprefix(f"{folder / 'tokens.yaml'}: ")


@st.composite
def sampled(draw) -> Grammar:
    try:
        counts = draw(st.integers(4, 12)), draw(st.integers(2, 8)), draw(st.integers(3, 7)), 2
        return Grammar.sample(*counts, seed=draw(st.integers(0, 999)))
    except ValueError:  # some numbers do not go together
        assume(False)


@st.composite
def written(draw) -> Grammar:
    """Any names, places and poses that there can be."""
    part = st.builds(Part, st.sampled_from(SHAPES), st.tuples(NUMBER, NUMBER), st.floats(-1e6, 1e6))
    parts = st.lists(part, min_size=1, max_size=3).map(tuple)
    names = draw(st.lists(NAME, min_size=2, max_size=4, unique=True))
    try:
        return Grammar(tuple(Token(name, draw(parts)) for name in names))
    except ValueError:  # a name that is no folder's, or tokens that look the same
        assume(False)


class TestRoundTrip:
    @given(grammar=st.one_of(sampled(), written()))
    @PROPERTY
    def test_a_grammar_that_is_written_is_read_back_exactly(self, folder, grammar):
        back = read(folder, write_grammar(grammar))
        assert back == grammar
        assert write_grammar(back) == write_grammar(grammar)

    def test_the_default_grammar_is_read_back(self, folder):
        assert read(folder, write_grammar(DEFAULT_GRAMMAR)) == DEFAULT_GRAMMAR

    @pytest.mark.parametrize("value", [1e-5, -1e-300, 6.123233995736766e-17, 1.0, -0.0, 0.1 + 0.2])
    def test_numbers_are_read_back_to_the_last_bit(self, folder, value):
        grammar = Grammar((Token("a", (Part("bar", (value, -value), value),)), Token("b", (Part("arc", (0, 0)),))))
        part = read(folder, write_grammar(grammar)).tokens[0].parts[0]
        assert [*map(float.hex, (*part.place, part.pose + 0.0))] == [*map(float.hex, (value, -value, value + 0.0))]

    def test_what_is_written_is_plain_yaml_that_any_program_reads(self):
        content = yaml.safe_load(write_grammar(DEFAULT_GRAMMAR))
        assert list(content["tokens"]) == list(DEFAULT_GRAMMAR.names)
        assert content["tokens"]["wug"][3] == {"shape": "bar", "place": [0.5, 0.5], "pose": 90.0}
        assert content["tokens"]["dax"][0] == {"shape": "disk", "place": [-0.5, -0.5]}

    def test_a_name_that_yaml_takes_for_something_else_is_quoted_for_other_programs(self):
        grammar = Grammar((Token("no", (Part("disk", (0, 0)),)), Token("007", (Part("arc", (0, 0)),))))
        assert list(yaml.safe_load(write_grammar(grammar))["tokens"]) == ["no", "007"]


class TestReading:
    def test_tokens_by_hand(self, folder):
        text = """
        tokens:
          dax:
            - {shape: disk, place: [-0.5, 0]}
            - {shape: bar, place: [0.5, 1], pose: 90}
          wug:
            - shape: ring
              place: [0, 0.25]
        """
        assert read(folder, text) == Grammar(
            (
                Token("dax", (Part("disk", (-0.5, 0.0)), Part("bar", (0.5, 1.0), 90.0))),
                Token("wug", (Part("ring", (0.0, 0.25)),)),
            )
        )

    def test_a_sample_is_drawn_as_in_python(self, folder):
        asked = {"tokens": 8, "parts": 5, "arity": 4, "shared": 2, "seed": 7}
        assert read(folder, yaml.safe_dump({"sample": asked})) == Grammar.sample(**asked)

    def test_a_path_may_be_text(self, folder):
        (folder / "default.yaml").write_text(write_grammar(DEFAULT_GRAMMAR), encoding="utf-8")
        assert read_grammar(str(folder / "default.yaml")) == DEFAULT_GRAMMAR

    def test_a_name_is_what_is_written_whatever_yaml_makes_of_it(self, folder):
        named = zip(NAMES, SHAPES, strict=False)
        text = "tokens:\n" + "".join(f"  {name}: [{{shape: {shape}, place: [0, 0]}}]\n" for name, shape in named)
        assert read(folder, text).names == NAMES


NAMES = ("no", "007", "null", "1.50", "on", "2020-01-01")


class TestMissingFile:
    def test_a_name_that_is_near_is_suggested(self, tmp_path):
        (tmp_path / "birds.yaml").touch()
        (tmp_path / "other.yml").touch()
        with pytest.raises(FileNotFoundError) as error:
            read_grammar(tmp_path / "bird.yaml")
        assert str(error.value) == (
            f"data.grammar names a YAML file; there is no {tmp_path / 'bird.yaml'}. "
            f"Did you mean {tmp_path / 'birds.yaml'}?"
        )

    @pytest.mark.parametrize("path", ["zzz.yaml", "nowhere/birds.yaml", "."])
    def test_nothing_is_suggested_where_nothing_is_near(self, tmp_path, path):
        (tmp_path / "birds.yaml").touch()
        with pytest.raises(FileNotFoundError, match=r"^data\.grammar names a YAML file; there is no [^?]*\.$"):
            read_grammar(tmp_path / path)


class TestRefusals:
    """Each is one line and begins with the path; `refusal` checks that."""

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "A grammar is keys and values (tokens, sample); got None."),
            ("[a, b]", "A grammar is keys and values (tokens, sample); got ['a', 'b']."),
            ("just words", "A grammar is keys and values (tokens, sample); got 'just words'."),
            ("{}", "A grammar is either its tokens or how they are sampled; got ."),
            (
                f"tokens: {{{A}}}\nsample: {{}}",
                "A grammar is either its tokens or how they are sampled; got tokens, sample.",
            ),
            ("token: {}", "A grammar has the keys tokens, sample; got 'token'. Did you mean tokens?"),
            ("xyz: {}", "A grammar has the keys tokens, sample; got 'xyz'."),
            ("tokens: [a, b]", "tokens is keys and values; got ['a', 'b']."),
            ("tokens:", "tokens is keys and values; got None."),
            (f"tokens: {{{A}}}", "A grammar has two tokens or more; got 1."),
            (f"tokens: {{{A}, b: disk}}", "A token is a list of parts; 'b' is 'disk'."),
            (f"tokens: {{{A}, b: }}", "A token is a list of parts; 'b' is None."),
            (f"tokens: {{{A}, b: []}}", "A token has at least one part; 'b' has none."),
            (f"tokens: {{{A}, b: [disk]}}", "A part of 'b' is keys and values (shape, place, pose); got 'disk'."),
            (
                f"tokens: {{{A}, b: [{{shap: disk, place: [0, 0]}}]}}",
                "A part of 'b' has the keys shape, place, pose; got 'shap'. Did you mean shape?",
            ),
            (
                f"tokens: {{{A}, b: [{{shape: disc, place: [0, 0]}}]}}",
                f"A part's shape is one of {', '.join(SHAPES)}; 'b' has 'disc'. Did you mean disk?",
            ),
            (
                f"tokens: {{{A}, b: [{{place: [0, 0]}}]}}",
                f"A part's shape is one of {', '.join(SHAPES)}; 'b' has None.",
            ),
            (
                f"tokens: {{{A}, b: [{{shape: [disk], place: [0, 0]}}]}}",
                f"A part's shape is one of {', '.join(SHAPES)}; 'b' has ['disk']. Did you mean disk?",
            ),
            *(
                (
                    f"tokens: {{{A}, b: [{{shape: bar, place: {place}}}]}}",
                    f"A part's place is [x, y], each -1 to 1; the bar of 'b' has {got}.",
                )
                for place, got in [("0", "0"), ("[0]", "[0]"), ("[0, x]", "[0, 'x']"), ("[0, true]", "[0, True]")]
            ),
            (
                f"tokens: {{{A}, b: [{{shape: bar}}]}}",
                "A part's place is [x, y], each -1 to 1; the bar of 'b' has None.",
            ),
            (
                f"tokens: {{{A}, b: [{{shape: bar, place: [0, 1.5]}}]}}",
                "A part's place is x and y in -1 to 1; got (0.0, 1.5) for a bar.",
            ),
            (
                f"tokens: {{{A}, b: [{{shape: bar, place: [.nan, 0]}}]}}",
                "A part's place is x and y in -1 to 1; got (nan, 0.0) for a bar.",
            ),
            (
                f"tokens: {{{A}, b: [{{shape: bar, place: [0, 0], pose: up}}]}}",
                "A part's pose is a number of degrees; the bar of 'b' has 'up'.",
            ),
            (
                f"tokens: {{{A}, b: [{{shape: bar, place: [0, 0], pose: .inf}}]}}",
                "A part's pose is a number of degrees; got inf for a bar.",
            ),
            (f"tokens: {{{A}, {A}, {B}}}", "A key stands once; 'a' is there 2 times."),
            (f"tokens: {{{A}, {B}}}\ntokens: {{{A}, {B}}}", "A key stands once; 'tokens' is there 2 times."),
            (
                f"tokens: {{{A}, b: [{{shape: bar, place: [0, 0], place: [1, 1]}}]}}",
                "A key stands once; 'place' is there 2 times.",
            ),
            (f"tokens: {{{A}, x/y: [{{shape: bar, place: [0, 0]}}]}}", "A token's name can name a folder; got 'x/y'."),
            (
                f"tokens: {{{A}, b: [{{shape: disk, place: [0, 0], pose: 45}}]}}",
                "Tokens 'a' and 'b' look the same: equal parts, places and poses.",
            ),
            ("sample: 8", "sample is keys and values (tokens, parts, arity, shared, seed); got 8."),
            (
                "sample: {token: 8}",
                "sample has the keys tokens, parts, arity, shared, seed; got 'token'. Did you mean tokens?",
            ),
            ("sample: {tokens: 8}", "sample.parts is a whole number; got None."),
            *(
                (
                    f"sample: {{tokens: 8, parts: 5, arity: 4, shared: {value}, seed: 0}}",
                    f"sample.shared is a whole number; got {got}.",
                )
                for value, got in [("2.0", "2.0"), ("two", "'two'"), ("true", "True"), ("[2]", "[2]")]
            ),
            ("sample: {tokens: 8, parts: 5, arity: 4, shared: 5, seed: 0}", "sample.shared lies in 2 to 4; got 5."),
        ],
    )
    def test_what_is_wrong_is_said_with_what_would_be_right(self, folder, text, message):
        assert refusal(folder, text) == message

    @pytest.mark.parametrize(
        "text", ["tokens: {a: [", "tokens:\n\t- x", "a: b: c", "tokens: {[a, b]: 1}", "!!python/none x"]
    )
    def test_broken_yaml(self, folder, text):
        assert "line 1" in refusal(folder, text) or "line 2" in refusal(folder, text)

    def test_a_file_that_is_no_text(self, folder):
        (folder / "tokens.yaml").write_bytes(b"\xff\xfe\x00tokens")
        with pytest.raises(ValueError, match=r"tokens\.yaml: .*(utf-8|character)"):
            read_grammar(folder / "tokens.yaml")

    def test_a_sample_that_cannot_be(self, folder):
        message = refusal(folder, "sample: {tokens: 1000, parts: 2, arity: 3, shared: 2, seed: 0}")
        assert message.startswith("No grammar of 1000 tokens of 3 parts")
