"""Whether the couplings of a run are those of its grammar: detectors of parts that feed detectors of wholes."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from itertools import permutations
from math import factorial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import xarray as xr

from lightning_emerge.measures.auc import auc
from lightning_emerge.measures.chance import middle_range, p_value
from lightning_emerge.measures.coupling import KINDS
from lightning_emerge.measures.detectors import best_detectors, detector_count
from lightning_emerge.measures.rivals import relabel_sets
from lightning_emerge.records.names import split_pair, split_tokens
from lightning_emerge.store.read import Run

_MOST = 5040
_RELABELLINGS = 999


@dataclass(frozen=True)
class Recovery:
    """How well couplings tell which parts make up which wholes, at one look.

    Attributes:
        step: of the look.
        auc: how surely a part and a whole that has it are coupled more strongly than a part and a whole that lacks it,
            0.5 by chance; NaN if nothing is coupled.
        low: lower end of what 95% of shuffled grammars have.
        high: upper end.
        p_value: share of shuffled grammars, this one included, that are recovered as well or better.
        beyond: how surely a part is coupled more strongly to a whole that has it than a rival is, a set of as many
            tokens that no part stands for and that has the whole's tokens too; 0.5 by chance. NaN without rivals.
        beyond_p: how often so many of these sets, sampled in place of the parts, are as far beyond the others.
        parts: names of the parts.
        wholes: names of the pairs and larger conjunctions.
        strengths: (part, whole) how strongly they are coupled, in standard deviations over all features and rivals.
        belongs: bool (part, whole), whether the part stands in the whole.
    """

    step: int
    auc: float
    low: float
    high: float
    p_value: float
    beyond: float
    beyond_p: float
    parts: tuple[str, ...]
    wholes: tuple[str, ...]
    strengths: npt.NDArray[np.floating]
    belongs: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Sets:
    """Features and rivals: the tokens of each, and how well each filter tells it, (layer, filter, set)."""

    names: list[str]
    kinds: list[str]
    tokens: list[frozenset[str]]
    layers: list[str]
    areas: npt.NDArray[np.floating]

    def of(self, kind: str) -> list[int]:
        return [number for number, own in enumerate(self.kinds) if own == kind]


def shared_steps(run: str | Path | Run, kind: str = "effective") -> list[int]:
    """Steps at which both a `CouplingProbe` and a `PartProbe` looked.

    Raises:
        FileNotFoundError: if there are no records.
    """
    run = Run.of(run)
    if not {f"coupling_{kind}", "filter_part_auc"} <= set(run.records):
        return []
    looked = [run.read(name) for name in ("coupling_edges", "part_filter_auc")]
    shared = [set() if own is None else set(own.step.values.tolist()) for own in looked]
    return sorted(set.intersection(*shared))


def grammar_recovery(run: str | Path | Run, kind: str = "effective") -> list[Recovery]:
    """Scores the couplings of a run against the grammar of its tokens, look by look.

    The detectors of a feature are the twentieth of a layer's filters, at least one, with the largest AUC for it. A part
    is coupled to a whole, a pair or larger conjunction, as strongly as its detectors in each layer are, on average, to
    those of the whole in the next, which is brought to mean 0 and standard deviation 1 in each pair of layers and
    averaged over these. A part belongs to a whole if all tokens that have the whole have it.

    There are two questions. Are parts coupled to the wholes that have them? Chance is what it is with the parts changed
    about, each with all its wholes: all ways if they are no more than 5,040, or so many that are sampled with a fixed
    seed. But filters that prefer the same tokens answer alike, whatever they are made of, so this is more than chance
    in an untrained network too. Are they coupled beyond that? Rivals are other sets of as many tokens: if parts are
    more strongly coupled to wholes than rivals that share as many tokens with them, the network has built wholes from
    parts. Chance is what it is if as many of these sets, sampled 999 times, are taken for the parts; a set and its
    complement are sampled together (see `relabel_sets`).

    Args:
        run: one in which a `CouplingProbe` and a `PartProbe` looked, at the same steps, or its folder.
        kind: of the couplings, "weight" or "effective".

    Returns:
        One for each step at which both looked.

    Raises:
        FileNotFoundError: if there are no records.
        ValueError: if there is no such kind, one of the two did not look, or they never looked at the same step.
    """
    if kind not in KINDS:
        near = get_close_matches(kind, KINDS, 1, cutoff=0)[0]
        raise ValueError(f"The kind of couplings is one of {', '.join(KINDS)}; got {kind!r}. Did you mean {near!r}?")
    run = Run.of(run)
    name = f"coupling_{kind}"
    for measure, probe in ((name, "CouplingProbe"), ("filter_part_auc", "PartProbe")):
        if measure not in run.records:
            raise ValueError(
                f"A grammar is recovered from couplings and parts; no {probe} has recorded {measure!r} in {run}. "
                "Put --config probes/coupling and --config probes/parts on top of the configuration."
            )
    steps = shared_steps(run, kind)
    if not steps:
        raise ValueError("A grammar is recovered at steps at which both probes looked; they have none in common.")
    looks = ((run.at(name, step), _sets(run, step)) for step in steps)
    return [_recover(couplings, sets) for couplings, sets in looks if couplings is not None and sets is not None]


def _sets(run: Run, step: int) -> _Sets | None:
    """Features and rivals at a step; None if they are torn."""
    areas, rivals = run.at("filter_part_auc", step), run.at("filter_rival_auc", step)
    if areas is None or (rivals is None and "filter_rival_auc" in run.records):
        return None
    feature = str(areas.dims[-1])
    kinds = [str(kind) for kind in areas[f"{feature}_kind"].values]
    names = [str(name) for name in areas[feature].values]
    tokens = [str(own) for own in areas[f"{feature}_tokens"].values]
    values = [areas.values]
    if rivals is not None:
        sets = [str(name) for name in rivals[str(rivals.dims[-1])].values]
        names, kinds, tokens = [*names, *sets], [*kinds, *["rival"] * len(sets)], [*tokens, *sets]
        values.append(rivals.values)
    layers = [str(layer) for layer in areas[str(areas.dims[0])].values]
    held = [frozenset(split_tokens(own)) for own in tokens]
    return _Sets(names, kinds, held, layers, np.concatenate(values, axis=-1))


def _recover(couplings: xr.DataArray, sets: _Sets) -> Recovery:
    parts, wholes = sets.of("part"), [*sets.of("pair"), *sets.of("conjunction")]
    has = np.array([[whole < own for whole in (sets.tokens[k] for k in wholes)] for own in sets.tokens])
    strengths = _couple(couplings, sets)[:, wholes]
    found = _score(strengths[parts], has[parts])
    beyond = _compare(strengths, has, sets)
    labels = tuple(sets.names[part] for part in parts), tuple(sets.names[whole] for whole in wholes)
    return Recovery(int(couplings.step), *found, *beyond, *labels, strengths[parts], has[parts])


def _couple(couplings: xr.DataArray, sets: _Sets) -> npt.NDArray[np.floating]:
    """How strongly sets of tokens are coupled to sets in the next layer, (set, set)."""
    found: list[npt.NDArray[np.floating]] = []
    for pair, values in zip(couplings[str(couplings.dims[0])].values, couplings.values, strict=True):
        ends = split_pair(str(pair))
        if not set(ends) <= set(sets.layers):
            continue
        fro, to = (_detectors(sets.areas[sets.layers.index(end)]) for end in ends)
        strengths = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0)
        means = np.array([[strengths[np.ix_(whole, part)].mean() for whole in to] for part in fro])
        if means.std() > 0:
            found.append((means - means.mean()) / means.std())
    return np.mean(found, axis=0) if found else np.full((len(sets.names),) * 2, np.nan)


def _detectors(areas: npt.NDArray[np.floating]) -> list[npt.NDArray[np.integer]]:
    """The filters that tell each set of tokens best, of areas (filter, set)."""
    count = detector_count(int(np.isfinite(areas).any(axis=1).sum()))
    return list(best_detectors(torch.from_numpy(areas), count).T.numpy())


def _score(strengths: npt.NDArray[np.floating], belongs: npt.NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """AUC, where 95% of shuffled grammars have theirs, and how many of them have as large a one."""
    if not np.isfinite(strengths).all() or belongs.all() or not belongs.any():
        return np.nan, np.nan, np.nan, np.nan
    ways = np.stack([belongs[list(order)].ravel() for order in _orders(len(belongs))], axis=1)
    areas = auc(torch.from_numpy(strengths.reshape(-1, 1).copy()), torch.from_numpy(ways))[0]
    low, high = middle_range(areas)
    return float(areas[0]), float(low), float(high), float(p_value(areas[0], areas))


def _compare(strengths: npt.NDArray[np.floating], has: npt.NDArray[np.bool_], sets: _Sets) -> tuple[float, float]:
    """How surely parts are ahead of rivals of their size at wholes that both have, and how often others are."""
    own = [*sets.of("part"), *sets.of("rival")]
    sizes = np.array([len(sets.tokens[k]) for k in own])
    strengths, held = strengths[own], has[own].astype(np.float64)
    alike = sizes[:, None] == sizes[None, :]
    ahead = (strengths[:, None] > strengths[None, :]) + 0.5 * (strengths[:, None] == strengths[None, :])
    met = np.einsum("iw,jw->ij", held, held) * alike
    won = np.einsum("iw,jw,ijw->ij", held, held, ahead) * alike
    label = torch.arange(len(own)) < len(sets.of("part"))
    tokens = sorted(frozenset().union(*sets.tokens))
    inside = torch.tensor([[token in sets.tokens[k] for token in tokens] for k in own])
    labels = torch.cat([label[None], relabel_sets(label, inside, _RELABELLINGS, seed=0)]).numpy()
    pairs = np.array([one @ met @ ~one for one in labels])
    if not pairs[0] or not np.isfinite(strengths).all():
        return np.nan, np.nan
    shares = torch.from_numpy(np.array([one @ won @ ~one for one in labels])[pairs > 0] / pairs[pairs > 0])
    return float(shares[0]), float(p_value(shares[0], shares))


def _orders(count: int) -> list[tuple[int, ...]]:
    """Orders of parts, the one that is theirs first."""
    if factorial(min(count, 20)) <= _MOST:
        return list(permutations(range(count)))
    random = np.random.default_rng(0)
    return [tuple(range(count)), *(tuple(random.permutation(count).tolist()) for _ in range(_MOST - 1))]
