"""How well the tokens are classified, by token and layer, and from when on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from lightning_emerge.analysis.emergence import draw_emergence
from lightning_emerge.analysis.emergence_time import Emergence
from lightning_emerge.analysis.timeline import Event, draw_timeline, run_timeline, tell_mastery, tell_time
from lightning_emerge.figures.curves import draw_charts
from lightning_emerge.report.content import Picture, Section, Table
from lightning_emerge.report.overlay import (
    Found,
    by_group,
    read_all,
    spread,
    tell_missing,
    tell_runs,
    to_chart,
    write_number,
)
from lightning_emerge.store.read import Run

_MOST_TOKENS = 32
_TIMES = (
    "Onset: the optimizer step at which each left its baseline for good, where it has gone 10% of its way to its final "
    "level. Mastery: from when on it stays within 10% of its way from there. In brackets 95% intervals, from look to "
    "look. Never: it did not rise by as much as counts, three standard errors over stimuli and 0.1 at least. Not "
    "resolved: it may have, and these looks cannot tell."
)


def how_it_learned(runs: Sequence[Run]) -> Section:
    """Shows accuracy and confidence by token, and how well each layer could tell the tokens."""
    section = Section()
    tell_missing(runs, ("bank_accuracy", "bank_confidence", "ridge_accuracy"), "CategoryProbe", section)
    accuracy, confidence = (read_all(runs, name, section) for name in ("bank_accuracy", "bank_confidence"))
    if accuracy and confidence:
        section.says += [_last(run, values) for run, values in accuracy]
        section.pictures.append(_tokens(accuracy, confidence))
    readouts = {name: read_all(runs, name, section) for name in ("ridge_accuracy", "nearest_mean_accuracy")}
    chance = 1 / max(1, len(next((run.tokens for run in runs if run.tokens), [])))
    titles = {"ridge_accuracy": "read out by ridge regression", "nearest_mean_accuracy": "read out by the nearest mean"}
    charts = [to_chart(found, titles[name], level=chance) for name, found in readouts.items()]
    charts = [chart for chart in charts if chart is not None]
    if charts:
        figure = draw_charts(charts, "How far each layer has the tokens apart", ordered=True)
        caption = (
            "Share of the bank's stimuli classified correctly from a layer's responses by a read-out fitted to other "
            f"stimuli, 0 to 1; dotted: chance, {chance:.2f}. Dark are early layers, light late ones."
        )
        section.pictures.append(
            Picture("read_outs", figure, "Curves of read-out accuracy by layer over steps", caption)
        )
    return section


def when_it_emerged(runs: Sequence[Run]) -> Section:
    """Tells when each token, layer, feature and coupling emerged."""
    section = Section()
    tell_missing(runs, ("bank_confidence",), "CategoryProbe", section)
    dated = [(run, events) for run, events in ((run, run_timeline(run)) for run in runs if run.steps) if events]
    if dated:
        section.tables.append(_emerged(dated))
    for run, events in dated if len(dated) == 1 else []:
        section.tables.append(_by_how_much(events))
        figure = draw_timeline(run, events)
        if figure is not None:
            section.pictures.append(Picture("timeline", figure, "Emergence times with intervals, by group", _TIMES))
    return section


def _emerged(dated: Sequence[tuple[Run, Sequence[Event]]]) -> Table:
    """Emergence times of runs side by side, with mean and spread over those of one configuration."""
    times = [{(one.group, one.name): one.emergence for one in events} for _, events in dated]
    things = list(dict.fromkeys(thing for own in times for thing in own))
    groups = {name: own for name, own in by_group(_steps(dated)).items() if len(own) > 1}
    rows = [
        [
            f"{group} {name}",
            *(tell_time(own[group, name]) if (group, name) in own else "-" for own in times),
            *(spread([steps.get((group, name), np.nan) for steps in own], 0) for own in groups.values()),
        ]
        for group, name in things
    ]
    head = ["", *(run.name for run, _ in dated), *(f"mean ± standard deviation of {name}" for name in groups)]
    return Table(_TIMES, head, rows)


def _by_how_much(events: Sequence[Event]) -> Table:
    """Mastery and size of what emerged, and what would have been seen of what did not."""
    rows = [[f"{event.group} {event.name}", *_tell(event.emergence)] for event in events]
    head = ["", "mastery", "change", "least that counts", "would have been seen", "looks inside", "p"]
    about = (
        "Change: from baseline to final level, in the unit of the measure. Would have been seen: the least change, "
        "midway, in noise from look to look as large as was there. Looks inside: between 10% and 90% of the way. p: "
        "how often slow noise without a change would seem to change as much."
    )
    return Table(about, head, rows)


def _tell(found: Emergence) -> list[str]:
    numbers = [write_number(one, 2) for one in (found.change, found.least, found.detectable)]
    inside = "-" if found.looks_inside is None else str(found.looks_inside)
    return [tell_mastery(found), *numbers, inside, write_number(found.p_value, 3)]


def _steps(dated: Sequence[tuple[Run, Sequence[Event]]]) -> list[tuple[Run, dict[tuple[str, str], float | None]]]:
    return [(run, {(one.group, one.name): one.emergence.step for one in events}) for run, events in dated]


def _last(run: Run, values: xr.DataArray) -> str:
    last = values.isel(step=-1)
    each = ", ".join(f"{token} {value:.2f}" for token, value in zip(run.tokens, last.values, strict=True))
    mean = np.ma.masked_invalid(last.values).mean()
    return (
        f"At step {int(last.step)}, {run.name} classifies {float(mean):.3f} of the bank's stimuli correctly, on a "
        f"scale of 0 to 1 with chance at {1 / len(run.tokens):.3f}: {each}."
    )


def _tokens(accuracy: Found, confidence: Found) -> Picture:
    alt = "Accuracy and probability of each token over optimizer steps"
    if len(accuracy) == 1 == len(confidence):
        shared = np.intersect1d(accuracy[0][1].step.values, confidence[0][1].step.values)
        upper, lower = (found[0][1].sel(step=shared).values for found in (accuracy, confidence))
        figure = draw_emergence(shared.tolist(), upper, lower, accuracy[0][0].tokens)
        caption = (
            "Above: share of each token's stimuli that are classified correctly, 0 to 1. Below: mean probability of "
            "the right token. Black is their mean, dotted is chance."
        )
        return Picture("emergence", figure, alt, caption)
    chance = 1 / len(accuracy[0][0].tokens)
    charts = [
        to_chart(accuracy, "accuracy", level=chance, most=_MOST_TOKENS),
        to_chart(confidence, "probability of the right token", level=chance, most=_MOST_TOKENS),
    ]
    figure = draw_charts(
        [chart for chart in charts if chart is not None], "Emergence of the tokens on the stimulus bank"
    )
    return Picture("emergence", figure, alt, tell_runs([run for run, _ in accuracy]).strip())
