"""Makes the tables of docs/vgg5.md, docs/categories.md and docs/regimes.md that compare runs, from their records alone.

make story RUNS="rich0=DIR rich1=DIR lazy0=DIR shuffled0=DIR ..."

The runs are those of docs/construction.md, with configs/probes/dense.yaml and configs/probes/construction.yaml.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
import xarray as xr
from construction import number, table

from lightning_emerge.measures.coupling import count_edges
from lightning_emerge.measures.filters import turned_share
from lightning_emerge.store.read import Run

EARLY = ("conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3")
SHOWN = ("conv1_1", "conv2_2", "conv3_3", "conv4_3", "conv5_3", "fc2")
STEPS = (0, 50, 63, 79, 100, 158, 251, 398, 631, 1248)


def at(run: Run, name: str, step: int, beside: str = "") -> xr.DataArray:
    """A record at the last look up to a step at which it, or another that is taken with it, was taken."""
    known = run.records[beside or name].notnull()
    steps = known.step.values[known.any([dim for dim in known.dims if dim != "step"]).values]
    return run.records[name].sel(step=steps[steps <= step][-1])


def turned(run: Run, step: int) -> float:
    cosines = at(run, "filter_cosine_start", step).sel(layer=list(EARLY)).values
    return float(turned_share(torch.from_numpy(cosines[np.isfinite(cosines)]), 30))


def edges(run: Run, kind: str, step: int) -> tuple[int, int]:
    """Pairs of layers in which edges of a kind count, and the edges."""
    strengths = torch.from_numpy(at(run, f"coupling_{kind}", step).values)
    least = at(run, "coupling_threshold", step, beside="coupling_effective").sel(kind=kind).values
    counted = count_edges(strengths, torch.from_numpy(least), kind).sum(dim=(1, 2))
    return int((counted > 0).sum()), int(counted.sum())


def tell_ends(runs: dict[str, Run]) -> None:
    rows = []
    for name, run in runs.items():
        last = int(run.steps[-1])
        cosines = at(run, "filter_cosine_start", last)
        own = [number(float(np.nanmean(cosines.sel(layer=layer).values))) for layer in SHOWN[:-1]]
        counted = [" / ".join(map(str, edges(run, kind, last))) for kind in ("weight", "effective")]
        accuracy = float(at(run, "bank_accuracy", last).mean())
        rows.append([name, number(accuracy, 3), number(turned(run, last)), *own, *counted])
    head = ["run", "accuracy", "turned", *(f"`{layer}`" for layer in SHOWN[:-1]), "weight pairs / edges", "effective"]
    table("At the end", head, rows)


def tell_way(runs: dict[str, Run]) -> None:
    rows = []
    for step in STEPS:
        cells = [str(step)]
        for run in runs.values():
            accuracy = float(at(run, "bank_accuracy", step).mean())
            pairs, counted = edges(run, "effective", step)
            cells.append(f"{number(accuracy)}, {number(turned(run, step))}, {pairs} / {counted}")
        rows.append(cells)
    table("Accuracy, share turned, effective pairs / edges", ["step", *runs], rows)


def tell_layers(runs: dict[str, Run], name: str, digits: int = 2) -> None:
    for run_name, run in runs.items():
        rows = []
        for step in STEPS:
            record = at(run, name, step)
            rows.append([str(step), *(number(float(record.sel(layer=layer)), digits) for layer in SHOWN)])
        table(f"{name}, {run_name}", ["step", *(f"`{layer}`" for layer in SHOWN)], rows)


def tell_models(runs: dict[str, Run]) -> None:
    for run_name, run in runs.items():
        last = at(run, "model_fit", int(run.steps[-1]))
        models = [str(model) for model in last.model.values]
        rows = [[f"`{layer}`", *(number(float(last.sel(layer=layer, model=one))) for one in models)] for layer in SHOWN]
        table(f"Fit of models at the end, {run_name}", ["layer", *models], rows)


def tell_parts(runs: dict[str, Run]) -> None:
    for run_name, run in runs.items():
        rows = []
        for step in STEPS:
            cells = [str(step)]
            for layer in SHOWN:
                found = [at(run, name, step).sel(layer=layer) for name in ("part_auc", "part_filter_auc")]
                axis = str(found[0].dims[-1])
                kinds = found[0].coords[f"{axis}_kind"].values == "part"
                cells.append(" / ".join(number(float(one.values[kinds].mean())) for one in found))
            rows.append(cells)
        table(f"Parts: AUC of the layer / of its best filter, {run_name}", ["step", *SHOWN], rows)


def main() -> None:
    runs = {name: Run(folder) for name, _, folder in (word.partition("=") for word in sys.argv[1:])}
    tell_ends(runs)
    tell_way(runs)
    firsts = {name: run for name, run in runs.items() if name.endswith("0")}
    for name in ("ridge_accuracy", "distance_ratio", "participation_ratio", "collapse_variability"):
        tell_layers(firsts, name)
    tell_models(firsts)
    tell_parts(firsts)


if __name__ == "__main__":
    main()
