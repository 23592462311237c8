"""How functions are compiled, and the random numbers that they sample.

Nothing else that is compiled is shared between files: the compiler's cache does not notice a change in another file.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
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


@compiled
def random_bits(seed, position):
    """The 64 bits that SplitMix64, begun at `seed`, gives at a position, from 0; all three are uint64.

    Steele, Lea & Flood (2014), *Fast splittable pseudorandom number generators*.
    """
    z = seed + (position + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
