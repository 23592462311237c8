"""Leads, order and the recovered grammar, from records in which they were planted."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import lightning_emerge as le
from lightning_emerge.analysis.construction import construction_leads, construction_order
from lightning_emerge.analysis.recovery import grammar_recovery
from lightning_emerge.measures.rivals import rival_sets
from lightning_emerge.store.write import ArraySink

STEPS = [*range(12), *range(12, 60, 3)]
LAYERS = ("conv1_1", "conv1_2", "fc1")
PARTS = ("disk", "cross", "ring", "bar", "arc", "wedge")
WHOLES = tuple(combinations(range(6), 2))[:10]
TOKENS = tuple(f"t{number}" for number in range(len(WHOLES)))
NAMES = (*PARTS, *(f"{PARTS[a]} by {PARTS[b]}" for a, b in WHOLES))
HOLDERS = ["/".join(TOKENS[k] for k, whole in enumerate(WHOLES) if part in whole) for part in range(6)]
FEATURE = le.Axis("feature", NAMES, notes={"kind": ["part"] * 6 + ["pair"] * 10, "tokens": [*HOLDERS, *TOKENS]})
LAYER, TOKEN = le.Axis("layer", LAYERS), le.Axis("token", TOKENS)
PAIR, KIND = le.Axis("pair", ["conv1_1 > conv1_2"]), le.Axis("kind", ["weight", "effective"])
FILTERS = 29  # of which one in twenty is one
NUMBERS = [frozenset(int(token[1:]) for token in own.split("/")) for own in HOLDERS]
RIVALS = ["/".join(f"t{token}" for token in own) for own in rival_sets(NUMBERS, len(TOKENS))]


def risen(look: int, at: int, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    return 0.5 + 0.4 * (look >= at) + 0.01 * rng.standard_normal(shape)


def write(folder: Path, part: int, coupling: int, whole: int, token: int, seed: int = 0) -> Path:
    """A run in which parts, couplings, wholes and tokens rise at some looks, all wholes in the second layer."""
    rng = np.random.default_rng(seed)
    sink = ArraySink(folder / "records.zarr", None)
    for look, step in enumerate(STEPS):
        areas = np.full((3, 16), 0.5)
        areas[0, :6], areas[1, 6:] = risen(look, part, (6,), rng), risen(look, whole, (10,), rng)
        edges = np.tile(risen(look, coupling, (1, 1), rng), (1, 2))
        rows = [
            ("part_filter_auc", areas, (LAYER, FEATURE)),
            ("coupling_edges", edges, (PAIR, KIND)),
            ("bank_confidence", risen(look, token, (10,), rng), (TOKEN,)),
        ]
        sink.write(step, [le.Measurement(name, values.astype(np.float32), axes, step) for name, values, axes in rows])
    sink.close()
    return folder


def test_leads_are_those_that_were_planted(tmp_path):
    leads = construction_leads(write(tmp_path, part=8, coupling=12, whole=16, token=20))
    assert (leads.kind == "part").sum() == 20  # each whole has two parts
    assert (leads.kind == "coupling").sum() == 10
    for kind, look in (("part", 8), ("coupling", 12)):
        own = leads[leads.kind == kind]
        assert own.steps.median() == pytest.approx(STEPS[16] - STEPS[look], abs=3)
        assert (own.low > 0).all()
    pairs = {(row.leader, row.follower) for row in leads[leads.kind == "part"].itertuples()}
    assert ("disk", "disk by cross") in pairs
    assert ("ring", "disk by cross") not in pairs


def test_what_comes_later_has_a_lead_below_zero(tmp_path):
    leads = construction_leads(write(tmp_path, part=20, coupling=12, whole=12, token=20))
    assert (leads[leads.kind == "part"].high < 0).all()
    of_couplings = leads[leads.kind == "coupling"]
    assert ((of_couplings.low <= 0) & (of_couplings.high >= 0)).all()


def test_what_never_emerges_has_no_lead(tmp_path):
    leads = construction_leads(write(tmp_path, part=8, coupling=99, whole=16, token=20))
    assert leads[leads.kind == "coupling"].steps.isna().all()
    assert leads[leads.kind == "part"].steps.notna().all()


def test_the_order_of_several_runs(tmp_path):
    planted = [write(tmp_path / str(k), part=6, coupling=0, whole=12, token=18, seed=k) for k in range(2)]
    found = construction_order(planted)
    assert found.agreement > 0.99
    assert found.p_value < 0.001
    assert found.pairs == 2 * 6 * 10  # tokens are another measure's
    together = construction_order([write(tmp_path / "together", part=12, coupling=0, whole=12, token=12)])
    assert 0.2 < together.agreement < 0.8


def test_a_run_without_parts_is_refused(tmp_path):
    sink = ArraySink(tmp_path / "records.zarr", None)
    sink.write(0, [le.Measurement("coupling_edges", np.ones((1, 2)), (PAIR, KIND), 0)])
    sink.close()
    with pytest.raises(ValueError, match="--config probes/parts"):
        construction_leads(tmp_path)
    with pytest.raises(ValueError, match=r"no PartProbe has recorded 'filter_part_auc'"):
        _recovery(tmp_path / "x", _planted(np.random.default_rng(0), True), {"coupling_effective": [0]})


def _tuned(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Filters that each prefer tokens at random, coupled to those that prefer the same: no parts, no wholes."""
    tuning = rng.standard_normal((2, FILTERS, len(TOKENS)))
    tuning -= tuning.mean(axis=2, keepdims=True)
    strengths = tuning[1] @ tuning[0].T + rng.standard_normal((FILTERS, FILTERS))
    found = [np.full((3, FILTERS, len(sets)), 0.5) for sets in (HOLDERS + list(TOKENS), RIVALS)]
    for areas, sets in zip(found, (HOLDERS + list(TOKENS), RIVALS), strict=True):
        inside = np.array([[token in own.split("/") for token in TOKENS] for own in sets], float)
        areas[:2] = 0.5 + 0.1 * tuning @ (inside / inside.sum(axis=1, keepdims=True)).T
    return found[0], found[1], strengths[None]


def _planted(rng: np.random.Generator, coupled: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Filters k of the first layer detect part k, later ones rivals, and filter k of the second whole k."""
    areas, rivals = (rng.uniform(0.3, 0.6, (3, FILTERS, count)) for count in (16, len(RIVALS)))
    strengths = rng.standard_normal((1, FILTERS, FILTERS))
    for part in range(6):
        areas[0, part, part] = 0.9
    for rival in range(len(RIVALS)):
        rivals[0, 6 + rival % (FILTERS - 6), rival] = 0.9
    for number, whole in enumerate(WHOLES):
        areas[1, number, 6 + number] = 0.9
        if coupled:
            strengths[0, number, list(whole)] += 3
    return areas, rivals, strengths


def _recovery(folder: Path, made, steps=None):
    areas, rivals, strengths = made
    sink = ArraySink(folder / "records.zarr", None)
    number = le.Axis("filter", range(FILTERS))
    ends = (le.Axis("filter_out", range(FILTERS)), le.Axis("filter_in", range(FILTERS)))
    rows = {
        "filter_part_auc": (areas, (LAYER, number, FEATURE)),
        "coupling_effective": (strengths, (PAIR, *ends)),
        "filter_rival_auc": (rivals, (LAYER, number, le.Axis("rival", RIVALS))),
    }
    rows |= {
        "part_filter_auc": (areas.max(axis=1), (LAYER, FEATURE)),
        "coupling_edges": (np.ones((1, 2)), (PAIR, KIND)),
    }
    together = {"part_filter_auc": "filter_part_auc", "coupling_edges": "coupling_effective"}
    for step in (0, 5):
        own = [name for name in rows if step in (steps or {}).get(together.get(name, name), [] if steps else [5])]
        found = [le.Measurement(name, rows[name][0].astype(np.float32), rows[name][1], step) for name in own]
        sink.write(step, [*found, le.Measurement("noise", np.ones(()), (), step)])
    sink.close()
    return grammar_recovery(folder)


def test_planted_couplings_give_the_grammar_back(tmp_path):
    (found,) = _recovery(tmp_path, _planted(np.random.default_rng(0), True))
    assert found.step == 5
    assert found.auc > 0.95
    assert found.p_value < 0.01
    assert found.high < 0.8
    assert (found.parts, len(found.wholes)) == (PARTS, 10)
    assert found.belongs.sum() == 20
    for number, whole in enumerate(WHOLES):
        assert set(np.flatnonzero(found.belongs[:, number])) == set(whole)
    assert found.strengths[found.belongs].mean() > 1
    assert found.beyond > 0.9
    assert found.beyond_p < 0.02


def test_couplings_by_chance_do_not(tmp_path):
    rng = np.random.default_rng(3)
    found = [_recovery(tmp_path / str(k), _planted(rng, False))[0] for k in range(40)]
    assert np.mean([one.p_value <= 0.05 for one in found]) <= 0.15
    assert np.mean([one.auc for one in found]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([one.low <= one.auc <= one.high for one in found]) >= 0.85
    assert np.mean([one.beyond_p <= 0.05 for one in found]) <= 0.15
    assert np.mean([one.beyond for one in found]) == pytest.approx(0.5, abs=0.05)


def test_filters_that_prefer_the_same_tokens_look_like_a_grammar_but_no_more_than_rivals(tmp_path):
    rng = np.random.default_rng(4)
    found = [_recovery(tmp_path / str(k), _tuned(rng))[0] for k in range(30)]
    assert np.mean([one.auc for one in found]) > 0.7
    assert np.mean([one.beyond for one in found]) == pytest.approx(0.5, abs=0.05)
    assert np.mean([one.beyond_p <= 0.05 for one in found]) <= 0.15


def test_probes_that_never_looked_together_are_refused(tmp_path):
    with pytest.raises(ValueError, match="they have none in common"):
        _recovery(
            tmp_path, _planted(np.random.default_rng(0), True), {"coupling_effective": [0], "filter_part_auc": [5]}
        )


def test_a_misspelt_kind_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"got 'efective'\. Did you mean 'effective'"):
        grammar_recovery(tmp_path, "efective")
