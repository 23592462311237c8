"""What the network returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch

from lightning_emerge.capture.needs.rows import Rows
from lightning_emerge.capture.view import Chunk


class Outputs(Rows):
    """The network's own outputs on the stimulus bank.

    Finds `outputs`: float32 tensor (stimulus, token), what its `forward` returned.
    """

    whole: ClassVar[bool] = True
    sized: ClassVar[bool] = False

    def rows(self, chunk: Chunk, layer: str) -> torch.Tensor:
        return chunk.outputs()

    def finite(self, found: Mapping[str, Any]) -> Iterable[torch.Tensor]:
        return () if found[self.name] is None else (found[self.name],)
