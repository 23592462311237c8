"""TensorBoard as `python -m tensorboard.main` starts it, which says where the tab is as soon as it answers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from tensorboard import default, main_lib, program
from tensorboard.plugins.base_plugin import FlagsError

from lightning_emerge.board.loader import EmergeLoader
from lightning_emerge.sinks.names import BOARD


class _Server(program.WerkzeugServer):
    def print_serving_message(self) -> None:
        super().print_serving_message()
        sys.stdout.write(f"Emerge    {self.get_url()}#{BOARD}\n")
        sys.stdout.flush()


def serve(arguments: Sequence[str]) -> int:
    """Serves until it is interrupted.

    Args:
        arguments: TensorBoard's own flags.

    Returns:
        The process' exit status.
    """
    main_lib.global_init()
    plugins: list[Any] = list(default.get_plugins())
    if EmergeLoader not in plugins:  # an installation whose entry points are older than the tab
        plugins.append(EmergeLoader)
    board = program.TensorBoard(plugins=plugins, server_class=_Server)
    try:
        board.configure(["tensorboard", *arguments])
    except FlagsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return board.main()


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1:]))
