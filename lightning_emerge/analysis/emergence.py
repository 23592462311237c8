"""How well the tokens of a run are classified in the end, and how that came, from its records."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from lightning_emerge.figures.curves import Chart, Curve, Level, Line, draw_charts
from lightning_emerge.records import FloatArray
from lightning_emerge.store.layout import STORE
from lightning_emerge.store.read import Run


def summarise_run(run: str | Path | Run) -> tuple[list[str], Figure | None]:
    """Says in a few lines what a run's records show, and draws the emergence of its tokens.

    Args:
        run: the run, or its folder.

    Returns:
        Lines of text, none if the run has no records; and the picture, if a `CategoryProbe` looked.
    """
    try:
        run = Run.of(run)
    except FileNotFoundError:
        return [], None
    lines = [
        f"Records   {len(run.steps)} looks, {len(run.records.data_vars)} measures in {Path(run.folder) / STORE}",
        *_tell_regime(run),
    ]
    curves = run.read_together(("bank_accuracy", "bank_confidence"))
    if len(curves.data_vars) < 2 or not curves.sizes["step"]:
        return lines, None
    steps, tokens = curves.step.values.tolist(), run.tokens
    accuracy, confidence = curves.bank_accuracy.values, curves.bank_confidence.values
    known = accuracy[-1][np.isfinite(accuracy[-1])]
    mean = known.mean() if len(known) else np.nan
    bank = f"Bank      accuracy {mean:.3f} (chance {1 / len(tokens):.3f})"
    return [*lines, bank], draw_emergence(steps, accuracy, confidence, tokens)


def _tell_regime(run: Run) -> list[str]:
    """How much of the first look's tangent kernel is left, if a `RegimeProbe` looked more than once."""
    values = run.read("kernel_alignment_total")
    if values is None or values.sizes["step"] < 2:
        return []
    return [f"Regime    kernel alignment with step {int(values.step[0])}: {float(values[-1]):.2f} (1 is lazy)"]


def draw_emergence(steps: Sequence[int], accuracy: FloatArray, confidence: FloatArray, tokens: Sequence[str]) -> Figure:
    """Draws how the tokens emerge on the stimulus bank over optimizer steps, and their mean.

    Args:
        steps: optimizer steps of the looks, ascending.
        accuracy: (step, token) share of each token's stimuli that were classified correctly, 0 to 1; NaN where there
            are none.
        confidence: (step, token) mean probability given to the right token, 0 to 1.
        tokens: names of the tokens.
    """
    charts = [
        _chart(steps, accuracy, tokens, "share of stimuli classified correctly"),
        _chart(steps, confidence, tokens, "probability of the right token"),
    ]
    return draw_charts(charts, "Emergence of the tokens on the stimulus bank", columns=1, marked=True)


def _chart(steps: Sequence[int], values: FloatArray, tokens: Sequence[str], unit: str) -> Chart:
    mean = np.ma.filled(np.ma.masked_invalid(values).mean(axis=1), np.nan)
    curves = [Curve(token, Line(steps, values[:, k])) for k, token in enumerate(tokens)]
    curves.append(Curve("mean", Line(steps, mean), summary=True))
    return Chart("", unit, curves, (0.0, 1.0), level=Level(1 / len(tokens), "chance"))
