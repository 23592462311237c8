"""Predictions as a table."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from lightning_emerge.store.folder import Folder


def write_predictions(path: Path, tokens: Sequence[str], batches: Iterable[Mapping[str, Any]]) -> int:
    """Writes one row an exemplar, in the order of ids: its id, the token predicted, and the probability of each token.

    Args:
        path: the CSV file; its folder is made if need be.
        tokens: names of the tokens.
        batches: each with `id`, `token` and `probabilities` (exemplar, token).

    Returns:
        Number of rows.
    """
    rows = sorted(
        [name, token, *(f"{p:.6g}" for p in probabilities)]
        for batch in batches
        for name, token, probabilities in zip(batch["id"], batch["token"], batch["probabilities"].tolist(), strict=True)
    )
    table = StringIO(newline="")
    csv.writer(table).writerows([["id", "token", *(f"p_{token}" for token in tokens)], *rows])
    # What is no text, as it may be in ids of others' data, is escaped: hours of predictions are not lost for a letter.
    Folder(path.parent).put(path.name, table.getvalue().encode("utf-8", "backslashreplace"))
    return len(rows)
