"""The configurations of the package: by name in every command, and copied by `lightning init`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from lightning_emerge.cli.errors import PlainParser, UserError, forgive
from lightning_emerge.cli.shipped import HOME, names

_OPTIONS = ("--config", "-c", "--data.grammar")


def find_by_name(words: Sequence[str]) -> list[str]:
    """Replaces names of the package's configurations and grammars by their paths, in the words of a command.

    What lies where the command is given comes first: the file `vgg5`, then `vgg5.yaml`, then the package's own.
    """
    found = list(words)
    for place, word in enumerate(words):
        option, equals, value = word.partition("=")
        if option in _OPTIONS and equals:
            found[place] = f"{option}={_find(value)}"
        elif word.startswith("-c") and word != "-c":
            found[place] = f"-c{_find(word[2:])}"
        elif place and words[place - 1] in _OPTIONS:
            found[place] = _find(word)
    return found


def _find(name: str) -> str:
    here = os.path.expanduser(name)
    if os.path.lexists(here) and not os.path.isdir(here):
        return name
    if os.path.isfile(f"{here}.yaml"):
        return f"{name}.yaml"
    return str(HOME / f"{name}.yaml") if name in names() else name


def copy_configurations(arguments: Sequence[str]) -> None:
    """Copies the package's configurations into a folder; nothing is overwritten.

    Raises:
        UserError: if the arguments are not as they have to be, or a file of one of their names is there.
    """
    parser = PlainParser(
        "lightning init",
        "`lightning init FOLDER` copies the configurations of the package into a folder",
        "Copy the configurations of the package into a folder, to change them there.",
    )
    parser.add_argument("folder", help="folder to copy into, which is made if it is not there")
    folder = Path(parser.parse_args(arguments).folder)
    files = {folder / f"{name}.yaml": HOME / f"{name}.yaml" for name in names()}
    there = [path for path in files if os.path.lexists(path)]
    if there:
        raise UserError(
            f"`lightning init FOLDER` overwrites nothing; {there[0]} is there already"
            f"{f', and {len(there) - 1} more' if there[1:] else ''}. Name another folder."
        )
    for path, source in files.items():
        forgive(lambda path=path, source=source: _copy(source, path))
    print(f"{len(files)} configurations are in {folder}\nBegin     lightning fit --config {folder / 'vgg5.yaml'}")


def _copy(source: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "xb") as file:  # not through a link that somebody has put there meanwhile
        file.write(source.read_bytes())
