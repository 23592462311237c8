"""How TensorBoard is started so that it shows every step."""

from __future__ import annotations

import sys

KEEP_ALL = ",".join(f"{plugin}=1000000" for plugin in ("scalars", "images", "histograms", "tensors"))
"""TensorBoard's own defaults keep 10 pictures and drop early steps, which hides an emergence. 0 would keep none."""


def tensorboard_command(folder: str, port: int) -> list[str]:
    """Makes the command that serves a folder of runs on 127.0.0.1.

    Args:
        folder: a run, or a folder of runs.
        port: 0 for any free one.
    """
    return [
        sys.executable,
        "-m",
        "tensorboard.main",
        f"--logdir={folder}",
        "--host=127.0.0.1",
        f"--port={port}",
        f"--samples_per_plugin={KEEP_ALL}",
        "--reload_interval=5",
    ]
