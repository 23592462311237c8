"""On which axis of a layer's output its filters are."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_emerge.capture.layouts import Layouts


def refuse_filters(layouts: Layouts, layers: Sequence[str]) -> dict[str, str]:
    """Finds layers of which it is not known on which axis of their outputs their filters are, each with why."""
    return {
        layer: (
            "Filters are looked at where what a layer is says on which axis of its output they are; "
            f"{layer!r} does not: it gives {('stimulus', *layouts[layer].shape[1:])}. Say it with "
            "Stimuli(channels={...}), or name other layers."
        )
        for layer in layers
        if layer in layouts and layouts[layer].channels is None
    }
