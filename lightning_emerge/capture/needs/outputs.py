"""What the network returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch

from lightning_emerge.capture.needs.base import Collector
from lightning_emerge.capture.needs.rows import Rows, RowsCollector
from lightning_emerge.capture.processes import agree, gather
from lightning_emerge.capture.troubles import Troubles
from lightning_emerge.capture.view import Chunk, View

_ELSEWHERE = "Another process could not read them."


@dataclass(frozen=True)
class Outputs(Rows):
    """The network's own outputs on the stimulus bank.

    Finds `outputs`: float32 tensor (stimulus, token), what its `forward` returned or, of that, what the bank's task
    says; one logit for two tokens as (0, logit). And `unread`, where they are not required: why there are none.

    Args:
        required: whether a probe does without them where a network gives no (stimulus, token): `outputs` are None then.
    """

    finds: ClassVar[tuple[str, ...]] = ("outputs", "unread")
    whole: ClassVar[bool] = True
    sized: ClassVar[bool] = False

    required: bool = True

    def rows(self, chunk: Chunk, layer: str) -> torch.Tensor:
        return chunk.outputs() if self.required else chunk.answers()

    def collect(self, view: View, layers: Sequence[str], troubles: Troubles) -> Collector:
        return super().collect(view, layers, troubles) if self.required else _Read(self, view, layers, troubles)

    def join(self, found: Mapping[str, Any], total: int, device: torch.device) -> dict[str, Any]:
        if self.required:
            return super().join(found, total, device)
        rows: _Answers = found.get("", _Answers(None, _ELSEWHERE))
        if agree([rows.rows is None], device)[0]:
            return {self.name: None, "unread": rows.unread or _ELSEWHERE}
        assert rows.rows is not None
        return {self.name: gather(rows.rows, total), "unread": None}

    def finite(self, found: Mapping[str, Any]) -> Iterable[torch.Tensor]:
        return () if found[self.name] is None else (found[self.name],)


class _Answers(NamedTuple):
    rows: torch.Tensor | None
    unread: str | None


class _Read(RowsCollector):
    """Collects outputs until some cannot be read."""

    unread: str | None = None

    def rows(self, chunk: Chunk) -> dict[str, torch.Tensor]:
        if self.unread is None:
            try:
                return {"": chunk.answers()}
            except ValueError as error:
                self.unread = str(error)
        return {}

    def finish(self, rows: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        return {"": _Answers(None if self.unread else rows.get(""), self.unread)}
