"""On which axis of a layer's output its filters are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn

from lightning_emerge.capture.hooks import hooked
from lightning_emerge.capture.layers import find_layers, name_call
from lightning_emerge.capture.layouts import Trail


@contextmanager
def refuse_filters(module: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, str]]:
    """Finds layers of which it is not known on which axis of their outputs their filters are, each with why.

    It watches what passes the network meanwhile, and goes by what modules are.
    """
    refused, trail = dict[str, str](), Trail(module)

    def follow(name: str, part: nn.Module, given: Any, output: Any) -> None:
        trail.follow(name, part, given, output)
        call = name_call(name, trail.calls[name])
        if call in layers and call in trail.layouts and trail.layouts[call].channels is None:
            refused[call] = (
                "Filters are looked at where what a layer is says on which axis of its output they are; "
                f"{call!r} does not: it gives {('stimulus', *trail.shapes[call][1:])}."
            )

    with hooked(find_layers(module) if layers else {}, follow):
        yield refused
