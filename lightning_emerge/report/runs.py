"""Runs side by side: what each is called, and which are of one configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lightning_emerge.store.folder import Folder
from lightning_emerge.store.layout import CONFIG, FIT, STORE
from lightning_emerge.store.places import is_url
from lightning_emerge.store.read import Run

_BESIDE = ("seed_everything", "seed", "logger", "default_root_dir", "save_dir", "dirpath")
"""Keys in which runs of one configuration may differ: seeds, and where things are written."""
_GONE_ON = (None, "last", "hpc", "registry")
"""Values of `ckpt_path` with which a run goes on from itself, if at all."""
_MOST_GROUPS = 8
"""Configurations that can be told apart in one chart."""
_OF_A_RUN = (STORE, CONFIG, FIT, "checkpoints", "hparams.yaml")


def read_runs(folders: Sequence[str | Path]) -> list[Run]:
    """Reads what is in the folders of some runs.

    Args:
        folders: one or more, each of a run.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if a folder is that of no run, one is given twice, tokens differ from run to run, or there are more
            than 8 configurations.
    """
    given = [str(folder).rstrip("/") or "/" for folder in folders]
    if not given:
        raise ValueError("A report is of one run or more; got none. Name the folder of a run.")
    if len({Path(folder).resolve() for folder in given}) < len(given):
        raise ValueError(f"Runs side by side are different ones; got {', '.join(given)}. Name each once.")
    for folder in given:
        _check(folder)
    runs = [_read(folder, name) for folder, name in zip(given, _names(given), strict=True)]
    _compare([run for run in runs if run.tokens])
    _group(runs)
    return runs


def settings(config: Mapping[str, Any]) -> dict[str, str]:
    """Gives what a configuration sets, but seeds and where things are written, flat: "data.exemplars" -> "500"."""
    return dict(_flat("", config))


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        if "class_path" in value:
            yield name, str(value["class_path"])
            given = [value.get(kind) for kind in ("init_args", "dict_kwargs")]
            value = {key: own for kind in given if isinstance(kind, dict) for key, own in kind.items()}
        for key, own in value.items():
            if key not in _BESIDE and not (key == "ckpt_path" and own in _GONE_ON):
                yield from _flat(f"{name}.{key}" if name else str(key), own)
    elif isinstance(value, list) and any(isinstance(own, dict) for own in value):
        named = [str(own.get("class_path", "")).rpartition(".")[2] if isinstance(own, dict) else "" for own in value]
        for number, own in enumerate(value):
            before = named[:number].count(named[number])
            yield from _flat(f"{name}.{named[number] or number}{f' {before + 1}' if before else ''}", own)
    else:
        yield name, json.dumps(value, default=str)


def _group(runs: Sequence[Run]) -> None:
    """Names the group of each run; those whose configuration is not known are alone."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        own = json.dumps(sorted(settings(run.config).items())) if run.config else run.folder
        groups.setdefault(own, []).append(run)
    if len(groups) > _MOST_GROUPS:
        raise ValueError(
            f"Runs of {_MOST_GROUPS} configurations at most are laid over each other; these have {len(groups)}. "
            "Give fewer runs."
        )
    for alike in groups.values():
        more = f" and {len(alike) - 1} like it" if len(alike) > 1 else ""
        for run in alike:
            run.group = f"{alike[0].name}{more}"


def _compare(runs: Sequence[Run]) -> None:
    for run in runs[1:]:
        if run.tokens != runs[0].tokens:
            raise ValueError(
                f"Runs side by side have the same tokens; {runs[0].name} has {', '.join(runs[0].tokens)}, and "
                f"{run.name} has {', '.join(run.tokens)}. Give each a report of its own."
            )


def _names(folders: Sequence[str]) -> list[str]:
    """The last parts of each path, as many as tell them apart, and two at least."""
    parts = [tuple(folder.split("/")) if is_url(folder) else Path(folder).resolve().parts[1:] for folder in folders]
    for depth in range(2, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return ["/".join(part) for part in parts]


def _check(folder: str) -> None:
    home = Folder(folder)
    names = home.names()
    if any(name in _OF_A_RUN or name.startswith("events.out.tfevents") for name in names):
        return
    if not names and not (home.local and Path(folder).is_dir()):
        raise FileNotFoundError(f"A report is of the folder of a run; there is no folder {folder}.{_near(folder)}")
    within = [name for name in names if home.exists(f"{name}/{CONFIG}") or home.exists(f"{name}/{STORE}/zarr.json")]
    hint = f" It holds {', '.join(within)}: did you mean {folder}/{within[-1]}?" if within else ""
    raise ValueError(f"A report is of the folder of a run, with records or a configuration; {folder} is none.{hint}")


def _near(folder: str) -> str:
    """The nearest name at the first part of a path that is not there."""
    path = Path(folder)
    missing = next((part for part in (*reversed(path.parents), path) if not part.exists()), None)
    if missing is None or not missing.parent.is_dir():
        return ""
    known = sorted(other.name for other in missing.parent.iterdir() if other.is_dir())
    near = get_close_matches(missing.name, known, 1, cutoff=0.5)
    return f" Did you mean {missing.parent / near[0] / path.relative_to(missing)}?" if near else ""


def _read(folder: str, name: str) -> Run:
    run = Run(folder, name, forgiving=True)
    _ = run.config, run.fit  # so that their trouble is known
    return run
