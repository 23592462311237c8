"""What the network's last linear map gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch

from lightning_emerge.capture.hooks import readout_of
from lightning_emerge.capture.needs.rows import Rows
from lightning_emerge.capture.processes import gather
from lightning_emerge.capture.view import Chunk, View


class _Ends(NamedTuple):
    rows: torch.Tensor
    readout: torch.Tensor


class Features(Rows):
    """What the network's last linear map gets on the stimulus bank, and its weight.

    Finds `features`: float32 tensor (stimulus, feature), what the map got whose output the network returned, and
    `readout`: tensor (token, feature), its weight. Both are None if the network returns something else.
    """

    finds: ClassVar[tuple[str, ...]] = ("features", "readout")
    whole: ClassVar[bool] = True
    sized: ClassVar[bool] = False

    def hook(self, view: View, layer: str) -> None:
        view.maps()

    def rows(self, chunk: Chunk, layer: str) -> torch.Tensor | None:
        last = chunk.last_map()
        return None if last is None else last[1]

    def finish(self, view: View, layer: str, rows: torch.Tensor) -> _Ends | None:
        last = None if view.last is None else view.last.last_map()
        return None if last is None else _Ends(rows, readout_of(view.map_of(last[0])))

    def join(self, found: Mapping[str, _Ends], total: int, device: torch.device) -> dict[str, Any]:
        ends = found.get("")
        if ends is None:
            return {"features": None, "readout": None}
        return {"features": gather(ends.rows, total), "readout": ends.readout}
