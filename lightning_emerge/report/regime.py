"""Whether a network was lazy or built features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lightning_emerge.figures.curves import Chart, draw_charts
from lightning_emerge.report.content import Picture, Section
from lightning_emerge.report.overlay import read_all, tell_missing, to_chart, write_number
from lightning_emerge.store.read import Run

_CHARTS = {
    "kernel_alignment": "tangent kernel: now and at the first look",
    "kernel_token_alignment": "tangent kernel and that of tokens",
    "start_cka": "responses: now and at the first look",
    "turned_share": "filters that have turned by 30 degrees",
}
_ALL = "all layers"
_CONTROL = (
    "Filters that learn nothing can turn, too, and the kernel with them: compare with a run on shuffled labels, whose "
    "kernel does not become more like that of tokens."
)


def which_regime(runs: Sequence[Run]) -> Section:
    """Tells how far the tangent kernel, the responses and the filters have gone from where they began."""
    section = Section()
    tell_missing(runs, ("kernel_alignment_total",), "RegimeProbe", section)
    told = [sentence for run in runs for sentence in _tell(run)]
    if told:
        section.says += [*told, _CONTROL]
    charts = [chart for name, title in _CHARTS.items() if (chart := _chart(runs, name, title, section)) is not None]
    if charts:
        caption = (
            "Alignments are 1 if nothing but a scale differs, about 0 (dotted) if two kernels or layouts of the "
            "stimuli are unrelated, and below it by chance; the share of filters is 0 to 1. Black are all layers "
            "together; dark are early layers, light late ones."
        )
        figure = draw_charts(charts, "How far the network has gone from where it began", ordered=True)
        section.pictures.append(Picture("regime", figure, "Curves of alignment with the start over steps", caption))
    return section


def _tell(run: Run) -> list[str]:
    ends = [_ends(run, f"{name}_total") for name in ("kernel_alignment", "kernel_token_alignment", "turned_share")]
    kernel, tokens, turned = ends
    if kernel is None:
        return []
    (first, _), (last, value) = kernel
    said = (
        f"At step {last}, the tangent kernel of {run.name} has an alignment of {write_number(value, 2)} with that at "
        f"step {first}: 1 is a lazy network, which fits its first kernel to the labels, and 0 one whose kernel has "
        "become another."
    )
    if tokens is not None:
        said += f" With tokens, its alignment went from {' to '.join(write_number(end, 2) for _, end in tokens)}."
    if turned is not None and np.isfinite(turned[1][1]):
        said += f" {turned[1][1]:.0%} of the filters have turned by more than 30 degrees."
    return [said]


def _ends(run: Run, name: str) -> tuple[tuple[int, float], tuple[int, float]] | None:
    """Step and value of a record's first and last look."""
    values = run.read(name)
    if values is None or not values.sizes["step"]:
        return None
    first, last = ((int(values.step[place]), float(values.values[place])) for place in (0, -1))
    return first, last


def _chart(runs: Sequence[Run], name: str, title: str, section: Section) -> Chart | None:
    """A curve for each layer, and one for all of them where there is such a record."""
    zoom = name != "turned_share"  # alignments are hardly ever far below zero
    chart = to_chart(read_all(runs, name, section), title, zoom=zoom, level=0.0 if zoom else None)
    total = to_chart(read_all(runs, f"{name}_total", section), title)
    if chart is None or total is None:
        return chart or total
    return replace(chart, curves=[*chart.curves, *(replace(one, label=_ALL, summary=True) for one in total.curves)])
