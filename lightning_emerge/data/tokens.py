"""The grammar: which parts, at which places and in which poses, make which token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import combinations

from lightning_emerge.data.shapes import SHAPES


@dataclass(frozen=True)
class Part:
    """A shape at a place, in a pose.

    Attributes:
        shape: a name from `lightning_emerge.data.shapes.SHAPES`.
        place: (x, y) of its centre in the token's frame: -1 to 1, x to the right, y downwards.
        pose: rotation about its own centre, in degrees, clockwise.
    """

    shape: str
    place: tuple[float, float]
    pose: float = 0.0


@dataclass(frozen=True)
class Token:
    """One identity to be learned: a conjunction of parts in an arrangement."""

    name: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Grammar:
    """The tokens of a task and, by counting, what can and cannot tell them apart.

    Attributes:
        tokens: the tokens, each with a name of its own.

    Raises:
        ValueError: if two tokens have one name or one set of parts, or a shape is unknown.
    """

    tokens: tuple[Token, ...]

    def __post_init__(self) -> None:
        names = [token.name for token in self.tokens]
        if len(set(names)) != len(names):
            raise ValueError(f"Each token has a name of its own; got {names}.")
        if len({frozenset(token.parts) for token in self.tokens}) != len(names):
            raise ValueError("Two tokens of the grammar have the same parts in the same places and poses.")
        for shape in {part.shape for token in self.tokens for part in token.parts}:
            if shape not in SHAPES:
                raise ValueError(f"A part's shape is one of {', '.join(SHAPES)}; got {shape!r}.")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tokens, in the order of their labels."""
        return tuple(token.name for token in self.tokens)

    def check(self) -> None:
        """Proves by counting that only a conjunction in its arrangement tells which token an image shows.

        Raises:
            ValueError: if one shape, one pair of shapes, or one part at its place and pose stands in a single token, or
                in all but one (and so tells it), or if no two tokens have the same shapes in another arrangement.
        """
        shapes = [sorted(part.shape for part in token.parts) for token in self.tokens]
        self._refuse_tell("The shape", [set(bag) for bag in shapes])
        self._refuse_tell("The pair of shapes", [set(combinations(bag, 2)) for bag in shapes])
        self._refuse_tell("The part at its place", [set(token.parts) for token in self.tokens])
        if len({tuple(bag) for bag in shapes}) == len(shapes):
            raise ValueError("At least two tokens have the same shapes in another arrangement; here no two have.")

    def _refuse_tell(self, what: str, cues: Sequence[AbstractSet[Hashable]]) -> None:
        holders = Counter(cue for own in cues for cue in own)
        for name, own in zip(self.names, cues, strict=True):
            telling = [cue for cue in own if holders[cue] == 1]
            lacking = [cue for cue in holders if holders[cue] == len(cues) - 1 and cue not in own]
            if telling:
                raise ValueError(
                    f"{what} {telling[0]} stands in token {name!r} alone, so it tells the token by itself."
                )
            if lacking:
                raise ValueError(f"{what} {lacking[0]} stands in all tokens but {name!r}, so its absence tells it.")


def _default() -> Grammar:
    """Five of the eight corners of a cube whose edges are three choices.

    The choices are: disk left of cross or cross left of disk; ring or triangle below; the bar lying or standing. Each
    value of each choice stands in two or three tokens, so none tells a token by itself.
    """
    pairs = ((("disk", "cross"), "ring", 0.0), (("disk", "cross"), "triangle", 90.0), (("cross", "disk"), "ring", 90.0))
    pairs += ((("cross", "disk"), "triangle", 0.0), (("cross", "disk"), "triangle", 90.0))
    names = ("dax", "wug", "blick", "fep", "toma")
    left, right, low_left, low_right = (-0.5, -0.5), (0.5, -0.5), (-0.5, 0.5), (0.5, 0.5)
    tokens = (
        Token(name, (Part(top[0], left), Part(top[1], right), Part(low, low_left), Part("bar", low_right, pose)))
        for name, (top, low, pose) in zip(names, pairs, strict=True)
    )
    return Grammar(tuple(tokens))


DEFAULT_GRAMMAR = _default()
