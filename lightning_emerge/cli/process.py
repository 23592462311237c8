"""How the process of a run is set up."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from io import TextIOWrapper

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def prepare_process() -> None:
    """Makes a process of what a shell, a notebook or the working folder bring along one in which commands work."""
    os.environ["MPLBACKEND"] = "agg"  # a notebook's own, which is inherited, may stop the import of matplotlib
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # a user's own module lies where the command is given, and hides no other
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a path may hold what the terminal cannot show


def keep_memory() -> None:
    """Lets memory that is freed stay with the process, where the C library is glibc.

    By default what a layer's output took goes back to the system and comes again, page by page, at each pass, which is
    an eighth of a training step on a CPU, and a fifth of a pass of the stimulus bank.
    """
    with suppress(AttributeError, OSError, TypeError):  # another C library
        library = ctypes.CDLL(None)
        library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(_MMAP_THRESHOLD, 2**30)
