"""Puts a report together; a section is added here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lightning_emerge.report.construction import how_features_are_built, how_filters_couple
from lightning_emerge.report.content import Chapter, Report, Section
from lightning_emerge.report.filters import how_gradients_went, what_filters_became
from lightning_emerge.report.geometry import how_layers_lie, where_stimuli_lie
from lightning_emerge.report.learning import how_it_learned, when_it_emerged
from lightning_emerge.report.overlay import tell_runs
from lightning_emerge.report.regime import which_regime
from lightning_emerge.report.runs import read_runs
from lightning_emerge.report.trained import how_to_repeat, what_it_cost, what_was_trained
from lightning_emerge.store.read import Run

SECTIONS: tuple[tuple[str, str, Callable[[Sequence[Run]], Section]], ...] = (
    ("trained", "What was trained", what_was_trained),
    ("learning", "Learning", how_it_learned),
    ("timeline", "Timeline", when_it_emerged),
    ("geometry", "Geometry", how_layers_lie),
    ("embeddings", "Embeddings", where_stimuli_lie),
    ("regime", "Regime", which_regime),
    ("filters", "Filters", what_filters_became),
    ("gradients", "Gradients", how_gradients_went),
    ("coupling", "Coupling", how_filters_couple),
    ("construction", "Construction", how_features_are_built),
    ("costs", "Costs", what_it_cost),
    ("repeat", "How to reproduce", how_to_repeat),
)
"""Id, heading and maker of each section, in the order of the page. A maker takes the runs and gives a `Section`."""


def make_report(folders: Sequence[str | Path]) -> Report:
    """Reports on one run, or on several side by side, from what lies in their folders.

    Args:
        folders: of the runs, or fsspec URLs.

    Returns:
        What there is, with what is missing named. Runs whose configurations differ in seeds and places alone are
        averaged: curves have a thin line for each and a thick one for their mean, and tables their mean and standard
        deviation. Those of other configurations are laid over them.

    Raises:
        FileNotFoundError: if there is no such folder.
        ValueError: if a folder is that of no run, one is given twice, tokens differ from run to run, or there are more
            than 8 configurations.
    """
    runs = read_runs(folders)
    chapters = [Chapter(name, heading, _make(heading, make, runs)) for name, heading, make in SECTIONS]
    # What is torn comes to light when it is read, so it is said at last, in the first section.
    chapters[0].section.missing[:0] = [sentence for run in runs for sentence in run.trouble]
    return Report(", ".join(run.name for run in runs), [_about(runs)], chapters)


def _about(runs: Sequence[Run]) -> str:
    if len(runs) == 1:
        return "How a classification emerged in a network, from the records of one run."
    kinds = len({run.group for run in runs})
    of = "of one configuration" if kinds == 1 else f"of {kinds} configurations, averaged within each alone"
    return f"How a classification emerged in {len(runs)} runs {of}. {tell_runs(runs)}".strip()


def _make(heading: str, make: Callable[[Sequence[Run]], Section], runs: Sequence[Run]) -> Section:
    try:
        return make(runs)
    except Exception as error:  # what a broken run makes a section raise is not known, and the others stand
        return Section(missing=[f"{heading} could not be made: {type(error).__name__}: {str(error)[:500]}"])
