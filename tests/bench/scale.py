"""How the cost of a look grows: `make scale`. With processes, stimuli, layers, pixels and tokens.

Seconds are of the processor, on one thread, and not of a clock, so that other work on the machine changes little. A
series ends where its next point would take longer, or more memory, than is allowed here.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import resource
import socket
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch import seed_everything

import lightning_emerge as le
from lightning_emerge.capture import gather, run_bank
from lightning_emerge.capture.needs import features, rows, sums
from lightning_emerge.data.grammar.tokens import Grammar
from lightning_emerge.engine import passes, reporting
from lightning_emerge.engine.conductor import Conductor
from lightning_emerge.engine.looks import has_bank
from lightning_emerge.engine.reporting import Sinks
from lightning_emerge.engine.session import find_budget
from lightning_emerge.figures.canvas import TOKEN_COLOURS, TOKEN_MARKERS, new_figure, to_png

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"
PICTURES = PAGE.parent / "pictures"
WORLDS, HELD_OUT, FURTHEST, STIMULI = (1, 2, 4), 4, 512, 250
SECONDS, MIB = 6.0, 6000.0  # of one point at most
DEFAULT = (le.CategoryProbe, le.GradientProbe, le.FilterProbe, le.TopExemplarProbe, le.SimilarityProbe)
SHIPPED = (
    *DEFAULT,
    le.EmbeddingProbe,
    le.CouplingProbe,
    le.PartProbe,
    le.AblationProbe,
    le.TokenGradientProbe,
    le.GradientNoiseProbe,
    le.CurvatureProbe,
    le.MaximisationProbe,
)
CHEAP: dict[type[le.Probe], dict[str, int]] = {
    le.PartProbe: {"attributed": 1},
    le.CurvatureProbe: {"iterations": 5, "vectors": 2},
    le.MaximisationProbe: {"filters": 2, "iterations": 8},
}
"""Settings of probes that otherwise pass the network too often to be measured here."""

AXES = {
    "stimuli": (50, 100, 250, 500, 1000, 2500, 5000),
    "layers": (3, 5, 9, 17, 33),
    "pixels": (32, 48, 96, 160, 224),
    "tokens": (5, 10, 20, 50, 100, 200, 500, 1000),
}
Figures = dict[str, Any]


def make_data(tokens: int, exemplars: int, pixels: int) -> le.TokenDataModule:
    """A bank of rendered tokens; of as few other exemplars as there can be."""
    grammar = None if tokens == 5 else Grammar.sample(tokens, parts=9, arity=7, shared=2, seed=0)
    data = le.TokenDataModule(
        exemplars=2,
        min_exemplars=2,
        val_exemplars=2,
        test_exemplars=2,
        bank_exemplars=exemplars,
        image_size=pixels,
        grammar=grammar,
    )
    data.setup("fit")
    return data


def make_model(**changes: Any) -> le.TokenClassifier:
    seed_everything(0, verbose=False)
    return le.TokenClassifier(le.VGG(**changes))


# ---------------------------------------------------------------------------------------------------------------------
# Processes


class Traffic:
    """Counts what collectives carry: bytes that reach process zero from the others, and how many tensors."""

    def __init__(self) -> None:
        self.bytes, self.tensors, self.seconds = 0, 0, {"pass": 0.0, "gather": 0.0}
        others = dist.get_world_size() - 1
        for name in ("gather", "reduce", "all_reduce"):
            setattr(dist, name, self._counted(getattr(dist, name), others))

    def _counted(self, collective: Callable[..., Any], others: int) -> Callable[..., Any]:
        def run(tensor: torch.Tensor, *arguments: Any, **keywords: Any) -> Any:
            self.bytes += others * tensor.nbytes
            self.tensors += others
            return collective(tensor, *arguments, **keywords)

        return run

    def time(self, *rooms: Any) -> None:
        """Times the pass in seconds of the processor, and what gathers in seconds of the clock."""
        for room in rooms:
            if hasattr(room, "run_bank"):
                room.run_bank = self._timed(room.run_bank, "pass", time.process_time, meet=True)
            for name in {"gather", "add_up", "agree"} & vars(room).keys():
                setattr(room, name, self._timed(getattr(room, name), "gather", time.perf_counter))

    def _timed(self, work: Callable[..., Any], part: str, clock: Callable[[], float], *, meet: bool = False) -> Any:
        def run(*arguments: Any, **keywords: Any) -> Any:
            began = clock()
            try:
                return work(*arguments, **keywords)
            finally:
                self.seconds[part] += clock() - began
                if meet:
                    dist.barrier()  # waiting for the slowest is not gathering

        return run


def loopback_bytes() -> int:
    """Bytes that this machine has sent to itself."""
    lines = Path("/proc/self/net/dev").read_text().splitlines()
    return next((int(line.split(":")[1].split()[0]) for line in lines if line.strip().startswith("lo:")), 0)


def work_as(rank: int, world: int, port: int, out: Path, rounds: int) -> None:
    """One process: looks of the default probes at the default bank, and the speed of its network."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    data, model = make_data(5, STIMULI // 5, 48), make_model()
    bank = data.stimulus_bank()
    probes = [
        probe(on_error="raise")
        for probe in (*DEFAULT, le.EmbeddingProbe)
        if not any(need.training for need in probe.needs)
    ]
    traffic, found = Traffic(), []
    traffic.time(passes, reporting, rows, sums, features)
    for number in range(rounds + 1):
        conductor = Conductor(model, probes, bank, Sinks(), step=0)
        dist.barrier()
        traffic.bytes = traffic.tensors = 0
        traffic.seconds = dict.fromkeys(traffic.seconds, 0.0)
        sent, began = loopback_bytes(), time.process_time()
        conductor.look(0, last=True)
        spent = time.process_time() - began
        dist.barrier()
        row = {**traffic.seconds, "measures": spent - traffic.seconds["pass"], "bytes": traffic.bytes}
        row |= {"tensors": traffic.tensors, "loopback": loopback_bytes() - sent}
        conductor.close()
        if number:  # the first is warmer's
            found.append(row)
    best = {key: min(row[key] for row in found) for key in found[0]}
    if world == 2:
        best["latency"] = _latency(rounds)
    if rank == 0:
        out.write_text(json.dumps(best))
    dist.barrier()
    dist.destroy_process_group()


def _latency(rounds: int) -> float:
    """Seconds of a gather of nothing between two processes."""
    tensor, found = torch.zeros(2, 1), []
    for _ in range(rounds + 1):
        dist.barrier()
        began = time.perf_counter()
        for _ in range(50):
            gather(tensor, 4)
        found.append((time.perf_counter() - began) / 50)
    return min(found)


def measure_ranks(rounds: int) -> Figures:
    """A look with 1, 2 and 4 processes of this machine."""
    rows: Figures = {}
    for world in WORLDS:
        with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port, out = free.getsockname()[1], Path(folder) / "zero.json"
            free.close()
            children = [_fork(rank, world, port, out, rounds) for rank in range(world)]
            codes = [os.waitpid(child, 0)[1] for child in children]
            if any(codes):
                raise RuntimeError(f"{world} processes ended with {codes}")
            rows[str(world)] = json.loads(out.read_text())
    rows["model"] = fit_model(rows)
    return rows


def _fork(rank: int, world: int, port: int, out: Path, rounds: int) -> int:
    child = os.fork()
    if child:
        return child
    try:
        os.environ |= {"GLOO_SOCKET_IFNAME": "lo"}
        work_as(rank, world, port, out, rounds)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def fit_model(rows: Figures) -> Figures:
    """What a look costs with any number of processes, from what it cost with one and two."""
    one, two = rows["1"], rows["2"]
    share = min(2 * (one["pass"] - two["pass"]), one["pass"])
    row_bytes = two["bytes"] / (STIMULI / 2)
    carrying = max(two["gather"] - two["latency"] * two["tensors"], 1e-6)
    return {
        "fixed": one["pass"] - share,
        "pass": share,
        "measures": (one["measures"] + two["measures"]) / 2,
        "latency": two["latency"],
        "bandwidth": STIMULI * row_bytes / carrying,
        "row_bytes": row_bytes,
        "tensors": two["tensors"],
    }


def predict(model: Figures, world: int) -> Figures:
    """Seconds of the parts of a look, and bytes that reach process zero, by the model.

    Process zero takes the whole bank into memory, its own share too; all shares are as large as the largest.
    """
    share = -(-STIMULI // world)
    whole = world * share * model["row_bytes"]
    gather = model["latency"] * model["tensors"] * (world - 1) + whole / model["bandwidth"] if world > 1 else 0.0
    passed = model["fixed"] + model["pass"] * share / STIMULI
    parts = {"pass": passed, "gather": gather, "measures": model["measures"]}
    return {**parts, "bytes": (world - 1) * share * model["row_bytes"], "total": sum(parts.values())}


# ---------------------------------------------------------------------------------------------------------------------
# Probes


class Counter:
    """Takes records as a store does and keeps how large they are."""

    def __init__(self) -> None:
        self.bytes, self.steps = 0, ()

    def check(self, measurement: le.Measurement) -> None: ...

    def write(self, step: int, measurements: Sequence[le.Measurement]) -> None:
        self.bytes += sum(found.values.nbytes for found in measurements)

    def close(self) -> None: ...


@contextmanager
def peak() -> Iterator[Callable[[], float]]:
    """Tells by how many MiB memory has grown at most since it began."""
    _trim()
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    yield lambda: (_status("VmHWM") - before) / 1024


def _trim() -> None:
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{key}:")))


def look(kind: type[le.Probe], model: le.TokenClassifier, bank: le.StimulusBank) -> Figures:
    """One look of one probe by itself: seconds with its pass, memory at its peak, bytes of records."""
    counter, probe = Counter(), kind(on_error="raise", **CHEAP.get(kind, {}))
    conductor = Conductor(model, [probe], bank, Sinks(records=[counter]), step=0)  # type: ignore[list-item]
    weights = dict(model.named_parameters())
    began = time.process_time()
    with peak() as grown:
        if any(need.training for need in probe.needs):
            for parameter in weights.values():
                parameter.grad = torch.zeros_like(parameter)
            conductor.before_update(0)
            conductor.after_update()
        else:
            conductor.look(0, last=True)
        conductor.close()
        memory = grown()
    seconds = time.process_time() - began
    planned = find_budget(model, [probe], conductor.bank if has_bank(probe.needs) else None, 1)
    told = planned.total / 2**20 if planned else 0.0
    return {"seconds": seconds, "mib": memory, "bytes": counter.bytes, "planned": told}


def bank_pass(model: le.TokenClassifier, bank: le.StimulusBank) -> Figures:
    """The pass of the bank alone, which nothing is kept of but the outputs."""
    began = time.process_time()
    with peak() as grown:
        run_bank(model, bank, {le.Outputs(): [""]})
        memory = grown()
    return {"seconds": time.process_time() - began, "mib": memory, "bytes": 0}


def case(axis: str, value: int) -> tuple[le.TokenClassifier, le.StimulusBank]:
    """The network and the bank at one point of a series."""
    if axis == "stimuli":
        return make_model(), make_data(5, value // 5, 48).stimulus_bank()
    if axis == "layers":  # of one size, with one linear layer behind them
        model = make_model(plan=[value - 1], head=[], image_size=32)
        return model, make_data(5, 20, 32).stimulus_bank()
    if axis == "pixels":
        return make_model(image_size=value), make_data(5, 10, value).stimulus_bank()
    return make_model(tokens=value, image_size=32), make_data(value, 2, 32).stimulus_bank()


def measure_axis(axis: str, kinds: Sequence[type[le.Probe]], seconds: float) -> Figures:
    """Looks of all probes along one axis; each goes on as far as it is allowed to."""
    series: Figures = {name: {} for name in ("pass", *(kind.__name__ for kind in kinds))}
    left: dict[str, Callable[..., Figures]] = {"pass": bank_pass, **{kind.__name__: _looker(kind) for kind in kinds}}
    for value in AXES[axis]:
        left = {name: work for name, work in left.items() if allowed(series[name], value, seconds)}
        if set(left) <= {"pass"}:
            break
        model, bank = case(axis, value)
        for name, work in left.items():
            series[name][str(value)] = work(model, bank)
        _trim()
    return series


def _looker(kind: type[le.Probe]) -> Callable[..., Figures]:
    return lambda model, bank: look(kind, model, bank)


def allowed(points: Figures, value: int, seconds: float) -> bool:
    """Whether the next point is expected to stay below the limits, if it grows with the power 1.2."""
    if not points:
        return True
    last = max(map(int, points))
    if len(points) == 1 and points[str(last)]["seconds"] < 2 * seconds:  # one point says nothing of how it grows
        return True
    grown = (value / last) ** 1.2
    return all(
        points[str(last)][key] * (grown if points[str(last)][key] > floor else 1) < most
        for key, floor, most in (("seconds", 0.5, seconds), ("mib", 200, MIB))
    )


def exponent(points: Figures, key: str, floor: float) -> float | None:
    """The power of the axis that a series grows with: of its last three points above a floor; None without two."""
    known = [(int(value), row[key]) for value, row in points.items() if row[key] > floor][-3:]
    if len(known) < 2:
        return None
    x, y = np.log([*zip(*known, strict=True)])
    return float(np.polyfit(x, y, 1)[0])


# ---------------------------------------------------------------------------------------------------------------------
# Pictures and tables


def draw_ranks(ranks: Figures) -> None:
    """A look's parts against the number of processes: points were measured, lines are the model's."""
    model, figure = ranks["model"], new_figure(8.6, 3.6)
    seconds, carried = figure.subplots(1, 2)
    worlds = [2**k for k in range(10)]
    found = [predict(model, world) for world in worlds]
    for part, colour in (("pass", "#0072B2"), ("gather", "#D55E00"), ("measures", "#009E73"), ("total", "black")):
        seconds.plot(worlds, [row[part] or np.nan for row in found], "--", color=colour, linewidth=1.2)
        measured = [_total(ranks[str(w)]) if part == "total" else ranks[str(w)][part] for w in WORLDS]
        measured = [np.nan if part == "gather" and w == 1 else m for w, m in zip(WORLDS, measured, strict=True)]
        seconds.plot(WORLDS, measured, "o", color=colour, label=part, markersize=5)
    seconds.set_ylabel("seconds of a look")
    carried.plot(worlds, [row["bytes"] / 1e6 or np.nan for row in found], "--", color="black", linewidth=1.2)
    carried.plot(WORLDS[1:], [ranks[str(w)]["bytes"] / 1e6 for w in WORLDS[1:]], "o", color="black", markersize=5)
    carried.set_ylabel("MB that reach process zero")
    for axes in (seconds, carried):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xlabel("processes")
        axes.set_xticks(worlds[::2], [str(world) for world in worlds[::2]])
        axes.axvspan(HELD_OUT * 1.4, FURTHEST * 1.4, color="0.94", zorder=0)
        axes.text(46, axes.get_ylim()[1], "modelled, not measured", ha="center", va="top", fontsize=8, color="0.4")
        axes.spines[["top", "right"]].set_visible(False)
    seconds.legend(frameon=False, fontsize=8, loc="lower left", title="dots measured, lines modelled", title_fontsize=8)
    (PICTURES / "scale_ranks.png").write_bytes(to_png(figure))


def _total(row: Figures) -> float:
    return row["pass"] + row["gather"] + row["measures"]


def draw_axis(axis: str, series: Figures) -> None:
    """Seconds, memory and records of each probe's look along one axis, both logarithmic."""
    figure = new_figure(11.5, 4.2)
    panels = figure.subplots(1, 3)
    for axes, (key, scale, label, floor) in zip(panels, _COLUMNS, strict=True):
        for number, (name, points) in enumerate(series.items()):
            x, y = [int(value) for value in points], [max(row[key] * scale, floor) for row in points.values()]
            if name != "pass":
                lap, place = divmod(number - 1, len(TOKEN_COLOURS))
                looks = {"color": TOKEN_COLOURS[place], "marker": TOKEN_MARKERS[place], "linestyle": _STYLES[lap]}
                axes.plot(x, y, label=name, markersize=4, **looks)
            elif key == "seconds":
                axes.plot(x, y, "--", color="black", label="pass of the bank alone")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.minorticks_off()
        axes.set_xticks(AXES[axis], [f"{value:,}" for value in AXES[axis]], rotation=45)
        axes.set_xlabel(axis)
        axes.set_ylabel(label)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
    (PICTURES / f"scale_{axis}.png").write_bytes(to_png(figure))


_STYLES = ("-", ":")
_COLUMNS = (
    ("seconds", 1, "seconds of the processor a look", 1e-3),
    ("mib", 1, "MiB at the peak of a look", 1),
    ("bytes", 1e-6, "MB of records a look", 1e-4),
)


def write_tables(found: Figures) -> None:
    """Puts the tables into docs/scale.md, each between its two comments."""
    text = PAGE.read_text()
    tellers = {"conditions": tell_conditions, "ranks": tell_ranks, **{axis: partial(tell_axis, axis) for axis in AXES}}
    for part, say in tellers.items():
        if part in found:
            lines = say(found[part])
            begin, end = f"<!-- {part} -->\n", f"<!-- end of {part} -->"
            head, rest = text.split(begin)
            text = "\n".join([head + begin, *lines, "", end + rest.split(end)[1]])
    PAGE.write_text(text)


def tell_conditions(conditions: Figures) -> list[str]:
    return [
        f"Measured on {conditions['date']} on {conditions['machine']}, torch {conditions['torch']}, at a load of "
        f"{conditions['load']}: at a load above the number of cores, seconds are longer than on a quiet machine."
    ]


def tell_ranks(ranks: Figures) -> list[str]:
    model, rows = ranks["model"], []
    for world in (1, 2, 4, 8, 32, 128, 512):
        for kind, row in (("measured", ranks.get(str(world))), ("modelled", predict(model, world))):
            if row is not None and (kind == "measured" or world > 2):
                parts = [f"{row[part]:.3f}" for part in ("pass", "gather", "measures")]
                rows.append([str(world), kind, *parts, f"{_total(row):.2f}", f"{row['bytes'] / 1e6:,.1f}"])
    lines = table(["processes", "", "pass, s", "gather, s", "measures, s", "look, s", "MB to process zero"], rows)
    carried = " and ".join(f"{ranks[str(w)]['loopback'] / 1e6:,.1f} MB with {w} processes" for w in WORLDS[1:])
    return [
        *lines,
        "",
        f"Measured between two processes: {model['latency'] * 1e6:.0f} µs a tensor, and {model['bandwidth'] / 1e9:.2f} "
        f"GB/s into memory on process zero; {model['tensors']} tensors a look, {model['row_bytes'] / 1e3:,.0f} kB a "
        f"stimulus. The loopback device itself counted {carried}.",
    ]


def tell_axis(axis: str, series: Figures) -> list[str]:
    rows = []
    for name, points in series.items():
        if not points:
            continue
        first, last = min(map(int, points)), max(map(int, points))
        low, high = points[str(first)], points[str(last)]
        powers = [exponent(points, key, floor) for key, floor in (("seconds", 0.02), ("mib", 20), ("bytes", 1e4))]
        shown = ["-" if power is None else f"{power + 0:.1f}".replace("-0.0", "0.0") for power in powers]
        cells = [f"{low['seconds']:.2f}", f"{last:,}", f"{high['seconds']:.2f}", shown[0], f"{high['mib']:,.0f}"]
        rows.append([name, *cells, shown[1], f"{high['bytes'] / 1e6:,.2f}", shown[2]])
    head = [f"s at {AXES[axis][0]}", f"furthest, {axis}", "s", "power", "MiB", "power", "MB of records", "power"]
    lines = table(["a look of", *head], rows)
    return [*lines, "", f"Memory that was foretold, over what was taken at the furthest: {_foretold(series)}."]


def _foretold(series: Figures) -> str:
    """Of the furthest point of each probe of which enough is foretold and taken to tell."""
    last = {name: points[str(max(map(int, points)))] for name, points in series.items() if points}
    told = {name: row for name, row in last.items() if row.get("planned", 0) > 50 and row["mib"] > 50}
    return ", ".join(f"{name} {row['planned'] / row['mib']:.2f}" for name, row in told.items())


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def draw(found: Figures) -> None:
    if "ranks" in found:
        draw_ranks(found["ranks"])
    for axis in AXES:
        if axis in found:
            draw_axis(axis, found[axis])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=Path("build/scale.json"), help="where the figures go, or lie")
    parser.add_argument("--only", choices=["ranks", *AXES], help="what to measure; the rest is kept as it is")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of one point at most (default: 6)")
    parser.add_argument("--rounds", type=int, default=3, help="looks with each number of processes (default: 3)")
    parser.add_argument("--tables", action="store_true", help="measure nothing; draw and tell what was measured")
    wanted = parser.parse_args()
    warnings.simplefilter("ignore")
    found: Figures = json.loads(wanted.json.read_text()) if wanted.json.exists() else {}
    if not wanted.tables:
        began = time.monotonic()
        parts = [wanted.only] if wanted.only else ["ranks", *AXES]
        for part in parts:
            found[part] = measure_ranks(wanted.rounds) if part == "ranks" else _alone(part, wanted.seconds)
            found["conditions"] = _conditions()
            wanted.json.parent.mkdir(parents=True, exist_ok=True)
            wanted.json.write_text(json.dumps(found, indent=2))
            print(f"{part}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    draw(found)
    write_tables(found)
    print(f"{wanted.json}, {PICTURES}/scale_*.png, {PAGE}")


def _alone(axis: str, seconds: float) -> Figures:
    torch.set_num_threads(1)
    if sys.platform == "linux":
        ctypes.CDLL("libc.so.6").mallopt(-3, 2**16)  # large blocks go back to the system when they are let go
    return measure_axis(axis, SHIPPED, seconds)


def _conditions() -> dict[str, str]:
    packages = ("lightning_emerge", "lightning", "torch", "numpy")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "peak_mib": f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}",
        "load": f"{os.getloadavg()[1]:.1f}",
        **{name: version(name) for name in packages},
    }


if __name__ == "__main__":
    main()
