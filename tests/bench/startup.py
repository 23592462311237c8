"""How long a fit takes to begin, over importing Lightning: each time in a fresh process, in turn."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback
from table import medians

from lightning_emerge.engine.conductor import Conductor

_HERE = Path(__file__).parent
_CONFIG = _HERE.parents[1] / "configs" / "vgg5.yaml"
_BEGAN = 33
_FIRST_BATCH = "startup.FirstBatch"
_FIT = ("-m", "lightning_emerge", "fit", "--config", str(_CONFIG))


class FirstBatch(Callback):
    """Ends the process when the first batch is there. Probes do not look before it: looks are timed elsewhere."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        Conductor.begin = lambda *_: None

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        os._exit(_BEGAN)


def bench_startup(rounds: int) -> dict[str, dict[str, float]]:
    """Time to the first batch of configs/vgg5.yaml, and to the help, over `import lightning`."""
    commands = {
        "first batch without callbacks / import lightning": (*_FIT, "--trainer.callbacks", _FIRST_BATCH),
        "first batch with default callbacks / import lightning": (*_FIT, f"--trainer.callbacks+={_FIRST_BATCH}"),
        "lightning fit --help / import lightning": ("-m", "lightning_emerge", "fit", "--help"),
        "lightning --help / import lightning": ("-m", "lightning_emerge", "--help"),
        "lightning board --help / import lightning": ("-m", "lightning_emerge", "board", "--help"),
    }
    return {name: _paired(command, rounds) for name, command in commands.items()}


def _paired(command: tuple[str, ...], rounds: int) -> dict[str, float]:
    ended = _BEGAN if command[: len(_FIT)] == _FIT else 0
    _time(command, ended)  # what is compiled is kept on disk
    times = [(_time(command, ended), _time(("-c", "import lightning"), 0)) for _ in range(rounds)]
    return medians(times)


def _time(command: tuple[str, ...], ended: int) -> float:
    """Seconds that a command takes in a process of its own, which has to end as it is to."""
    paths = os.pathsep.join([str(_HERE), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, *command],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            check=False,
        )
        taken = time.perf_counter() - begin
    assert done.returncode == ended, done.stderr[-2000:]
    return taken


if __name__ == "__main__":
    for name, figure in bench_startup(int(sys.argv[1]) if sys.argv[1:] else 5).items():
        print(f"{name:55} {figure['ratio']:6.2f} {figure['ms']:9.0f} {figure['floor_ms']:9.0f}", flush=True)
