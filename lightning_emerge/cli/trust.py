"""What a configuration may name. It is a program: what it names is imported and run.

One that lies in a run's folder may be a stranger's, so that it may name what networks, data and probes are made of, and
nothing else unless it is said.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Any, NoReturn

from jsonargparse import set_parsing_settings
from jsonargparse._common import parsing_settings

from lightning_emerge.cli.errors import UserError
from lightning_emerge.cli.parser import Parser
from lightning_emerge.store.layout import STORE
from lightning_emerge.store.regular import parse_yaml, read_regular

PACKAGES = ("lightning_emerge", "lightning", "torch", "torchvision")
HELP = (
    "modules, with commas between, that classes and functions in configurations may come from; "
    f"{','.join(PACKAGES)} if none are given and a configuration lies in a run's folder, as that is a program "
    "and may be a stranger's"
)
_RUN = (STORE, "fit.json", "hparams.yaml")
_MADE_OF = {"torch": ("nn", "optim", "utils"), "torch.utils": ("data",)}
"""Of torch, what networks and data are made of; its other modules compile, load, download and start processes."""
_FUNCTIONS = "torch._C._nn"  # of torch.nn.functional
ROOMS_DENIED = ("__main__", "analysis", "board", "cli", "engine", "loops", "report", "sinks", "store")
"""Rooms of this package that read and write files, start processes or run other configurations."""
_OTHERS = (
    *(f"lightning_emerge.{room}" for room in ROOMS_DENIED),
    *(f"lightning.fabric.{room}" for room in ("cli", "fabric", "utilities")),
    *(f"lightning.pytorch.{room}" for room in ("cli", "core.saving", "serve", "trainer", "tuner", "utilities")),
    "lightning.pytorch.core.module.LightningModule.load_from_checkpoint",
    "lightning.pytorch.core.datamodule.LightningDataModule.load_from_checkpoint",
    "torch.utils.data.datapipes",  # they unpickle
    *(f"torchvision.datasets.{module}" for module in ("lsun", "LSUN", "LSUNClass", "utils")),
)
_MOST, _LONG = 1 << 20, 1000
_DENIED = re.compile(r"Importing '([\w.]+)' is not allowed")
_SAID = re.compile(r"A configuration is a program; [^\n]*")
_DOTTED = re.compile(r"([A-Za-z_]\w*)(\.[A-Za-z_]\w*)+", re.ASCII)
_CLASS_PATH = re.compile(r"""class_path["']?\s*:\s*["']?([A-Za-z_]\w*)\.""", re.ASCII)


class TrustingParser(Parser):
    """Says of a name that is refused what to do."""

    allowed: tuple[str, ...] = PACKAGES

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        found, said = _DENIED.search(message), _SAID.search(message)
        if said is not None:  # by the parser of an argument of an argument
            raise UserError(said[0])
        if found is None:
            super().error(message, ex)
        raise UserError(_refusal(found[1], self.allowed))


@contextmanager
def trusting(arguments: Sequence[str]) -> Iterator[type[Parser]]:
    """Has configurations name what is trusted, while they are parsed and what they name is made.

    Args:
        arguments: of the command line. `--only` says what is trusted. Without it that is the packages above and what
            stands in the command itself and in configurations elsewhere, if a configuration lies in a run's folder;
            and everything if none does.

    Raises:
        UserError: if a configuration in a run's folder is no plain file, or without `--only` none that a fit would
            write, or `--only` has no names.
    """
    own, elsewhere = _find_configurations(arguments)
    only = _find_only(arguments)
    own += ["-"] if {"-", "--config=-", "-c-"} & set(arguments) else []  # nobody knows whose it is
    for path in [one for one in own if one != "-"]:
        _check(path, trusted=only is not None)
    if only is None and not own:
        yield TrustingParser
        return
    allowed = only or (*PACKAGES, *sorted(_name_modules(arguments, elsewhere) - {*PACKAGES}))
    before: dict[str, Any] = dict(parsing_settings)
    try:
        _allow(allowed)
        yield type("TrustingParser", (TrustingParser,), {"allowed": allowed})
    finally:
        parsing_settings.update(before)


def _allow(names: Sequence[str]) -> None:
    also = [_FUNCTIONS] if "torch" in names else []
    denied = ["*", *_rest_of_torch(), *_OTHERS]
    try:
        set_parsing_settings(import_path_denylist=denied, import_path_allowlist=[*names, *also])
    except ValueError as error:
        raise UserError(f"--only is a list of modules with commas between; got {','.join(names)}.") from error


def _find_configurations(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The files among the words of a command: those in a run's folder, and the others."""
    words = [part for word in arguments for part in (word, word.partition("=")[2], word.removeprefix("-c")) if part]
    places = {os.path.expanduser(word.removeprefix("file://")) for word in words}  # as the parser reads them
    files = sorted(place for place in places if os.path.lexists(place) and not os.path.isdir(place))
    runs = _find_runs(arguments)
    own = [file for file in files if _is_in_a_run(file, runs) or _is_in_a_run(os.path.realpath(file), runs)]
    return own, [file for file in files if file not in own]


def _find_runs(arguments: Sequence[str]) -> set[str]:
    """The folders of checkpoints that a command names, and those that these lie in, which are runs."""
    folders: set[str] = set()
    for given in _values(arguments, "--checkpoints"):
        place = os.path.realpath(os.path.expanduser(given))
        folders |= {place, os.path.dirname(place)}
    here = os.path.realpath(os.getcwd())  # which is the user's own, with all that lies in it
    return {folder for folder in folders if os.path.commonpath([here, folder]) != folder}


def _is_in_a_run(file: str, runs: set[str]) -> bool:
    folder = os.path.dirname(os.path.abspath(file))
    if os.path.lexists(f"{folder}/checkpoints"):
        return True
    while True:
        if os.path.realpath(folder) in runs or any(os.path.lexists(f"{folder}/{name}") for name in _RUN):
            return True
        if folder == os.path.dirname(folder):
            return False
        folder = os.path.dirname(folder)


def _check(path: str, *, trusted: bool) -> None:
    """Refuses what would never be read to its end; a file that the user trusts may have aliases, as one's own do."""
    rule = "A configuration in a run's folder is a plain file of YAML"
    try:
        content = read_regular(os.path.realpath(path), _MOST)
    except ValueError as error:
        raise UserError(f"{rule}; {path} cannot be read: it {error}.") from error
    except OSError as error:
        raise UserError(f"{rule}; {path} cannot be read: {error.strerror or error}.") from error
    try:
        if not trusted:
            _check_strings(parse_yaml(content.decode()))
    except ValueError as error:
        hint = f"If you trust it: --only {','.join(PACKAGES)}"
        raise UserError(f"{rule} as a fit writes it; {path} is not: {error}. {hint}") from error


def _check_strings(value: Any) -> None:
    """Refuses what the parser would read on from: other files, and text that is YAML again.

    Raises:
        ValueError: if a fit would not have written it.
    """
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if "config" in one:
                raise ValueError("it names a further configuration (config)")
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
        elif isinstance(one, str):
            _check_string(one)


def _check_string(text: str) -> None:
    if text.lstrip()[:1] in ("[", "{") and ("&" in text or "*" in text or len(text) > _LONG):
        raise ValueError(f"it has YAML within text ({text[:40]}...)")
    if "\0" not in text and len(text) < 4096 and os.path.lexists(text) and not os.path.isdir(text):
        if not os.path.isfile(text):
            raise ValueError(f"it names {text}, which is no plain file")
        if text.endswith((".yaml", ".yml", ".json")):
            raise ValueError(f"it names a further file ({text})")


def _find_only(arguments: Sequence[str]) -> tuple[str, ...] | None:
    """What `--only` says in the command; what a configuration says of it does not count."""
    given = _values(arguments, "--only")
    return tuple(name.strip() for name in given[-1].split(",")) if given else None


def _values(arguments: Sequence[str], option: str) -> list[str]:
    """What follows an option in a command, each time that it stands there, as the next word or behind `=`."""
    pairs = zip(arguments, [*arguments[1:], ""], strict=True)
    return [
        after if word == option else word.partition("=")[2]
        for word, after in pairs
        if word == option or word.startswith(f"{option}=")
    ]


def _name_modules(arguments: Sequence[str], files: Sequence[str]) -> set[str]:
    """The modules that the user names: in the command, and by `class_path` in configurations of the user's own."""
    words = [part for word in arguments for part in (word, word.partition("=")[2]) if not os.path.lexists(part)]
    found = {dotted[1] for word in words if (dotted := _DOTTED.fullmatch(word))}
    for file in files:
        try:
            found |= set(_CLASS_PATH.findall(read_regular(os.path.realpath(file), _MOST).decode(errors="replace")))
        except (OSError, ValueError):  # for the parser to say
            continue
    return found - {"jsonargparse"}


def _rest_of_torch() -> list[str]:
    found: list[str] = []
    for package, kept in _MADE_OF.items():
        spec = find_spec(package)
        places = (spec.submodule_search_locations if spec else None) or []
        found += [f"{package}.{one.name}" for one in iter_modules(places) if one.name not in kept]
    return found


def _refusal(name: str, allowed: Sequence[str]) -> str:
    top, module = name.partition(".")[0], name.rpartition(".")[0]
    wanted = ",".join([*allowed, module if top in PACKAGES else top])
    return (
        f"A configuration is a program; of one in a run's folder, or with --only, names come from {', '.join(allowed)} "
        f"and there from what networks, data and probes are made of; got {name}. If you trust it: --only {wanted}"
    )
