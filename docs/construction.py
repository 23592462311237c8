"""Makes the tables and the pictures of docs/construction.md from runs with configs/probes/construction.yaml.

make construction RUNS="seed-0=runs/vgg5/version_0 shuffled=runs/shuffled_labels/version_0"

The first run is the one whose timeline is drawn. Runs whose names begin with "seed" are taken together.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from lightning_emerge.analysis.ablation import ALL, ablation_table
from lightning_emerge.analysis.construction import construction_leads, construction_order
from lightning_emerge.analysis.recovery import Recovery, grammar_recovery
from lightning_emerge.analysis.timeline import Event, draw_timeline, run_timeline, tell_time
from lightning_emerge.figures.canvas import to_png
from lightning_emerge.figures.curves import Band, Chart, Curve, Level, Line, draw_charts
from lightning_emerge.store.read import open_run

PICTURES = Path(__file__).parent / "pictures"
MEASURES = ("part_auc", "part_filter_auc", "part_transfer")


def table(title: str, head: list[str], rows: list[list[str]]) -> None:
    print(f"\n{title}\n")
    for cells in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(cells)} |")


def number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.{digits}f}"


def tell_times(runs: dict[str, list[Event]]) -> None:
    things = list(dict.fromkeys((event.group, event.name) for events in runs.values() for event in events))
    found = {run: {(one.group, one.name): tell_time(one.emergence) for one in events} for run, events in runs.items()}
    rows = [[group, name, *(own.get((group, name), "-") for own in found.values())] for group, name in things]
    table("Emergence times", ["group", "name", *runs], rows)


def tell_order(runs: dict[str, str]) -> None:
    seeds = [folder for name, folder in runs.items() if name.startswith("seed")]
    rows = []
    for name, folders in {"all seeds": seeds, **{name: [folder] for name, folder in runs.items()}}.items():
        found = construction_order(folders)
        chance = f"{found.low:.2f} to {found.high:.2f}"
        rows.append([name, number(found.agreement), chance, f"{found.p_value:.4f}", str(found.pairs)])
    table("Order", ["", "agreement", "95% of shuffled orders", "p", "pairs"], rows)


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
    rows = [
        [name, str(one.step), number(one.auc), f"{one.low:.2f} to {one.high:.2f}", f"{one.p_value:.3f}"]
        for name, found in runs.items()
        for one in (found[0], found[-1])
    ]
    table("Grammar recovery, effective", ["", "step", "AUC", "95% of shuffled grammars", "p"], rows)
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
            cells = [number(row[column], 3) for column in ("drop_with", "drop_without", "control", "p")]
            rows.append([name, str(row["layer"]), *cells])
    table(
        "Ablation, last look, all parts", ["", "layer", "with the part", "without", "by lot", "p against rivals"], rows
    )


def tell_measures(runs: dict[str, str]) -> None:
    rows = []
    for name, folder in runs.items():
        records = open_run(folder)
        best = [records[measure].isel(step=-1).max("layer").mean("feature") for measure in MEASURES]
        edges = records.coupling_edges.dropna("step", how="all").sum("step").max("pair").values
        rows.append([name, *(number(float(one)) for one in best), " / ".join(f"{one:.4f}" for one in edges)])
    table("At the last look, best layer", ["", *MEASURES, "largest sum of shares of edges"], rows)


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
    recoveries = {name: grammar_recovery(folder) for name, folder in runs.items()}
    tell_times(times)
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
