"""The network itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from lightning_emerge.capture.needs.activations import Activations
from lightning_emerge.capture.needs.bank_gradients import BankGradients
from lightning_emerge.capture.needs.base import Loan, Need
from lightning_emerge.capture.needs.weights import Weights
from lightning_emerge.capture.network import open_network


class Network(Need):
    """The network itself, to differentiate or to run on other images. It is passed as often as the probe passes it.

    Finds `network`: a `lightning_emerge.OpenNetwork`. With `Weights()` the probe differentiates with respect to them.
    """

    runs: ClassVar[bool] = True

    def trials(self, needs: Sequence[Need], *, named: bool) -> dict[Need, bool]:
        # Activations are tried in any case: what a layer does not give is refused when the probe asks for it.
        differentiates = self.together(needs)
        tried: dict[Need, bool] = {Activations(): not named and not differentiates}
        return tried | ({BankGradients(): True} if differentiates and not named else {})

    def together(self, needs: Sequence[Need]) -> bool:
        return Weights() in needs

    @contextmanager
    def lend(self, loan: Loan) -> Iterator[Mapping[str, Any]]:
        refused = loan.refused(Activations())
        with open_network(loan.module, loan.layers, refused, loan.layouts, loan.bank) as network:
            yield {"network": network}
