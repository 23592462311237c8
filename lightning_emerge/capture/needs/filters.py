"""That filters are where a probe takes them to be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

from lightning_emerge.capture.filters import refuse_filters
from lightning_emerge.capture.layouts import Layouts
from lightning_emerge.capture.needs.activations import Activations
from lightning_emerge.capture.needs.base import Loan, Need

_UNTRIED = (
    "Filters are looked at where what a layer is says on which axis of its output they are; where {!r} has them is not "
    "known, as the network failed: {}"
)


@dataclass(frozen=True)
class Filters(Need):
    """That it is known which axis of the layers' outputs are their filters, as the probe looks at these one by one.

    They are the second axis of what a capture then has of these layers.

    Finds `unfiltered`: layer -> why that cannot be said of a layer that the probe has nevertheless.

    Args:
        required: whether such layers are left out, or refused if they were named.
    """

    finds: ClassVar[tuple[str, ...]] = ("unfiltered",)

    required: bool = True

    def trials(self, needs: Sequence[Need], *, named: bool) -> dict[Need, bool]:
        return {Activations(): True, self: self.required}

    def misfits(self, layouts: Layouts, layers: Sequence[str]) -> Mapping[str, str]:
        return refuse_filters(layouts, layers)

    def untried(self, layer: str, error: Exception) -> str:
        return _UNTRIED.format(layer, error)

    @contextmanager
    def lend(self, loan: Loan) -> Iterator[Mapping[str, Any]]:
        refused = loan.refused(self)
        yield {"unfiltered": {layer: why for layer, why in refused.items() if layer in loan.layers}}
