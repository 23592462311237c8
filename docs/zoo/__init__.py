"""Networks of the kinds that researchers have, each small and with stimuli of its own kind.

Nothing is downloaded: all weights are random.
"""

from __future__ import annotations

from zoo.common import Entry
from zoo.language import LANGUAGE
from zoo.others import OTHERS
from zoo.vision import VISION

__all__ = ["ZOO", "Entry"]

ZOO: tuple[Entry, ...] = (*VISION, *LANGUAGE, *OTHERS)
"""All of them, those of libraries first."""
