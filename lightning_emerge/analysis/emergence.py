"""How well the tokens of a run are told in the end, and how that came, from its records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from lightning_emerge.figures.curves import draw_emergence
from lightning_emerge.sinks.arrays import STORE, open_run


def summarise_run(folder: str | Path) -> tuple[list[str], Figure | None]:
    """Says in a few lines what a run's records show, and draws the emergence of its tokens.

    Args:
        folder: of the run.

    Returns:
        Lines of text, none if the run has no records; and the picture, if a `CategoryProbe` looked.
    """
    try:
        records = open_run(folder)
    except FileNotFoundError:
        return [], None
    lines = [f"Records   {records.sizes['step']} looks, {len(records.data_vars)} measures in {Path(folder) / STORE}"]
    if "bank_accuracy" not in records or not records.sizes["step"]:
        return lines, None
    curves = records[["bank_accuracy", "bank_confidence"]].dropna("step", how="all").load()
    steps, tokens = curves.step.values.tolist(), [str(token) for token in curves.token.values]
    accuracy, confidence = curves.bank_accuracy.values, curves.bank_confidence.values
    known = accuracy[-1][np.isfinite(accuracy[-1])]
    mean = known.mean() if len(known) else np.nan
    bank = f"Bank      accuracy {mean:.3f} (chance {1 / len(tokens):.3f})"
    return [*lines, bank], draw_emergence(steps, accuracy, confidence, tokens)
