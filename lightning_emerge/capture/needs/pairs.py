"""Room to compare stimuli."""

from __future__ import annotations

from typing import ClassVar

from lightning_emerge.capture.needs.base import Memory, Need, Size

_COMPARING = 9.0  # measured: layers' matrices of float64 that are in memory at once while layers are compared


class Pairs(Need):
    """Room for a matrix (stimulus, stimulus) of each of the probe's layers, as it compares all with all.

    Finds nothing; it counts in what is said before training of a bank that is too large.
    """

    finds: ClassVar[tuple[str, ...]] = ()
    compares: ClassVar[bool] = True

    def memory(self, size: Size) -> Memory:
        return Memory("comparisons of stimuli", 8.0 * size.stimuli**2 * len(size.layers) * _COMPARING)
