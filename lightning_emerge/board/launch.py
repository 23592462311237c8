"""How TensorBoard is started with the tab."""

from __future__ import annotations

import sys

from lightning_emerge.store.places import is_url, to_local


def tensorboard_command(folder: str, port: int) -> list[str]:
    """Makes the command that serves a folder of runs on 127.0.0.1, with every step kept.

    Args:
        folder: a run, or a folder of runs; or an fsspec URL of one.
        port: 0 for any free one.
    """
    # TensorBoard takes `~` for a home.
    place = folder if is_url(folder) else to_local(folder)
    flags = [f"--logdir={place}", "--host=127.0.0.1", f"--port={port}", "--reload_interval=5"]
    # -P: a module in the working folder must not hide a library's.
    return [sys.executable, "-P", "-m", "lightning_emerge.board.serve", *flags]
