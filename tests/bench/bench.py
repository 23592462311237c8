"""Speed, as ratios in one run: `make bench`. Absolute times are for this machine at this hour; trust the ratios.

Each figure is a time over that of what a user would do instead, measured in turn with it, and stands beside its floor:
operations or bytes over rates that are measured in the same run.
"""

from __future__ import annotations

import argparse
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

from fits import bench_bare_loop, bench_probes, bench_ranks
from geometry import bench_cka, bench_embedding, bench_geometry, bench_rdm
from images import bench_maximising, bench_rendering
from looks import bench_guards, bench_look, bench_looks
from memory import bench_memory
from pictures import bench_pictures
from rates import described
from rivals import bench_cockpit, bench_wandb
from table import HEAD, Row, conditions, elsewhere, in_json, line, markdown
from vit import bench_vit


def bench_startup(rounds: int) -> Iterable[Row]:
    """How soon `lightning fit` has its first batch, over `import lightning` alone."""
    return elsewhere("startup", "bench_startup", "startup", {"first batch": (2, False)}, rounds)


def bench_gpu(rounds: int) -> Iterable[Row]:
    """What probes cost on a GPU, and how well it is used: a constant batch has 0.8 of a fit's time, or more."""
    bars = {
        "GPU: fit, probes of vgg5 / none": (1.05, False),
        "GPU: fit, probes of full / none": (1.05, False),
        "GPU: waiting, no probes": (None, False),
        "GPU: waiting, default probes": (None, False),
        "GPU: fit without probes / one batch as a CUDA graph": (1.25, False),
    }
    return elsewhere("gpu", "bench_gpu", "gpu", bars, rounds)


def bench_board(rounds: int) -> Iterable[Row]:
    """What the Emerge tab takes in the large case."""
    return elsewhere("board", "bench_board", "board", {}, rounds)


BENCHES: tuple[Callable[[int], Iterable[Row]], ...] = (
    bench_bare_loop,
    bench_probes,
    bench_startup,
    bench_ranks,
    bench_gpu,
    bench_look,
    bench_guards,
    bench_cockpit,
    bench_wandb,
    bench_looks,
    bench_vit,
    bench_rdm,
    bench_cka,
    bench_geometry,
    bench_embedding,
    bench_maximising,
    bench_rendering,
    bench_pictures,
    bench_memory,
    bench_board,
)


def measure(bench: Callable[[int], Iterable[Row]], rounds: int) -> list[Row]:
    """Measures and prints the rows of a bench; one that fails is a row that says so."""
    rows: list[Row] = []
    try:
        for row in bench(rounds):
            rows.append(row)
            print(line(row), flush=True)
    except Exception as error:
        traceback.print_exc()
        rows.append(Row(bench.__name__, (bench.__doc__ or "").rstrip("."), note=f"failed: {error!r}"))
        print(line(rows[-1]), flush=True)
    return rows


def main() -> None:
    """Prints the table, and leaves it as Markdown and as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="pairs of each figure, fewer of whole runs (default: 5)")
    parser.add_argument("--json", type=Path, default=Path("build/bench.json"), help="where the figures go as JSON")
    parser.add_argument("--only", help="a word in the name of what to measure, such as rdm or fit (default: all)")
    wanted = parser.parse_args()
    chosen = [bench for bench in BENCHES if not wanted.only or wanted.only in bench.__name__]
    if not chosen:
        parser.error(f"--only is a part of {', '.join(bench.__name__ for bench in BENCHES)}; got {wanted.only!r}.")
    found, rates = conditions(), described()
    print(f"{found['date']}, {found['machine']}. {rates}\n\n{HEAD}")
    rows = [row for bench in chosen for row in measure(bench, wanted.rounds)]
    tables = {wanted.json: in_json(rows, {**found, "rates": rates})}
    tables[wanted.json.with_suffix(".md")] = markdown(rows, {**found, "rates": rates})
    for path, text in tables.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        print(f"\n{path}" if path is wanted.json else path)


if __name__ == "__main__":
    main()
