"""The command line, where everything is put together: `lightning fit | validate | test | predict | board | ...`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from lightning_emerge.cli.errors import UserError


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line.

    A mistake of the user's is one line on the error stream and exit status 2, before anything is written.

    Args:
        arguments: those of the command line if none are given.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # a user's own module lies where the command is given
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _run(words)
    except UserError as error:
        print(f"lightning: {error}", file=sys.stderr)
        sys.exit(2)


def _run(words: list[str]) -> None:
    if words[:1] in (["-h"], ["--help"]):
        from lightning_emerge.cli.overview import say_commands

        say_commands()
    elif words[:1] == ["board"]:
        from lightning_emerge.cli.board import open_board

        open_board(words[1:])
    elif words[:1] in (["data"], ["sheet"]):
        from lightning_emerge.cli.data import draw_sheet, write_data

        (write_data if words[0] == "data" else draw_sheet)(words[1:])
    elif words[:1] == ["biography"]:
        from lightning_emerge.cli.biography import draw

        draw(words[1:])
    elif words[:1] == ["report"]:
        from lightning_emerge.cli.report import report_on

        report_on(words[1:])
    elif words[:1] == ["replay"]:
        from lightning_emerge.cli.replay import run_replay

        run_replay(words[1:])
    else:
        from lightning_emerge.cli.training import run

        run(words)
