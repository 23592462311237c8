"""Starts a fit again and again and kills it, then lets it end.

    python killed.py FOLDER SEED KILLS

FOLDER holds run.yaml. Everything is imported once; each start is a fork. Leaves FOLDER/kills.json.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import torch

import lightning_emerge as le
from lightning_emerge.cli import main
from lightning_emerge.engine.checkpoint_files import read_checkpoint

FIRST = "bank_accuracy"  # the first array that a look writes to
LIMIT = 60  # seconds until a start has to have come where it is to be killed
AHEAD = 7  # steps in which to meet a write: one more than from one last.ckpt to the next


def start(folder: Path, *arguments: str) -> int:
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(folder)
        main(["fit", "--config", "run.yaml", *arguments])
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def step_of(folder: Path) -> int:
    try:
        return int((folder / "step").read_text() or 0)
    except (FileNotFoundError, ValueError):
        return 0


def newest(folder: Path) -> Path:
    return max(folder.glob("runs/killed/version_*"), key=lambda path: int(path.name[8:]), default=folder / "none")


def writing(run: Path, what: str) -> bool:
    """Whether a checkpoint, or a look's records, is written in part: few questions, so that a short write is met."""
    if what == "checkpoint":
        return any(name.endswith(".part") for name in _names(run / "checkpoints"))
    began = [name for name in _names(run / "records.zarr" / FIRST) if name.startswith("c.")]
    try:
        root = json.loads((run / "records.zarr" / "zarr.json").read_bytes())
    except FileNotFoundError:
        return False
    return len(began) > root["consolidated_metadata"]["metadata"]["step"]["shape"][0]


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def kill(folder: Path, child: int, target: int, what: str, delay: float) -> bool:
    """Waits for a step and a moment, and kills; says whether the process was still there."""
    end = time.monotonic() + LIMIT
    while step_of(folder) < target and time.monotonic() < end:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(0.002)
    if what == "any":
        time.sleep(delay)
    else:
        run = newest(folder)
        while not writing(run, what) and step_of(folder) < target + AHEAD and time.monotonic() < end:
            run = run if run.exists() else newest(folder)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def work(folder: Path, seed: int, kills: int) -> None:
    moments = random.Random(seed)
    told = []
    for number in range(kills):
        (folder / "step").unlink(missing_ok=True)
        last = newest(folder) / "checkpoints" / "last.ckpt"
        begins = read_checkpoint(last)["global_step"] if last.exists() else 0
        what = ("any", "record", "checkpoint")[number % 3]
        child = start(folder, "--ckpt_path", "last")
        killed = kill(folder, child, begins + moments.randint(0, 9), what, moments.uniform(0, 0.05))
        torn = what != "any" and writing(newest(folder), what)
        told.append({"began": begins, "step": step_of(folder), "what": what, "torn": torn, "killed": killed})
    (folder / "kills.json").write_text(json.dumps(told))
    _, status = os.waitpid(start(folder, "--ckpt_path", "last"), 0)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    torch.set_num_threads(1)
    le.TokenDataModule(image_size=16).images("bank", "dax", [0])  # compiles before it forks
    work(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
