"""What the Emerge tab costs TensorBoard in the large case: time on the server, and memory of its process."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from children import started
from large import LAYERS, LOOKS, make_large_runs
from tab import bench_tab

_RUN = "large"


def bench_board(rounds: int) -> dict[str, dict[str, float]]:
    """Answers of a TensorBoard on 50 runs, of which one has 500 looks at 16 layers and 250 stimuli."""
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        make_large_runs(Path(folder))
        with serving(folder) as (address, process):
            base = f"{address}/data/plugin/emerge"
            before = _resident(process)
            for name, path in (
                ("index of 50 runs", "index"),
                (f"description of a run of {LOOKS} looks", f"run?run={_RUN}"),
            ):
                figures[f"board: {name}, first time"] = {"ms": _time(f"{base}/{path}")}
                figures[f"board: {name}"] = {"ms": statistics.median(_time(f"{base}/{path}") for _ in range(rounds))}
            steps = range(0, LOOKS, 5)
            frames = [_time(f"{base}/frame?run={_RUN}&measure=rdm&step={step}") for step in steps]
            figures[f"board: frame of {LAYERS} layers, median"] = {"ms": statistics.median(frames), "limit_ms": 100}
            figures[f"board: frame of {LAYERS} layers, slowest"] = {"ms": max(frames)}
            figures["board: curves of a token"] = {"ms": _time(f"{base}/series?run={_RUN}&measure=bank_confidence")}
            biography = f"{base}/series?run={_RUN}&measure=filter_response&filter=3,17"
            figures["board: biography of a filter"] = {"ms": _time(biography)}
            figures["board: points of a layer"] = {"ms": _time(f"{base}/points?run={_RUN}&measure=distances&first=0")}
            if shutil.which("chromium"):
                figures |= _in_the_browser(address)
            figures["board: memory of TensorBoard's process"] = {"mib": _resident(process) - before, "limit_mib": 200}
    return figures


def _in_the_browser(address: str) -> dict[str, dict[str, float]]:
    found = bench_tab(address, _RUN)
    limits = {"first_view": 1500, "cached": 16, "cold": 100}
    return {
        f"tab: {name.replace('_', ' ')}": {"ms": value, **({"limit_ms": limits[name]} if name in limits else {})}
        for name, value in found.items()
    }


@contextmanager
def serving(folder: str) -> Iterator[tuple[str, int]]:
    """Runs `lightning board` until it says where the tab is; gives its address and its process."""
    command = [sys.executable, "-m", "lightning_emerge", "board", folder, "--port", "0"]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1].split("/#")[0]
        time.sleep(3)  # TensorBoard itself reads the log directory first
        yield address, process.pid


def _time(address: str) -> float:
    begin = time.perf_counter()
    with urllib.request.urlopen(address, timeout=60) as answer:
        answer.read()
    return 1000 * (time.perf_counter() - begin)


def _resident(process: int) -> float:
    """MiB that a process has in memory."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4096 / (1 << 20)
