"""Which layers follow each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from lightning_emerge.capture.layers import match_layers
from lightning_emerge.capture.needs.base import Loan, Need


class Followers(Need):
    """Which of the probe's layers follow each other.

    Between them is no layer that the user named or, if none were named, that the network has.

    Finds `followers`: pairs of names, the layer before and the one after.
    """

    @contextmanager
    def lend(self, loan: Loan) -> Iterator[Mapping[str, Any]]:
        named = match_layers(loan.module, loan.patterns)
        pairs = [pair for pair in pairwise(named) if {*pair} <= {*loan.layers}]
        yield {self.name: tuple(pairs)}
