"""What whole runs cost, in processes of their own: probes over none, `fit` over a bare loop, two ranks over one."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from children import run_group
from parts import CONFIGS, DEFAULT, FULL, make_data, make_model, without_probes
from rates import passing
from table import Floor, Row, summarised, timed

_HERE = Path(__file__).parent
_BARE = ("--trainer.callbacks", "[]", "--trainer.enable_checkpointing", "false", "--trainer.accelerator", "cpu")
"""Training and validating alone, as a bare loop does."""

_EPOCHS = 2
"""Of runs in which the first steps are not what matters."""


@dataclass(frozen=True)
class Spent:
    """What a process took: seconds of the clock, seconds of the processors, and what it printed last."""

    seconds: float
    processors: float
    said: str


def bench_bare_loop(rounds: int) -> Iterator[Row]:
    """`fit` without probes, over a loop of PyTorch alone on the same network, batches and order."""
    with TemporaryDirectory() as folder:
        config = without_probes(DEFAULT, Path(folder))
        arguments = ["--config", str(config), *_BARE]
        arguments += ["--trainer.max_epochs", str(_EPOCHS)]
        found = [
            (_trained(["fit", *arguments], folder), _trained(["loop", *arguments], folder)) for _ in range(_few(rounds))
        ]
    same = len({one["weights"] for pair in found for one in pair}) == 1
    row = Row(
        "fit",
        f"fit without probes, {_EPOCHS} epochs",
        "a loop of PyTorch alone",
        bar=1.05,
        floor=_fit_floor(_EPOCHS),
        why="About 2 ms a step for Lightning's hooks, its progress bar and the event file.",
    )
    processors = [pair[0]["processors"] / pair[1]["processors"] for pair in found]
    bits = "weights are the same, bit by bit" if same else "THE WEIGHTS DIFFER"
    row = summarised(row, [(fit["seconds"], loop["seconds"]) for fit, loop in found])
    yield replace(row, note=f"processors {min(processors):.3f} to {max(processors):.3f}; {bits}")


def bench_probes(rounds: int) -> Iterator[Row]:
    """Whole processes of `lightning fit` with the default probes, and with every probe, over none."""
    for what, configs, bar in _SETS:
        with TemporaryDirectory() as folder:
            bare = without_probes(DEFAULT, Path(folder))
            times = [
                (_fit(configs, f"{folder}/{k}"), _fit([bare], f"{folder}/{k}_bare"))
                for k in range(min(rounds, 2) if bar else 1)
            ]
            costs = json.loads(Path(f"{folder}/0/runs/vgg5/version_0/fit.json").read_text())
        processors = [looking.processors / plain.processors for looking, plain in times]
        row = Row(
            "fit",
            f"lightning fit, {what}",
            "without probes",
            bar=bar,
            floor=_fit_floor(8),
            why="Both are whole processes, from import to the last line.",
            note=f"processors {min(processors):.3f} to {max(processors):.3f}",
        )
        yield summarised(row, [(looking.seconds, plain.seconds) for looking, plain in times])
        yield from _costs(what, costs)


def bench_ranks(rounds: int) -> Iterator[Row]:
    """Two processes of one thread over one of two threads, each with the same batches in all."""
    with TemporaryDirectory() as folder:
        config = without_probes(DEFAULT, Path(folder))
        arguments = ["fit", "--config", str(config), *_BARE]
        arguments += ["--trainer.max_epochs", str(_EPOCHS)]
        two = [*arguments, "--config", str(CONFIGS / "ddp.yaml")]
        found = [
            (_trained(two, folder, threads=1), _trained(arguments, folder, threads=2)) for _ in range(_few(rounds))
        ]
    row = Row(
        "fit",
        "an exemplar in training, two gloo ranks of one thread",
        "one rank of two threads",
        floor=replace(_fit_floor(1), ms=_fit_floor(1).ms / 2500),
        why="Small batches leave threads waiting for each other; ranks wait once a step, to add 5 MB of gradients.",
    )
    exemplars = 2500 * _EPOCHS
    yield summarised(row, [(a["training"] / exemplars, b["training"] / exemplars) for a, b in found])


_SETS: Sequence[tuple[str, tuple[Path, ...], float | None]] = (
    ("default probes", (DEFAULT,), 1.15),
    ("every probe", (DEFAULT, FULL), None),
)


def _costs(what: str, fit: dict[str, Any]) -> Iterator[Row]:
    """What `fit.json` says of each probe."""
    for name, cost in fit["rows"].items():
        yield Row(
            "fit",
            f"{what}: {name}",
            "the fit",
            value=100 * cost["seconds"] / fit["seconds"],
            unit="%",
            ms=1000 * cost["seconds"],
            against_ms=1000 * fit["seconds"],
            note=f"{cost['looks']} looks; {cost['beside']:.1f} s beside training",
        )


def _fit(configs: Sequence[Path], folder: str) -> Spent:
    Path(folder).mkdir()
    given = [argument for config in configs for argument in ("--config", str(config))]
    return _run(["-m", "lightning_emerge", "fit", *given, "--trainer.accelerator", "cpu"], folder, None)


def _trained(arguments: Sequence[str], folder: str, threads: int | None = None) -> dict[str, Any]:
    """What `bare.py` prints."""
    return json.loads(_run([str(_HERE / "bare.py"), *arguments], folder, threads).said)


def _run(command: Sequence[str], folder: str, threads: int | None) -> Spent:
    ended: list[subprocess.CompletedProcess[str]] = []
    environment = {**os.environ, **({"OMP_NUM_THREADS": str(threads)} if threads else {})}

    def work() -> None:
        whole = [sys.executable, *command]
        ended.append(run_group(whole, 3600, cwd=folder, env=environment))

    before = _processors()
    seconds = timed(work)
    if ended[0].returncode:
        raise RuntimeError(ended[0].stderr.strip().splitlines()[-1])
    return Spent(seconds, _processors() - before, ended[0].stdout.strip().splitlines()[-1])


def _processors() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _few(rounds: int) -> int:
    return min(rounds, 3)


def _fit_floor(epochs: int) -> Floor:
    """Passes there and back of all training batches, and passes of the validation split."""
    images = make_data().stimulus_bank().images
    training, validation = 78 * 32 / len(images), 500 / len(images)
    return passing(make_model().network, images, epochs * (3 * training + validation))
