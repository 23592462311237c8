"""What was trained, what it cost, and how to do it again."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from lightning_emerge.report.content import Fold, Section, Table
from lightning_emerge.report.overlay import by_group, spread, write_number
from lightning_emerge.report.runs import settings
from lightning_emerge.store.layout import CONFIG, FIT, STORE
from lightning_emerge.store.places import is_url, to_local
from lightning_emerge.store.read import Run

_MOST_FILES = 300_000
_MOST_ROWS, _MOST_LETTERS = 30, 60


def what_was_trained(runs: Sequence[Run]) -> Section:
    """Says of each run what it was made of, how far it went, and how well."""
    section = Section()
    section.tables.append(
        Table("What each run was made of.", ["", *(run.name for run in runs)], _transpose([_facts(r) for r in runs]))
    )
    finals = [_finals(run) for run in runs]
    names = list(dict.fromkeys(name for final in finals for name in final))
    rows = [
        [run.name, *(write_number(final.get(name)) for name in names)] for run, final in zip(runs, finals, strict=True)
    ]
    groups = by_group(zip(runs, finals, strict=True))
    for group, own in groups.items():
        if len(own) > 1:
            known = [[final[name] for final in own if name in final] for name in names]
            of = f" of {group}" if len(groups) > 1 else ""
            rows.append([f"mean ± standard deviation{of}", *map(spread, known)])
    if len(groups) > 1:
        section.tables.append(_differences(runs))
    if names:
        section.tables.append(Table("Accuracy at the end: share classified correctly, 0 to 1.", ["run", *names], rows))
    for run in runs:
        if not run.ended:
            section.missing.append(_unfinished(run))
    return section


def _differences(runs: Sequence[Run]) -> Table:
    """What the configurations of runs differ in, but seeds and places."""
    groups = {group: settings(own[0].config) for group, own in by_group((run, run) for run in runs).items()}
    keys = list(dict.fromkeys(key for own in groups.values() for key in own))
    differing = [key for key in keys if len({own.get(key) for own in groups.values()}) > 1]
    rows = [[key, *(_cut(own.get(key, "-")) for own in groups.values())] for key in differing[:_MOST_ROWS]]
    more = f" {len(differing) - _MOST_ROWS} more are left out." if len(differing) > _MOST_ROWS else ""
    about = f"What the configurations differ in; runs of different ones are not averaged.{more}"
    return Table(about, ["", *groups], rows)


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 3]}..."


def what_it_cost(runs: Sequence[Run]) -> Section:
    """Says how long each fit took, what looking added, and how much disk it takes."""
    section = Section()
    for run in runs:
        rows = run.fit.get("rows")
        if not isinstance(rows, dict) or not rows:
            section.missing.append(f"{run.name} has no costs: `lightning fit` writes them to {FIT} when it ends.")
            continue
        section.tables.append(_costs(run, rows))
        section.says.append(_waited(run, rows))
    sizes = [[run.name, _size(f"{run.folder}/{STORE}"), _size(f"{run.folder}/checkpoints")] for run in runs]
    section.tables.append(Table("Room on disk.", ["run", "records", "checkpoints"], sizes))
    return section


def how_to_repeat(runs: Sequence[Run]) -> Section:
    """Gives the command, the configuration, the seeds and the versions of each run."""
    section = Section()
    for run in runs:
        if run.config:
            command = f"lightning fit --config {_quote(run)}"
            section.says.append(f"{run.name}: `{command}` trains it again, with the seeds below.")
            section.folds.append(Fold(f"{CONFIG} of {run.name}", run.config_text))
        else:
            section.missing.append(f"{run.name} cannot be repeated from its folder, as there is no {CONFIG} to read.")
    versions = [_versions(run) for run in runs]
    names = list(dict.fromkeys(name for found in versions for name in found))
    rows = [[name, *(found.get(name, "-") for found in versions)] for name in names]
    section.tables.append(Table("Seeds and versions.", ["", *(run.name for run in runs)], rows))
    for run in runs:
        if "versions" not in run.fit:
            section.missing.append(
                f"{run.name} has no versions but those of its configuration and records: the others are in {FIT}, "
                "which `lightning fit` writes when it ends."
            )
    section.says.append("A run is repeated bit by bit on the same machine and versions, as far as its kernels are.")
    return section


def _facts(run: Run) -> dict[str, str]:
    """What a run was made of, by name."""
    model, data, trainer = (_part(run.config, name) for name in ("model", "data", "trainer"))
    network, optimizer, scheduler = (_part(_arguments(model), name) for name in ("network", "optimizer", "scheduler"))
    weights, steps = run.fit.get("weights"), run.steps
    facts = {
        "network": _class(network, "plan", "width", "head", "batch_norm", "image_size"),
        "weights": f"{weights:,}" if isinstance(weights, int) else "",
        "optimizer": _class(optimizer, "lr", "weight_decay"),
        "scheduler": _class(scheduler, "T_max"),
        "data": _class(data, "exemplars", "bank_exemplars", "image_size", "batch_size", "root", "grammar"),
        "tokens": ", ".join(run.tokens),
        "epochs asked for": _plain(trainer.get("max_epochs")),
        "optimizer steps": _plain(run.fit.get("step")) if run.ended else "",
        "looks": f"{len(steps)}, from step {steps[0]} to {steps[-1]}" if steps else "none",
        "seconds": write_number(run.fit.get("seconds"), 0) if run.ended else "",
        "device": _plain(run.fit.get("device")),
    }
    return {name: fact or "-" for name, fact in facts.items()}


def _transpose(columns: Sequence[Mapping[str, str]]) -> list[list[str]]:
    return [[name, *(column[name] for column in columns)] for name in columns[0]]


def _finals(run: Run) -> dict[str, float]:
    """The last accuracy on the bank and in validation."""
    found: dict[str, float] = {}
    bank = run.last("bank_accuracy_mean")
    if bank is not None:
        found["bank"] = float(bank)
    metrics = run.fit.get("metrics", {})
    found |= {name: float(metrics[name]) for name in ("val/accuracy", "train/accuracy") if name in metrics}
    tokens = run.last("bank_accuracy")
    if tokens is not None:
        found |= {f"bank, {token}": float(value) for token, value in zip(run.tokens, tokens.values, strict=True)}
    return found


def _unfinished(run: Run) -> str:
    steps = run.steps
    if not steps:
        return f"The fit of {run.name} has not ended, and nothing is on record."
    again = (
        f"`lightning fit --config {_quote(run)} --ckpt_path last` goes on with one that was killed."
        if run.config_text
        else "A loop of one's own goes on from a checkpoint with the state of its watch."
    )
    return (
        f"The fit of {run.name} has not ended, or was made by a version that kept no {FIT}: its records end at step "
        f"{steps[-1]}. {again}"
    )


def _costs(run: Run, rows: Mapping[str, Mapping[str, float]]) -> Table:
    seconds = max(float(run.fit.get("seconds", 0)), 1e-9)
    cells = [
        [
            name,
            str(row["looks"] or "-"),
            f"{row['seconds']:.2f} s",
            f"{row['seconds'] / seconds:.1%}",
            f"{row['beside']:.2f} s",
        ]
        for name, row in rows.items()
    ]
    about = (
        f"What looking cost {run.name}: seconds that training waited, their share of the fit, and seconds beside it."
    )
    return Table(about, ["", "looks", "training waited", "share", "beside it"], cells)


def _waited(run: Run, rows: Mapping[str, Mapping[str, float]]) -> str:
    waited, seconds = sum(row["seconds"] for row in rows.values()), float(run.fit.get("seconds", 0))
    began = int(run.fit.get("began", 0))
    since = f" from step {began} on, where it was gone on with," if began else ""
    return f"{run.name}{since} took {seconds:.0f} s, for {waited:.0f} s of which training waited for the probes."


def _size(path: str) -> str:
    """Megabytes of a folder on this machine's disks."""
    if is_url(path):
        return "-"
    sizes = list(islice(_sizes(to_local(path)), _MOST_FILES))
    least = "more than " if len(sizes) == _MOST_FILES else ""  # a link may lead to all of the disk
    return f"{least}{sum(sizes) / 1e6:.1f} MB" if sizes else "none"


def _sizes(folder: str) -> Iterator[int]:
    for home, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):  # a run that goes on may have removed it
                yield os.lstat(os.path.join(home, name)).st_size


def _quote(run: Run) -> str:
    """The path of a run's configuration, for a command."""
    return shlex.quote(f"{run.folder}/{CONFIG}")


def _versions(run: Run) -> dict[str, str]:
    data = _arguments(_part(run.config, "data"))
    found = {"seed of the weights": _plain(run.config.get("seed_everything"))}
    found["seed of the data"] = _plain(data.get("seed"))
    head = run.config_text.splitlines()[:1]
    if head and head[0].startswith("# ") and "==" in head[0]:
        name, _, number = head[0][2:].partition("==")
        found[name] = number
    if "version" in run.records.attrs:
        found["lightning_emerge"] = str(run.records.attrs["version"])
    found |= {str(name): str(number) for name, number in dict(run.fit.get("versions", {})).items()}
    return {name: value or "-" for name, value in found.items()}


def _part(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A section of a configuration, or nothing where there is none."""
    part = config.get(name)
    return part if isinstance(part, dict) else {}


def _arguments(part: Mapping[str, Any]) -> Mapping[str, Any]:
    return _part(part, "init_args")


def _class(part: Mapping[str, Any], *names: str) -> str:
    """A class of a configuration with those of its arguments that tell most."""
    if "class_path" not in part:
        return ""
    arguments = _arguments(part)
    shown = [f"{name} {_plain(arguments[name])}" for name in names if arguments.get(name) is not None]
    return f"{str(part['class_path']).rpartition('.')[2]}{': ' if shown else ''}{', '.join(shown)}"


def _plain(value: object) -> str:
    return "" if value is None else str(value)
