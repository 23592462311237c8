"""The command line, where everything is put together: `lightning fit | validate | test | predict | board | ...`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from lightning_emerge.cli.configurations import find_by_name
from lightning_emerge.cli.errors import UserError
from lightning_emerge.cli.process import prepare_process
from lightning_emerge.cli.streams import forgiving_streams

_COMMANDS = {
    "biography": ("biography", "draw"),
    "board": ("board", "open_board"),
    "data": ("data", "write_data"),
    "embed": ("embed", "embed"),
    "init": ("configurations", "copy_configurations"),
    "replay": ("replay", "run_replay"),
    "report": ("report", "report_on"),
    "sheet": ("data", "draw_sheet"),
}
"""Commands beside Lightning's own, each imported when it is called."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line.

    A mistake of the user's is one line on the error stream and exit status 2, before anything is written. SIGTERM ends
    a command with status 143, and Ctrl-C with 130.

    Args:
        arguments: those of the command line if none are given.
    """
    prepare_process()
    words = list(sys.argv[1:] if arguments is None else arguments)
    with forgiving_streams():
        try:
            _run(words)
        except UserError as error:
            print(f"lightning: {error}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("\nlightning: Ctrl-C ended the command.", file=sys.stderr)
            sys.exit(130)


def _run(words: list[str]) -> None:
    if words[:1] in (["-h"], ["--help"]):
        from lightning_emerge.cli.overview import say_commands

        say_commands()
    elif words and words[0] in _COMMANDS:
        module, name = _COMMANDS[words[0]]
        getattr(import_module(f"{__name__}.{module}"), name)(find_by_name(words[1:]))
    else:
        from lightning_emerge.cli.training import run

        run(find_by_name(words))
