"""How functions are compiled, wherever there is one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compiles a function of numbers and arrays when it is first called, and keeps that on disk where it can."""
    try:
        return numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # there is no folder that a compiled function could be kept in
        return numba.njit(nogil=True)(function)
