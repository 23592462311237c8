"""How the tokens of a run emerged, from its records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from lightning_emerge.figures.curves import draw_emergence
from lightning_emerge.sinks.arrays import STORE, open_run


def lasting_rise(steps: Sequence[int], values: npt.ArrayLike, level: float) -> int | None:
    """Finds the first look from which a series stays at a level or above, to its end.

    Args:
        steps: step of each look, ascending.
        values: the series; NaN counts as below.
        level: to stay at or above.

    Returns:
        The step of that look, or None if the series ends below the level.
    """
    below = np.flatnonzero(~(np.asarray(values) >= level))
    first = int(below[-1]) + 1 if len(below) else 0
    return int(steps[first]) if first < len(steps) else None


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
    rises = [(token, lasting_rise(steps, confidence[:, k], 0.5)) for k, token in enumerate(tokens)]
    shown = ", ".join(f"{token} {'never' if step is None else step}" for token, step in rises)
    known = accuracy[-1][np.isfinite(accuracy[-1])]
    mean = known.mean() if len(known) else np.nan
    bank = (
        f"Bank      accuracy {mean:.3f} (chance {1 / len(tokens):.3f}); "
        f"probability of the right token 0.5 or more for good from step: {shown}"
    )
    return [*lines, bank], draw_emergence(steps, accuracy, confidence, tokens)
