"""A user's mistake in one line: the rule, what came, and the nearest valid name."""

from __future__ import annotations

import argparse
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn, TypeVar

from lightning_emerge.cli.overview import COMMANDS
from lightning_emerge.cli.shipped import names

_Made = TypeVar("_Made")


class UserError(Exception):
    """A mistake in what the user wrote, to be shown without a traceback."""


class PlainParser(argparse.ArgumentParser):
    """A parser of few arguments, whose mistakes are `UserError`s that begin with how the command is used.

    Args:
        prog: the command.
        usage_rule: how it is used, as "`lightning board [DIR]` opens a folder of runs".
        description: what `--help` says of it.
    """

    def __init__(self, prog: str, usage_rule: str, description: str) -> None:
        super().__init__(prog, description=description)
        self.usage_rule = usage_rule

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.usage_rule}; {message}.")


def forgive(step: Callable[[], _Made], *also: type[Exception]) -> _Made:
    """Runs a step in which what goes wrong is the user's to mend, and says it in one line.

    Args:
        step: what to run.
        also: further errors that the user can mend at this step.

    Raises:
        UserError: if the step raises what the user can mend.
    """
    try:
        return step()
    except Exception as error:
        # Here, as importing Lightning takes seconds, which `lightning board` and the like do without.
        from lightning.fabric.utilities.exceptions import MisconfigurationException

        mistakes = (ValueError, TypeError, OSError, ImportError, MisconfigurationException, *also)
        root: BaseException = error
        while root.__cause__ is not None:
            root = root.__cause__
        if not (isinstance(error, mistakes) and isinstance(root, mistakes)):
            raise
        raise UserError(explain(str(root), [])) from error


def explain(message: str, options: Sequence[str]) -> str:
    """Turns the parser's message, which may be a tree of attempts, into one line.

    Args:
        message: what the parser or a constructor said.
        options: names of the options that the command has, such as "trainer.max_epochs".
    """
    for pattern, say in _RULES:
        found = re.search(pattern, message, re.DOTALL)
        if found:
            return say(found, message, options)
    return " ".join(line.strip() for line in message.strip().splitlines() if line.strip())


def nearest(name: str, names: Iterable[str]) -> str:
    """Words a question after the nearest of some names, or nothing if none is near."""
    close = get_close_matches(name, list(names), 1, cutoff=0.5)
    return f" Did you mean {close[0]}?" if close else ""


_Say = Callable[[re.Match[str], str, Sequence[str]], str]


def _unknown_option(found: re.Match[str], _message: str, options: Sequence[str]) -> str:
    name = found[1].lstrip("-").split("=")[0]
    return f"Options are those that `--help` lists; there is no option --{name}.{_near_option(name, options, '--')}"


def _unknown_key(found: re.Match[str], _message: str, options: Sequence[str]) -> str:
    name = found[1]
    near = _near_option(name, options)
    return f"A configuration's keys are those that `--print_config` prints; there is no {name}.{near}"


def _near_option(name: str, options: Sequence[str], dashes: str = "") -> str:
    """Compares the first word that is wrong, so that a long tail does not hide it."""
    words = name.split(".")
    for depth in range(1, len(words) + 1):
        known = {".".join(option.split(".")[:depth]) for option in options}
        head = ".".join(words[:depth])
        if head not in known:
            close = get_close_matches(head, sorted(known), 1, cutoff=0.5)
            return f" Did you mean {dashes}{'.'.join([close[0], *words[depth:]])}?" if close else ""
    return ""


def _unknown_argument(found: re.Match[str], message: str, _options: Sequence[str]) -> str:
    name = found[1]
    before = re.findall(r"class_path '([\w.]+)'", message[: found.start()])
    owner = before[-1] if before else ""
    names = _arguments(owner)
    return f"{owner} takes {', '.join(names)}; it has no argument {name!r}.{nearest(name, names)}"


def _unknown_attribute(found: re.Match[str], _message: str, _options: Sequence[str]) -> str:
    module, name = found[1], found[2]
    names = [known for known in dir(sys.modules.get(module)) if known[:1].isupper()]
    return f"A class_path names a class that can be imported; there is no {module}.{name}.{nearest(name, names)}"


def _unknown_module(found: re.Match[str], _message: str, _options: Sequence[str]) -> str:
    near = nearest(found[1], ["lightning_emerge", "lightning", "torch", "torchvision"])
    return f"A class_path names a class that can be imported; there is no module {found[1]!r}.{near}"


def _wrong_value(found: re.Match[str], message: str, _options: Sequence[str]) -> str:
    value = found[2].strip()
    keys = re.findall(r'Parser key "([^"]+)"', message[: found.start()])
    kinds = re.findall(
        r"Expected a (.*?)(?:\. Got value.*)?$", found[0][: found.start(2) - found.start()], re.MULTILINE
    )
    allowed = re.findall(r"'([^']+)'", " ".join(kind for kind in kinds if "Literal" in kind))
    wanted = " or ".join(_plain(kind) for kind in kinds)
    return f"{'.'.join(keys) or 'The value'} is {wanted}; got {value!r}.{nearest(value, allowed)}"


def _plain(kind: str) -> str:
    kind = re.sub(r"<class '(?:builtins\.)?([\w.]+)'>", r"\1", kind.strip())
    return re.sub(r"(?:typing\.)?Literal\[(.*)\]", r"one of \1", kind).replace("NoneType", "null")


def _missing_file(found: re.Match[str], _message: str, _options: Sequence[str]) -> str:
    path = Path(os.path.relpath(found[1])) if found[1].startswith(f"{Path.cwd()}/") else Path(found[1])
    known = {path.name: str(path) for path in path.parent.glob("*.yaml")} | {name: name for name in names()}
    near = get_close_matches(path.name, known, 1, cutoff=0.5) or get_close_matches(str(path), known, 1, cutoff=0.5)
    hint = f" Did you mean {known[near[0]]}?" if near else ""
    return f"--config names a file, or a configuration of the package; there is no {path}.{hint}"


def _unknown_command(found: re.Match[str], _message: str, _options: Sequence[str]) -> str:
    return f"The commands are {', '.join(COMMANDS)}; got {found[1]!r}.{nearest(found[1], list(COMMANDS))}"


def _torn_chunk(found: re.Match[str], _message: str, _options: Sequence[str]) -> str:
    return (
        f"Records are read as they were written; a chunk of them is damaged ({found[1]}). `lightning report` names it, "
        "and shows the rest."
    )


_NEEDED = {
    "out": "--out names what to write; it is missing.",
    "checkpoints": "--checkpoints names a folder of checkpoints, as runs/vgg5/version_0/checkpoints; it is missing.",
}


def _missing(found: re.Match[str], _message: str, _options: Sequence[str]) -> str:
    keys = ", ".join(key.strip().split(".")[-1] for key in found[1].split(","))
    if keys in _NEEDED:
        return _NEEDED[keys]
    return f"A model and data are needed; missing: {keys}. Give a configuration, such as --config vgg5."


_RULES: tuple[tuple[str, _Say], ...] = (
    (r"(Zstd decompression error: [^\n]*)", _torn_chunk),
    (r"unrecognized arguments?: (\S+)", _unknown_option),
    (r"does not accept option '([^']+)'", _unknown_key),
    (r"Key '([^']+)' is not expected", _unknown_key),
    (r"Option '([^']+)' is not accepted", _unknown_argument),
    (r"module '([\w.]+)' has no attribute '(\w+)'", _unknown_attribute),
    (r"No ([\w.]+) attribute (\w+)", _unknown_attribute),
    (r"No module named '([\w.]+)'", _unknown_module),
    (r"invalid choice: '(\w*)' \(choose from .*\)", _unknown_command),
    (r"arguments are required: (.*)", _missing),
    (r"File does not exist: '([^']+)'", _missing_file),
    (r"Expected a ([^\n]*?)\. Got value: ([^\n]*)", _wrong_value),
    (r"((?:[^\n]*Expected a [^\n]*\n)+)\s*(?:Given value type: [^\n]*\n\s*)?Given value: ([^\n]*)", _wrong_value),
)


def _arguments(class_path: str) -> list[str]:
    module, _, name = class_path.rpartition(".")
    if not module:
        return []
    # Never imported here: a message may quote what somebody else wrote. What the parser could name it has imported.
    kind = getattr(sys.modules.get(module), name, None)
    return [argument for argument in inspect.signature(kind).parameters if argument != "self"] if kind else []
