"""Makes the tables and the pictures of docs/construction.md from runs with configs/probes/construction.yaml.

make construction RUNS="rich0=runs/vgg5/version_0 rich1=DIR lazy0=DIR shuffled0=DIR"

The first run is the one whose timeline is drawn. Runs whose names differ in their last digits are taken together.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from lightning_emerge.analysis.ablation import ALL, ablation_table
from lightning_emerge.analysis.construction import construction_leads, construction_order
from lightning_emerge.analysis.effects import LEAST
from lightning_emerge.analysis.emergence_time import emergence_time
from lightning_emerge.analysis.recovery import Recovery, grammar_recovery
from lightning_emerge.analysis.timeline import Event, draw_timeline, run_timeline, tell_mastery, tell_time
from lightning_emerge.figures.canvas import to_png
from lightning_emerge.figures.curves import Band, Chart, Curve, Level, Line, draw_charts
from lightning_emerge.store.read import open_run

PICTURES = Path(__file__).parent / "pictures"
MEASURES = ("part_auc", "part_filter_auc", "part_transfer")
STEPS = (0, 63, 158, 398, 1248)
TURNED = 3**0.5 / 2
"""Cosine of 30 degrees."""


def table(title: str, head: list[str], rows: list[list[str]]) -> None:
    print(f"\n{title}\n")
    for cells in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(cells)} |")


def number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.{digits}f}"


def tell_times(runs: dict[str, list[Event]]) -> None:
    things = list(dict.fromkeys((event.group, event.name) for events in runs.values() for event in events))
    found = {run: {(one.group, one.name): _tell(one) for one in events} for run, events in runs.items()}
    rows = [[group, name, *(own.get((group, name), "-") for own in found.values())] for group, name in things]
    table("Onset, mastery", ["group", "name", *runs], rows)


def _tell(event: Event) -> str:
    return "; ".join(tell(event.emergence) for tell in (tell_time, tell_mastery))


def turning(folder: str) -> list[Event]:
    """When the filters of each convolution turned: the share of them that is 30 degrees or more from its start."""
    cosines = open_run(folder).filter_cosine_start.dropna("step", how="all")
    found = []
    for layer in cosines.layer.values:
        own = cosines.sel(layer=layer).dropna("filter", how="all").values
        if str(layer).startswith("conv"):
            emerged = emergence_time(cosines.step.values, (own < TURNED).mean(axis=1), LEAST)
            found.append(Event("turned", str(layer), "filter_cosine_start", "1", emerged))
    return found


def tell_medians(runs: dict[str, list[Event]]) -> None:
    """Median onset and mastery of what emerged, and how many did, of all and without those that are not resolved."""
    groups = list(dict.fromkeys(event.group for events in runs.values() for event in events))
    rows = []
    for group in groups:
        cells = []
        for events in runs.values():
            own = [one.emergence for one in events if one.group == group]
            onsets = [one.onset.step for one in own if one.onset]
            masteries = [one.mastery.step for one in own if one.mastery]
            open_ones = sum(one.whether == "unresolved" for one in own)
            ends = [f"{np.median(steps):.0f}" if steps else "-" for steps in (onsets, masteries)]
            cells.append(f"{', '.join(ends)} ({len(onsets)} of {len(own)}, {open_ones} not resolved)")
        rows.append([group, *cells])
    table("Median onset, median mastery (emerged)", ["group", *runs], rows)


def tell_sides(runs: dict[str, list[Event]]) -> None:
    """Of pairs of things of two groups, how often the one's onset is surely first, by intervals that do not meet."""
    rows = []
    for late in ("turned", "coupling"):
        for early in ("token", "part"):
            cells = []
            for events in runs.values():
                spans = [[_span(one) for one in events if one.group == group] for group in (early, late)]
                ones, others = ([span for span in own if span] for own in spans)
                first = sum(one[1] < other[0] for one in ones for other in others)
                after = sum(other[1] < one[0] for one in ones for other in others)
                cells.append(f"{first}, {after} of {len(ones) * len(others)}")
            rows.append([f"{early} first, {late} first", *cells])
    table("Surely first", ["", *runs], rows)


def _span(event: Event) -> tuple[float, float] | None:
    onset = event.emergence.onset
    return (onset.low, onset.high) if onset else None


def tell_edges(runs: dict[str, str]) -> None:
    """Pairs of layers with edges of effect, and the edges, at some looks; and the edges of each pair at the end."""
    counted = {name: _edges(folder) for name, folder in runs.items()}
    rows = []
    for step in STEPS:
        looks = [np.searchsorted(steps, step, side="right") - 1 for steps, _, _ in counted.values()]
        found = [own[look] for look, (_, _, own) in zip(looks, counted.values(), strict=True)]
        rows.append([str(step), *(f"{(own > 0).sum()} / {own.sum()}" for own in found)])
    table("Pairs of layers / effective edges", ["step", *runs], rows)
    pairs = next(iter(counted.values()))[1]
    rows = [[pair, *(str(own[-1, at]) for _, _, own in counted.values())] for at, pair in enumerate(pairs)]
    table("Effective edges at the end", ["pair", *runs], rows)


def _edges(folder: str) -> tuple[npt.NDArray[np.integer], list[str], npt.NDArray[np.integer]]:
    """Steps, pairs of layers, and edges of effect (look, pair)."""
    shares = open_run(folder).coupling_edges.sel(kind="effective").dropna("step", how="all")
    possible = shares.pair_filters_out.values * shares.pair_filters_in.values
    return shares.step.values, [str(one) for one in shares.pair.values], np.rint(shares.values * possible).astype(int)


def together(runs: dict[str, str]) -> dict[str, list[str]]:
    """The folders of runs whose names differ in their last digits, and of each run."""
    kinds: dict[str, list[str]] = {}
    for name, folder in runs.items():
        kinds.setdefault(name.rstrip("0123456789"), []).append(folder)
    return {f"all {kind}": own for kind, own in kinds.items()} | {name: [folder] for name, folder in runs.items()}


def tell_order(runs: dict[str, str]) -> None:
    rows = []
    for name, folders in together(runs).items():
        found = construction_order(folders)
        chance = f"{found.low:.2f} to {found.high:.2f}"
        seen = f"{found.seen} of {found.things}"
        rows.append([name, number(found.agreement), chance, f"{found.p_value:.4f}", str(found.pairs), seen])
    table("Order", ["", "agreement", "95% of shuffled orders", "p", "pairs", "emerged"], rows)


def tell_leads(runs: dict[str, str]) -> None:
    rows = []
    for name, folder in runs.items():
        for kind, leads in construction_leads(folder).groupby("kind", sort=False):
            known = leads.dropna(subset=["steps"])
            median = known.steps.median() if len(known) else np.nan
            sure = [str((known.low > 0).sum()), str((known.high < 0).sum())]
            rows.append([name, str(kind), number(median, 0), *sure, f"{len(known)} of {len(leads)}"])
    table("Leads", ["", "leader", "median lead", "surely first", "surely later", "both emerged"], rows)


def tell_recovery(runs: dict[str, list[Recovery]], folders: dict[str, str]) -> None:
    rows, beyond = [], []
    for name, found in runs.items():
        looks = [[one for one in found if one.step <= step][-1] for step in STEPS]
        last = found[-1]
        rows.append([name, *(number(one.auc) for one in looks), f"{last.low:.2f} to {last.high:.2f}"])
        beyond.append([name, *(f"{number(one.beyond)} ({number(one.beyond_p)})" for one in looks)])
    head = ["", *(f"step {step}" for step in STEPS)]
    table("Grammar recovery, effective", [*head, "95% of shuffled grammars at the end"], rows)
    table("Beyond rivals (p)", head, beyond)
    rows = [
        [name, *(number(grammar_recovery(folder, kind)[-1].auc) for kind in ("weight", "effective"))]
        for name, folder in folders.items()
    ]
    table("Grammar recovery at the last look", ["", "weight", "effective"], rows)


def tell_ablation(runs: dict[str, str]) -> None:
    rows = []
    for name, folder in runs.items():
        found = ablation_table(folder)
        for _, row in found[found.part == ALL].iterrows():
            cells = [number(row[column], 3) for column in ("drop_with", "drop_without", "control", "difference")]
            chance = f"{number(row.low, 3)} to {number(row.high, 3)}"
            rows.append([name, str(row["layer"]), *cells, chance, number(row.p)])
    head = ["", "layer", "with the part", "without", "by lot", "difference", "95% of rivals", "p"]
    table("Ablation, last look, all parts", head, rows)


def tell_measures(runs: dict[str, str]) -> None:
    rows = []
    for name, folder in runs.items():
        records = open_run(folder)
        best = [records[measure].isel(step=-1).max("layer").mean("feature") for measure in MEASURES]
        rows.append([name, *(number(float(one)) for one in best)])
    table("At the last look, best layer", ["", *MEASURES], rows)


def draw_recovery(runs: dict[str, list[Recovery]]) -> Figure:
    """Draws how surely couplings tell which parts make up which wholes, with the chance of the first run."""
    first = next(iter(runs.values()))
    steps, low, high = ([getattr(one, name) for one in first] for name in ("step", "low", "high"))
    curves = [
        Curve(name, Line([one.step for one in own], np.array([one.auc for one in own]))) for name, own in runs.items()
    ]
    band = Band("95% of shuffled grammars", steps, low, high)
    chart = Chart("", "AUC, parts and wholes that have them", curves, (0.0, 1.0), level=Level(0.5), band=band)
    return draw_charts([chart], "Do couplings follow the grammar?", marked=True)


def main() -> None:
    runs = dict(one.split("=", 1) for one in sys.argv[1:])
    first = next(iter(runs.values()))
    times = {name: run_timeline(folder) for name, folder in runs.items()}
    dated = {name: [*events, *turning(runs[name])] for name, events in times.items()}
    recoveries = {name: grammar_recovery(folder) for name, folder in runs.items()}
    tell_times(dated)
    tell_medians(dated)
    tell_sides(dated)
    tell_edges(runs)
    tell_order(runs)
    tell_leads(runs)
    tell_recovery(recoveries, runs)
    tell_ablation(runs)
    tell_measures(runs)
    timeline = draw_timeline(first, next(iter(times.values())))
    for name, figure in {"timeline": timeline, "recovery": draw_recovery(recoveries)}.items():
        if figure is not None:
            (PICTURES / f"{name}.png").write_bytes(to_png(figure))


if __name__ == "__main__":
    main()
