"""What Lightning and torch say by themselves: held back until the checks are over, or kept off the screen."""

from __future__ import annotations

import logging
import warnings


class Held(logging.Filter):
    """Holds Lightning's messages back until the checks are over, so that a mistake is answered by one line alone."""

    def __init__(self) -> None:
        super().__init__()
        self._records: list[logging.LogRecord] | None = []

    def filter(self, record: logging.LogRecord) -> bool:
        if "Tip: For seamless cloud" in record.getMessage():  # an advertisement
            return False
        if self._records is not None:
            self._records.append(record)
        return self._records is None

    def release(self) -> None:
        records, self._records = self._records or [], None
        for record in records:
            logging.getLogger(record.name).handle(record)


def hold_messages() -> Held:
    """Holds Lightning's messages back until they are released."""
    held = Held()
    for name in ("lightning.fabric", "lightning.pytorch"):
        for handler in logging.getLogger(name).handlers:
            handler.addFilter(held)
    return held


def silence_warnings() -> None:
    """Keeps warnings that the user can do nothing about off the screen."""
    warnings.filterwarnings("ignore", "LightningCLI's args parameter")
    # Batches are looked up in memory, whole: worker processes would only copy them.
    warnings.filterwarnings("ignore", ".*does not have many workers.*")
    # Lightning 2.6 calls what torch 2.15 has renamed.
    warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*")
