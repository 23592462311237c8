"""How functions are compiled, wherever there is one."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import numba
from numba.core import config

if not os.path.isabs(os.path.expanduser("~")):
    # Nobody knows the user's home, so numba would make a folder named "~" where the process was started.
    _kept = tempfile.mkdtemp(prefix="lightning_emerge.")
    config.CACHE_DIR = _kept  # pyright: ignore[reportAttributeAccessIssue]
    atexit.register(shutil.rmtree, _kept, ignore_errors=True)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a function of numbers and arrays when it is first called, and keeps that on disk where it can."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # there is no folder that a compiled function could be kept in
        return numba.njit(nogil=True)(function)
