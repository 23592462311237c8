"""Grammars in files: YAML that a user writes, and that `lightning data` leaves beside its images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from difflib import get_close_matches
from math import inf
from pathlib import Path
from typing import Any

import yaml

from lightning_emerge.data.grammar.shapes import SHAPES
from lightning_emerge.data.grammar.tokens import Grammar, Part, Token

_SAMPLE = ("tokens", "parts", "arity", "shared", "seed")


def read_grammar(path: str | Path) -> Grammar:
    """Reads a grammar that has been written out, or samples one that a file asks for.

    A file is either ::

        tokens:
          dax:
            - {shape: disk, place: [-0.5, 0]}
            - {shape: bar, place: [0.5, 0], pose: 90}
          ...

    or, to sample one (see `lightning_emerge.data.grammar.tokens.Grammar.sample`)::

        sample: {tokens: 8, parts: 6, arity: 4, shared: 2, seed: 0}

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not as above.
    """
    path = Path(path)
    if not path.is_file():
        near = get_close_matches(path.name, [other.name for other in path.parent.glob("*.y*ml")], 1)
        hint = f" Did you mean {path.parent / near[0]}?" if near else ""
        raise FileNotFoundError(f"data.grammar names a YAML file; there is no {path}.{hint}")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _SafeLoader)
        return _grammar(content)
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None


def write_grammar(grammar: Grammar) -> str:
    """Writes a grammar as YAML that `read_grammar` reads."""
    lines = ["tokens:"]
    for token in grammar.tokens:
        lines.append(f"  {_plain(token.name)}:")
        for part in token.parts:
            place = ", ".join(map(_plain, map(float, part.place)))
            pose = f", pose: {_plain(float(part.pose))}" if part.pose else ""
            lines.append(f"    - {{shape: {part.shape}, place: [{place}]{pose}}}")
    return "\n".join(lines) + "\n"


class _SafeLoader(yaml.SafeLoader):
    """Reads keys as they are written (a token may be called `no` or `007`), and each once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and not key.tag.endswith(":merge")]
        for name, times in Counter(key.value for key in keys).items():
            if times > 1:
                raise ValueError(f"A key stands once; {name!r} is there {times} times.")
        for key in keys:
            key.tag = "tag:yaml.org,2002:str"
        return super().construct_mapping(node, deep)


def _plain(value: str | float) -> str:
    """A name or number as YAML that reads as the same: quoted, or with a point, where it has to be."""
    quote = '"' if isinstance(value, str) and not value.isidentifier() else None
    return yaml.safe_dump(value, default_style=quote, allow_unicode=True, width=inf).split("\n")[0]


def _grammar(content: Any) -> Grammar:
    content = _mapping(content, "A grammar", ("tokens", "sample"))
    if len(content) != 1:
        raise ValueError(f"A grammar is either its tokens or how they are sampled; got {_list(content)}.")
    if "sample" in content:
        wanted = _mapping(content["sample"], "sample", _SAMPLE)
        for name in _SAMPLE:
            if type(wanted.get(name)) is not int:
                raise ValueError(f"sample.{name} is a whole number; got {wanted.get(name)!r}.")
        return Grammar.sample(**wanted)
    tokens = _mapping(content["tokens"], "tokens")
    return Grammar(tuple(_token(str(name), parts) for name, parts in tokens.items()))


def _token(name: str, parts: Any) -> Token:
    if not isinstance(parts, list):
        raise ValueError(f"A token is a list of parts; {name!r} is {parts!r}.")
    return Token(name, tuple(_part(name, part) for part in parts))


def _part(token: str, content: Any) -> Part:
    content = _mapping(content, f"A part of {token!r}", ("shape", "place", "pose"))
    shape, place, pose = content.get("shape"), content.get("place"), content.get("pose", 0.0)
    if shape not in SHAPES:
        raise ValueError(
            f"A part's shape is one of {', '.join(SHAPES)}; {token!r} has {shape!r}.{_near(shape, SHAPES)}"
        )
    if not (isinstance(place, list) and len(place) == 2 and all(map(_is_number, place))):
        raise ValueError(f"A part's place is [x, y], each -1 to 1; the {shape} of {token!r} has {place!r}.")
    if not _is_number(pose):
        raise ValueError(f"A part's pose is a number of degrees; the {shape} of {token!r} has {pose!r}.")
    return Part(shape, (float(place[0]), float(place[1])), float(pose))


def _mapping(content: Any, what: str, keys: tuple[str, ...] = ()) -> Mapping[str, Any]:
    if not isinstance(content, dict):
        raise ValueError(f"{what} is keys and values{f' ({_list(keys)})' if keys else ''}; got {content!r}.")
    for key in content:
        if keys and key not in keys:
            raise ValueError(f"{what} has the keys {_list(keys)}; got {key!r}.{_near(key, keys)}")
    return content


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _list(names: Any) -> str:
    return ", ".join(map(str, names))


def _near(name: Any, names: tuple[str, ...]) -> str:
    close = get_close_matches(str(name), names, 1, cutoff=0.5)
    return f" Did you mean {close[0]}?" if close else ""
