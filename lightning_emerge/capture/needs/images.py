"""The stimulus bank itself."""

from __future__ import annotations

from typing import ClassVar

from lightning_emerge.capture.needs.base import Need


class Images(Need):
    """The stimulus bank itself, as the capture's `bank`, without running it through the network."""

    finds: ClassVar[tuple[str, ...]] = ()
    bank: ClassVar[bool] = True
