"""Draws the documentation's pictures from a finished run of configs/vgg5.yaml.

make pictures RUNS="RUN [LAZY [IMAGES [LAZY_IMAGES]]]"

The run and the lazy one beside it, of configs/regimes/lazy.yaml, have configs/probes/dense.yaml and
configs/probes/construction.yaml. Images are records of a MaximisationProbe, which `lightning replay` makes of the
run's checkpoints at a few steps, and of the lazy one's last. docs/probes.md says which run its own pictures are of.
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
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

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
from lightning_emerge.figures.canvas import TOKEN_COLOURS, mosaic, new_figure
from lightning_emerge.figures.cka import draw_alignment
from lightning_emerge.figures.exemplars import draw_top_exemplars
from lightning_emerge.figures.filters import draw_kernels, kernel_colours
from lightning_emerge.figures.maximisation import draw_maximised, draw_maximised_steps
from lightning_emerge.figures.parts import draw_told
from lightning_emerge.figures.rdm import draw_rdm_steps, draw_rdms
from lightning_emerge.figures.tree import draw_trees
from lightning_emerge.measures.tree import average_linkage
from lightning_emerge.probes.similarity import shown_of_rdms

FOLDER = Path(__file__).parent / "pictures"
LAYERS = ("conv1_1", "conv2_2", "conv3_3", "conv4_3", "conv5_3", "fc2", "fc3")


def save(name: str, figure: Figure, dpi: int = 110) -> None:
    """Writes a picture of 256 colours, which is a third of one of all colours."""
    content = BytesIO()
    figure.savefig(content, dpi=dpi)
    picture = Image.open(content).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    picture.save(FOLDER / f"{name}.png", optimize=True)
    print(FOLDER / f"{name}.png")


def nearest(records: xr.Dataset, wanted: tuple[int, ...]) -> list[int]:
    """The looks that are nearest to wanted steps, and the last one."""
    return [*(int(records.step.sel(step=step, method="nearest")) for step in wanted), int(records.step[-1])]


def draw_records(run: Path) -> None:
    _, emergence = summarise_run(run)
    assert emergence is not None
    save("emergence", emergence)
    records = le.open_run(run)
    last = measurement(records.rdm.isel(step=-1), ("layer", "stimulus", "stimulus_b"))
    tokens = [str(token) for token in records.stimulus_token.values]
    shown = shown_of_rdms(torch.from_numpy(last.values), tokens, last.range[1])
    save("rdm", draw_rdms(replace(last, beside=shown)), dpi=85)
    names = ("layer", "filter", "channel", "y", "x")
    save("kernels", draw_kernels(measurement(records.kernels.isel(step=-1), names)))
    steps = nearest(records, (0, 100, 126, 158, 200, 398))
    rdms = records.rdm.sel(step=steps, layer=list(LAYERS)).values
    save("rdm_steps", draw_rdm_steps(rdms, steps, LAYERS, tokens, last.unit, last.range[1]), dpi=75)


def draw_regimes(run: Path, lazy: Path) -> None:
    """What each run made of its filters: first kernels before and after, how far filters turned, what couples."""
    figure = new_figure(10.4, 4.6)
    panels = figure.subplot_mosaic(
        [["rich 0", "rich 1", "cosine"], ["lazy 0", "lazy 1", "edges"]], width_ratios=(1, 1, 1.2)
    )
    for name, folder, colour in (("rich", run, TOKEN_COLOURS[0]), ("lazy", lazy, TOKEN_COLOURS[4])):
        records = le.open_run(folder)
        for number, step in enumerate((0, int(records.step[-1]))):
            axes = panels[f"{name} {number}"]
            draw_directions(axes, records.kernels.sel(step=step).values[0])
            axes.set_title(f"{name}: kernels of conv1_1, step {step}", fontsize=9)
        draw_cosines(panels["cosine"], records.filter_cosine_start.isel(step=-1), name, colour)
        edges = le.coupling_statistics(folder).edges.sel(kind="effective")
        panels["edges"].plot(edges.step.values, edges.values, color=colour, marker=".", markersize=4, label=name)
    panels["cosine"].axhline(3**0.5 / 2, color="grey", linewidth=0.8, linestyle="--", label="30 degrees")
    panels["cosine"].set_title("cosine of filters with step 0", fontsize=9)
    panels["edges"].set_title("effective couplings that count", fontsize=9)
    panels["edges"].set_xlabel("optimizer steps", fontsize=8)
    for axes in (panels["cosine"], panels["edges"]):
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    panels["edges"].set_ylim(bottom=0)
    panels["cosine"].legend(frameon=False, fontsize=8)
    save("rich_lazy", figure)


def draw_directions(axes: Axes, kernels: np.ndarray) -> None:
    """Kernels (filter, channel, y, x) of one length, so that colours tell directions and not sizes."""
    rms = np.sqrt((kernels**2).mean(axis=(1, 2, 3), keepdims=True))
    even = kernels / rms * np.sqrt(2 / kernels[0].size)  # He's length, which the colours are for
    sheet, _ = mosaic(kernel_colours(even).repeat(8, axis=1).repeat(8, axis=2), 4, 6)
    axes.imshow(sheet, interpolation="nearest")
    axes.set_axis_off()


def draw_cosines(axes: Axes, cosines: xr.DataArray, name: str, colour: str) -> None:
    """The mean over a layer's filters, and from the lowest tenth to the highest."""
    places = np.arange(cosines.sizes["layer"])
    low, high = cosines.quantile([0.1, 0.9], dim="filter").values
    axes.fill_between(places, low, high, color=colour, alpha=0.2, linewidth=0)
    axes.plot(places, cosines.mean("filter").values, color=colour, marker="o", markersize=3, label=name)
    axes.set_xticks(places, [str(layer) for layer in cosines.layer.values], rotation=90)
    axes.set_ylim(min(0, axes.get_ylim()[0]), 1.03)


def draw_maximising(images_of: Path, lazy: Path | None) -> None:
    """Maximising images of all layers at the last step of each run, and of some layers at each step of the first."""
    names = ("layer", "filter", "channel", "y", "x")
    images = le.open_run(images_of).maximising_image
    save("maximised", draw_maximised(measurement(images.isel(step=-1), names)))
    layer_axis, steps = images.dims[1], [int(step) for step in images.step]
    for layer in ("conv1_1", "conv3_3", "conv5_3", "fc3"):
        shown = images.sel({layer_axis: layer})
        count = int(shown[f"{layer_axis}_filters"])
        save(f"maximised_{layer}", draw_maximised_steps(shown.values[:, :count], steps, layer))
    if lazy is not None:
        save("maximised_lazy", draw_maximised(measurement(le.open_run(lazy).maximising_image.isel(step=-1), names)))


def draw_couplings(run: Path) -> None:
    """The graph at the look with the most effective edges, and what graphs are like over steps."""
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
    for layer, number in (("conv1_1", 7), ("conv3_3", 1), ("conv5_3", 5)):
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
    run, *others = map(Path, sys.argv[1:])
    for folder in (run, *others):
        if not (folder / "records.zarr").is_dir():
            sys.exit(f"Pictures are drawn from finished runs, such as runs/vgg5/version_0; {folder} has no records.")
    FOLDER.mkdir(exist_ok=True)
    np.seterr(all="raise")
    draw_exemplars()
    draw_records(run)
    draw_filters(run)
    draw_geometry(run)
    draw_couplings(run)
    draw_parts(run)
    for lazy in others[:1]:
        draw_regimes(run, lazy)
    if others[1:]:
        draw_maximising(others[1], *others[2:] or [None])
    shoot_board(run)


if __name__ == "__main__":
    main()
