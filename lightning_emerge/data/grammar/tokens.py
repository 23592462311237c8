"""The grammar: which parts, at which places and in which poses, make which token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import combinations
from math import isfinite

import numpy as np
import numpy.typing as npt

from lightning_emerge.data.grammar.sampling import sample_tokens
from lightning_emerge.data.grammar.shapes import SHAPES, visible_pose
from lightning_emerge.data.names import check_token


@dataclass(frozen=True)
class Part:
    """A shape at a place, in a pose.

    Attributes:
        shape: a name from `lightning_emerge.data.grammar.shapes.SHAPES`.
        place: (x, y) of its centre in the token's frame: -1 to 1, x to the right, y downwards.
        pose: rotation about its own centre, in degrees, clockwise.

    Raises:
        ValueError: if the shape is unknown, the place is outside the frame, or the pose is no angle.
    """

    shape: str
    place: tuple[float, float]
    pose: float = 0.0

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise ValueError(f"A part's shape is one of {', '.join(SHAPES)}; got {self.shape!r}.")
        if len(self.place) != 2 or not all(-1 <= value <= 1 for value in self.place):
            raise ValueError(f"A part's place is x and y in -1 to 1; got {self.place} for a {self.shape}.")
        if not isfinite(self.pose):
            raise ValueError(f"A part's pose is a number of degrees; got {self.pose} for a {self.shape}.")

    @property
    def appearance(self) -> Part:
        """The same part in the smallest pose that looks the same."""
        return Part(self.shape, self.place, visible_pose(self.shape, self.pose))

    def __str__(self) -> str:
        x, y = self.place
        pose = visible_pose(self.shape, self.pose)
        return f"{self.shape} at ({x:g}, {y:g})" + (f", {pose:g}°" if pose else "")


@dataclass(frozen=True)
class Token:
    """One identity to be learned: a conjunction of parts in an arrangement."""

    name: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class GrammarTable:
    """Which parts stand in which tokens.

    Attributes:
        parts: every part at its place and in its pose, once.
        tokens: names of the tokens.
        stands: bool array (part, token).
        shared: for each pair of tokens, the conjunction of parts that both have; empty if they share none.
    """

    parts: tuple[Part, ...]
    tokens: tuple[str, ...]
    stands: npt.NDArray[np.bool_]
    shared: Mapping[tuple[str, str], tuple[Part, ...]]


@dataclass(frozen=True)
class Grammar:
    """The tokens of a task and, by counting, what can and cannot tell them apart.

    Attributes:
        tokens: the tokens, each with a name of its own.

    Raises:
        ValueError: if there are fewer than two tokens, two have one name or look the same, or one has no parts or two
            parts at one place.
    """

    tokens: tuple[Token, ...]

    def __post_init__(self) -> None:
        names = [token.name for token in self.tokens]
        if len(names) < 2:
            raise ValueError(f"A grammar has two tokens or more; got {len(names)}.")
        for name, times in Counter(names).items():
            if times > 1:
                raise ValueError(f"Each token has a name of its own; got {name!r} {times} times.")
        appearances: dict[frozenset[Part], str] = {}
        for token in self.tokens:
            _check_token(token)
            twin = appearances.setdefault(_appearances(token), token.name)
            if twin != token.name:
                raise ValueError(f"Tokens {twin!r} and {token.name!r} look the same: equal parts, places and poses.")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tokens, in the order of their labels."""
        return tuple(token.name for token in self.tokens)

    @property
    def arity(self) -> int:
        """How many parts the token with the most of them has."""
        return max(len(token.parts) for token in self.tokens)

    @classmethod
    def sample(cls, tokens: int, parts: int, arity: int, shared: int, seed: int) -> Grammar:
        """Samples a grammar that passes its check.

        Args:
            tokens: how many tokens, 4 to 1,000. (With three, a cue that differs is in one token alone or lacks in one.)
            parts: how many shapes they are made of, 2 to 9.
            arity: parts of each token, 3 to 7.
            shared: how many tokens, at least, each part at its place stands in; 2 to half the tokens. The more, the
                larger a conjunction it takes to tell a token.
            seed: of the sample.

        Raises:
            ValueError: if an argument is out of its range, or no such grammar was found.
        """
        found = sample_tokens(tokens, parts, arity, shared, seed, lambda tried: cls._of(tried)._passes())
        return cls._of(found)

    @classmethod
    def _of(cls, sampled: Mapping[str, Sequence[tuple[str, tuple[float, float], float]]]) -> Grammar:
        return cls(tuple(Token(name, tuple(Part(*part) for part in parts)) for name, parts in sampled.items()))

    def _passes(self) -> bool:
        try:
            self.check()
        except ValueError:
            return False
        return True

    def check(self) -> None:
        """Proves by counting that only a conjunction in its arrangement tells which token an image shows.

        Raises:
            ValueError: if one shape, one pair of shapes, or one part at its place and pose stands in a single token, or
                in all but one (and so tells it), or if no two tokens have the same shapes in another arrangement.
        """
        shapes = [sorted(part.shape for part in token.parts) for token in self.tokens]
        self._refuse_tell("The shape", [set(bag) for bag in shapes])
        self._refuse_tell("The pair of shapes", [{" and ".join(two) for two in combinations(bag, 2)} for bag in shapes])
        self._refuse_tell("The part", [_appearances(token) for token in self.tokens])
        if len({tuple(bag) for bag in shapes}) == len(shapes):
            raise ValueError("At least two tokens have the same shapes in another arrangement; here no two have.")

    def table(self) -> GrammarTable:
        """Counts which parts stand in which tokens, and which conjunctions tokens share."""
        appearances = [_appearances(token) for token in self.tokens]
        parts = tuple(dict.fromkeys(part.appearance for token in self.tokens for part in token.parts))
        stands = np.array([[part in own for own in appearances] for part in parts])
        shared = {
            (self.names[a], self.names[b]): tuple(part for part in parts if part in appearances[a] & appearances[b])
            for a, b in combinations(range(len(appearances)), 2)
        }
        return GrammarTable(parts, self.names, stands, shared)

    def telling(self, token: str) -> tuple[tuple[Part, ...], ...]:
        """Finds the smallest conjunctions of parts that stand in one token alone: what a network could tell it by.

        Args:
            token: the token's name.

        Returns:
            Conjunctions none of which contains another, the smaller ones first.
        """
        own = self.tokens[self.names.index(token)]
        others = [_appearances(other) for other in self.tokens if other.name != token]
        found: list[tuple[Part, ...]] = []
        for size in range(1, len(own.parts) + 1):
            for conjunction in combinations([part.appearance for part in own.parts], size):
                known = any(set(smaller) <= set(conjunction) for smaller in found)
                if not known and not any(set(conjunction) <= other for other in others):
                    found.append(conjunction)
        return tuple(found)

    def _refuse_tell(self, what: str, cues: Sequence[AbstractSet[Hashable]]) -> None:
        holders = Counter(cue for own in cues for cue in own)
        for name, own in zip(self.names, cues, strict=True):
            telling = [cue for cue in own if holders[cue] == 1]
            lacking = [cue for cue in holders if holders[cue] == len(cues) - 1 and cue not in own]
            if telling:
                raise ValueError(
                    f"{what} {min(map(str, telling))} stands in token {name!r} alone, so it tells the token by itself."
                )
            if lacking:
                raise ValueError(
                    f"{what} {min(map(str, lacking))} stands in all tokens but {name!r}, so its absence tells it."
                )


def _appearances(token: Token) -> frozenset[Part]:
    return frozenset(part.appearance for part in token.parts)


def _check_token(token: Token) -> None:
    if not token.name or set(check_token(token.name)) & set("/\\") or token.name.startswith("."):
        raise ValueError(f"A token's name can name a folder; got {token.name!r}.")
    if not token.parts:
        raise ValueError(f"A token has at least one part; {token.name!r} has none.")
    place, times = Counter(part.place for part in token.parts).most_common(1)[0]
    if times > 1:
        raise ValueError(f"The parts of a token have different places; {token.name!r} has {times} at {place}.")


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
