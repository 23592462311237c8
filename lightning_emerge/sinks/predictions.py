"""Predictions as a table."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def write_predictions(path: Path, tokens: Sequence[str], batches: Iterable[Mapping[str, Any]]) -> int:
    """Writes one row an exemplar, in the order of ids: its id, the token predicted, and the probability of each token.

    Args:
        path: the CSV file; its folder is made if need be.
        tokens: names of the tokens.
        batches: each with `id`, `token` and `probabilities` (exemplar, token).

    Returns:
        Number of rows.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = sorted(
        [name, token, *(f"{p:.6g}" for p in probabilities)]
        for batch in batches
        for name, token, probabilities in zip(batch["id"], batch["token"], batch["probabilities"].tolist(), strict=True)
    )
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["id", "token", *(f"p_{token}" for token in tokens)], *rows])
    return len(rows)
