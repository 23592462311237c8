"""The entry point that TensorBoard finds. Nothing here may fail or import torch: TensorBoard would not start."""

from __future__ import annotations

from typing import Any

from tensorboard.plugins.base_plugin import TBContext, TBLoader, TBPlugin

_ALL = 1_000_000
_KEPT = ("scalars", "images", "histograms", "tensors")


class EmergeLoader(TBLoader):
    """Loads the plugin; an error in it leaves TensorBoard without the tab, and says so in its log."""

    def fix_flags(self, flags: Any) -> None:
        """Keeps every step of what TensorBoard itself shows, unless the user has said how many."""
        asked = getattr(flags, "samples_per_plugin", None)
        if isinstance(asked, dict):
            for plugin in _KEPT:
                asked.setdefault(plugin, _ALL)

    def load(self, context: TBContext) -> TBPlugin:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Makes the plugin."""
        from lightning_emerge.board.plugin import EmergePlugin

        return EmergePlugin(context)
