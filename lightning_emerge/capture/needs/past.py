"""What a probe's earlier looks saw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from lightning_emerge.capture.needs.base import Loan, Need
from lightning_emerge.capture.needs.weights import Weights
from lightning_emerge.records import Capture, History, PastLook


class Past(Need):
    """What the weights were at the probe's first look, and they and a training batch's gradients at the look before.

    Finds `first`: a `lightning_emerge.PastLook` with weights alone, None at that look; `previous`: the same of the look
    before, with gradients if the probe looks at training batches; and `weights`. Checkpoints hold them.
    """

    finds: ClassVar[tuple[str, ...]] = ("first", "previous")
    weighs: ClassVar[bool] = True
    uses: ClassVar[tuple[Need, ...]] = (Weights(),)

    @contextmanager
    def lend(self, loan: Loan) -> Iterator[Mapping[str, Any]]:
        earlier = loan.history.before(loan.step)
        looks = (loan.history.first, earlier[-1]) if earlier else (None, None)
        # Other probes and checkpoints share the weights; somebody's own probe gets copies.
        first, previous = (look.copy() if look is not None and loan.foreign else look for look in looks)
        yield {"first": first, "previous": previous}

    def remember(self, history: History, capture: Capture) -> None:
        history.add(PastLook(capture.step, capture.weights, capture.found.get("gradients", {})))

    def remembered(self, needs: Sequence[Need]) -> int:
        return 5 if any(need.training for need in needs) else 3
