"""What a probe's first look saw and kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from lightning_emerge.capture.needs.base import Loan, Need
from lightning_emerge.capture.needs.weights import Weights
from lightning_emerge.records import Capture, FirstLook, History, PastLook


class Start(Need):
    """What the weights were at the probe's first look, and what the probe kept then to compare with later.

    Finds `start`: a `lightning_emerge.FirstLook`; and `weights`. Checkpoints hold it.
    """

    weighs: ClassVar[bool] = True
    uses: ClassVar[tuple[Need, ...]] = (Weights(),)

    @contextmanager
    def lend(self, loan: Loan) -> Iterator[Mapping[str, Any]]:
        first = loan.history.first
        if first is None or first.step >= loan.step:
            yield {self.name: FirstLook(loan.step)}
            return
        # Checkpoints share the tensors; somebody's own probe gets copies.
        first = first.copy() if loan.foreign else first
        yield {self.name: FirstLook(first.step, first.weights, {**first.kept}, now=False)}

    def remember(self, history: History, capture: Capture) -> None:
        if capture.start.now:
            history.first = PastLook(capture.step, capture.weights, kept=capture.start.kept)

    def remembered(self, needs: Sequence[Need]) -> int:
        return 1
