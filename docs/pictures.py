"""Draws the documentation's pictures from a finished run of configs/vgg5.yaml.

make pictures RUNS=runs/vgg5/version_0

Those of docs/filters.md need a run with configs/probes/filters.yaml on top, or such a replay of its checkpoints; those
of couplings one with configs/probes/coupling.yaml, those of parts one with configs/probes/parts.yaml. docs/probes.md
says which run its own are of.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure

import lightning_emerge as le
from lightning_emerge.analysis.biography import read_biography
from lightning_emerge.analysis.coupling import draw_run_couplings, draw_run_graph
from lightning_emerge.analysis.embedding import draw_embedding, embed_run
from lightning_emerge.analysis.emergence import summarise_run
from lightning_emerge.analysis.geometry import draw_run_fits, step_cka
from lightning_emerge.board.launch import tensorboard_command
from lightning_emerge.callbacks.contact import contact_sheet
from lightning_emerge.figures.ablation import draw_drops
from lightning_emerge.figures.biography import draw_biography
from lightning_emerge.figures.cka import draw_alignment
from lightning_emerge.figures.exemplars import draw_top_exemplars
from lightning_emerge.figures.filters import draw_kernels
from lightning_emerge.figures.maximisation import draw_maximised, draw_maximised_steps
from lightning_emerge.figures.parts import draw_told
from lightning_emerge.figures.rdm import draw_rdm_steps, draw_rdms
from lightning_emerge.figures.tree import draw_trees
from lightning_emerge.measures.tree import average_linkage
from lightning_emerge.probes.similarity import shown_of_rdms

FOLDER = Path(__file__).parent / "pictures"
LAYERS = ("conv1_1", "conv2_2", "conv3_3", "conv4_3", "conv5_3", "fc2", "fc3")


def save(name: str, figure: Figure) -> None:
    figure.savefig(FOLDER / f"{name}.png", dpi=110)
    print(FOLDER / f"{name}.png")


def draw_records(run: Path) -> None:
    _, emergence = summarise_run(run)
    assert emergence is not None
    save("emergence", emergence)
    records = le.open_run(run)
    last = measurement(records.rdm.isel(step=-1), ("layer", "stimulus", "stimulus_b"))
    tokens = [str(token) for token in records.stimulus_token.values]
    shown = shown_of_rdms(torch.from_numpy(last.values), tokens, last.range[1])
    save("rdm", draw_rdms(replace(last, beside=shown)))
    names = ("filter", "channel", "y", "x")
    save("kernels", draw_kernels(measurement(records.kernels.isel(step=-1), names)))
    wanted = [0, 56, 79, 112, 141, 200, int(records.step[-1])]
    steps = [int(records.step.sel(step=step, method="nearest")) for step in wanted]
    rdms = records.rdm.sel(step=steps, layer=list(LAYERS)).values
    save("rdm_steps", draw_rdm_steps(rdms, steps, LAYERS, tokens, last.unit, last.range[1]))


def draw_maximising(run: Path) -> None:
    """Maximising images at the last look, and sheets of some layers' images at four steps."""
    records = le.open_run(run)
    if "maximising_image" not in records:
        return
    images = records.maximising_image
    save("maximised", draw_maximised(measurement(images.isel(step=-1), ("layer", "filter", "channel", "y", "x"))))
    steps = [int(records.step.sel(step=step, method="nearest")) for step in (0, 10, 100, int(records.step[-1]))]
    layer_axis = images.dims[1]
    for layer in ("conv1_1", "conv3_3", "conv5_3", "fc3"):
        shown = images.sel({"step": steps, layer_axis: layer})
        count = int(shown[f"{layer_axis}_filters"])
        save(f"maximised_{layer}", draw_maximised_steps(shown.values[:, :count], steps, layer))


def draw_couplings(run: Path) -> None:
    """The graph at the look with the most effective edges, and what graphs are like over steps."""
    if "coupling_edges" not in le.open_run(run):
        return
    edges = le.coupling_statistics(run).edges.sel(kind="effective")
    save("coupling", draw_run_graph(run, int(edges.step[edges.values.argmax()])))
    save("couplings", draw_run_couplings(run))


def measurement(array: xr.DataArray, names: tuple[str, ...]) -> le.Measurement:
    """Puts a record back into the form that a figure draws."""
    axes = tuple(
        le.Axis(name, array[dimension].values.tolist(), notes=notes(array, str(dimension)))
        for name, dimension in zip(names, array.dims, strict=True)
    )
    attributes = array.attrs
    return le.Measurement(
        str(array.name),
        array.values,
        axes,
        int(array.step),
        attributes["units"],
        about=attributes["long_name"],
        range=(attributes.get("valid_min"), attributes.get("valid_max")),
        scale=attributes.get("scale", "linear"),
    )


def draw_filters(run: Path) -> None:
    """What drives filters of some layers at the last step, and the biographies of three filters."""
    records = le.open_run(run)
    last = records[["top_crop", "top_token", "filter_response"]].isel(step=-1).sel(layer=list(LAYERS)).load()
    axes = tuple(le.Axis(name, last[name].values.tolist()) for name in ("layer", *last.top_crop.dims[1:]))
    beside = {
        "token": last.top_token.values[:, : last.top_crop.shape[1]],
        "tokens": np.array(last.token.values.tolist()),
        "filters": last.filter_response.notnull().any("token").sum("filter").values,
    }
    crops = le.Measurement("top_crop", last.top_crop.values, axes, int(last.step), beside=beside)
    save("top_exemplars", draw_top_exemplars(crops))
    for layer, number in (("conv1_1", 3), ("conv3_3", 1), ("conv5_3", 2)):
        save(f"biography_{layer}", draw_biography(read_biography(run, layer, number)))


def draw_geometry(run: Path) -> None:
    """What layers are like over the steps, at the last one to each other, and where they have the stimuli."""
    fits = draw_run_fits(run)
    assert fits is not None
    save("model_fit", fits)
    records = le.open_run(run)
    last = records.cka.isel(step=-1)
    save("cka", draw_alignment(measurement(last, ("layer", "layer_b"))))
    rdms = records.token_rdm.isel(step=-1)
    tokens = [str(token) for token in rdms.token.values]
    trees = {
        layer: average_linkage(torch.from_numpy(rdms.sel(layer=layer).values).double()).numpy() for layer in LAYERS
    }
    save("trees", draw_trees(trees, tokens, rdms.attrs["units"], int(rdms.step), 2.0))
    own = step_cka(run, "conv5_3")
    axes = tuple(le.Axis(name, own[name].values.tolist()) for name in ("step", "step_b"))
    alike = le.Measurement("cka", own.values, axes, int(own.step[-1]), range=(-1, 1))
    save("step_cka", draw_alignment(alike, "CKA of conv5_3 with itself at all steps"))
    save("embedding", draw_embedding(embed_run(run)))


def draw_parts(run: Path) -> None:
    """How parts transfer to new tokens, and what tokens lose without their detectors, at the last step."""
    records = le.open_run(run)
    save("part_transfer", draw_told(measurement(records.part_transfer.isel(step=-1), ("layer", "feature")), 0.0))
    save("ablation", draw_drops(measurement(records.ablation_drop.isel(step=-1), ("layer", "part", "token"))))


def notes(array: xr.DataArray, dimension: str) -> dict[str, list[str | int]]:
    found = {note: f"{dimension}_{note}" for note in ("token", "filters", "kind", "tokens")}
    return {note: array[name].values.tolist() for note, name in found.items() if name in array.coords}


def draw_exemplars() -> None:
    data = le.TokenDataModule()
    data.setup("fit")
    save("exemplars", contact_sheet(data))


def shoot_board(run: Path) -> None:
    """Takes a picture of TensorBoard's time series on the run."""
    from browser import open_browser  # of tests/bench, which only this picture needs

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(tensorboard_command(str(run), port), start_new_session=True, stderr=subprocess.DEVNULL)
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{address}/data/environment", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        with open_browser() as browser:
            page = browser.new_page(viewport={"width": 1500, "height": 1000})
            page.goto(f"{address}/?smoothing=0&tagFilter=^(exemplars|emergence|rdm|kernels|val/confusion)$#timeseries")
            page.locator("image-card img").nth(4).wait_for(timeout=120_000)
            page.get_by_role("button", name="Settings").first.click()
            time.sleep(3)
            page.screenshot(path=str(FOLDER / "tensorboard.png"))
            print(FOLDER / "tensorboard.png")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def main() -> None:
    run = Path(sys.argv[1])
    if not (run / "records.zarr").is_dir():
        sys.exit(f"The pictures are drawn from one finished run, such as runs/vgg5/version_0; {run} has no records.")
    FOLDER.mkdir(exist_ok=True)
    np.seterr(all="raise")
    draw_exemplars()
    draw_records(run)
    draw_filters(run)
    draw_geometry(run)
    draw_maximising(run)
    draw_couplings(run)
    draw_parts(run)
    shoot_board(run)


if __name__ == "__main__":
    main()
