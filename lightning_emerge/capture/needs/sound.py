"""Whether what the network returns is finite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch

from lightning_emerge.capture.needs.rows import Rows
from lightning_emerge.capture.view import Chunk


class Sound(Rows):
    """Whether the network's outputs are finite: looked for at each look, so that it can be said when they are not.

    Finds `sound`: float32 tensor (stimulus,), 0, or NaN where an output is NaN or infinite; None if there are none.
    """

    whole: ClassVar[bool] = True
    sized: ClassVar[bool] = False

    def rows(self, chunk: Chunk, layer: str) -> torch.Tensor:
        return chunk.outputs()[..., None].flatten(1).mul(0).sum(dim=1)

    def finite(self, found: Mapping[str, Any]) -> Iterable[torch.Tensor]:
        return () if found[self.name] is None else (found[self.name],)
