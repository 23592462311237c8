"""`lightning board`: TensorBoard with the Emerge tab, and every step kept."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from lightning_emerge.board.launch import tensorboard_command
from lightning_emerge.cli.errors import PlainParser, UserError
from lightning_emerge.store.places import open_place


def open_board(arguments: Sequence[str]) -> NoReturn:
    """Becomes a TensorBoard on a folder of runs.

    Raises:
        UserError: if the folder does not exist or the port is none.
    """
    parser = PlainParser(
        "lightning board",
        "`lightning board [DIR] [--port N]` opens TensorBoard on a folder of runs",
        "Open TensorBoard with the Emerge tab on a folder of runs, with every step kept, and print its address.",
    )
    parser.add_argument("dir", nargs="?", default="runs", help="folder of runs, or an fsspec URL (default: runs)")
    parser.add_argument("--port", type=int, default=6006, help="port on 127.0.0.1; 0 picks a free one (default: 6006)")
    wanted = parser.parse_args(arguments)
    if not _is_folder(wanted.dir):
        raise UserError(
            f"`lightning board DIR` opens a folder of runs; there is no folder {wanted.dir}. "
            "Train first: lightning fit --config vgg5"
        )
    if not 0 <= wanted.port <= 65535:
        raise UserError(f"--port lies in 0 to 65535; got {wanted.port}.")
    command = tensorboard_command(wanted.dir, wanted.port)
    sys.stdout.flush()
    os.execv(command[0], command)


def _is_folder(place: str) -> bool:
    try:
        files, path = open_place(place)
        return bool(files.isdir(path))
    except Exception as error:  # what a file system far away raises is not known
        raise UserError(f"`lightning board DIR` opens a folder of runs; {place} cannot be read: {error}.") from error
