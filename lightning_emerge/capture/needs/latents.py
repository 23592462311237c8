"""What made each stimulus."""

from __future__ import annotations

from typing import ClassVar

from lightning_emerge.capture.needs.base import Need


class Latents(Need):
    """The table of what made each stimulus, as `latents` of the capture's `bank`."""

    finds: ClassVar[tuple[str, ...]] = ()
    bank: ClassVar[bool] = True
    latents: ClassVar[bool] = True
