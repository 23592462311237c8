"""Whether parts and couplings came before the wholes that are made of them, from a run's records alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from lightning_emerge.analysis.lead_time import lead_time
from lightning_emerge.analysis.order import Order, compare_order
from lightning_emerge.analysis.timeline import Series, run_series, run_timeline
from lightning_emerge.records.names import split_pair
from lightning_emerge.store.read import Run

ORDER = ("part", "pair", "conjunction")
"""What theory says comes first, and what later: simple features before those that are made of them.

Tokens would be last, but are read off another measure: when a probability reaches 10% of its way says nothing of when
an AUC does.
"""

_COLUMNS = ("leader", "follower", "kind", "steps", "low", "high")


def construction_order(runs: Sequence[str | Path | Run]) -> Order:
    """Compares the order in which parts, pairs and conjunctions of runs emerged with that of their making.

    All are told by the best single filter. Tokens, of which the network's answer is recorded, are not compared with
    them (see `compare_order`). A pair or conjunction that one token alone has is that token by another name. What never
    emerged is later than anything; what the looks do not resolve may have been first, and is left out.

    Args:
        runs: those in which a `PartProbe` looked, or their folders; things of one run are compared with each other
            alone.

    Raises:
        FileNotFoundError: if there are no records.
        ValueError: if there is nothing to compare.
    """
    found: list[Mapping[str, list[float | None]]] = []
    for run in runs:
        times: dict[str, list[float | None]] = {}
        for event in run_timeline(run):
            if event.emergence.whether == "unresolved":
                continue
            times.setdefault(event.group, []).append(event.emergence.step)
        found.append(times)
    return compare_order(found, ORDER)


def construction_leads(run: str | Path | Run) -> pd.DataFrame:
    """Finds how long before each pair and conjunction its parts emerged, and the couplings that could have made it.

    A whole is followed in the layer whose best filter tells it best in the end. What feeds it is the share of effective
    edges from the layer before into that one; and how well all couplings follow the grammar (see `grammar_recovery`).

    Args:
        run: one in which a `PartProbe` looked, or its folder.

    Returns:
        A row for each part of each whole, and those of the couplings if a `CouplingProbe` looked: `leader`, `follower`,
        `kind` ("part", "coupling" or "grammar", of the leader), and the lead in optimizer steps with its 95% interval:
        `steps`, `low`, `high`; above 0 if the onset of the leader was first, NaN if one of the two has not emerged.

    Raises:
        FileNotFoundError: if there are no records.
        ValueError: if no `PartProbe` has looked.
    """
    run = Run.of(run)
    tokens = _tokens(run)
    series = run_series(run)
    features = {one.name: one for one in series if one.name in tokens and one.group in ORDER}
    couplings = {split_pair(one.name)[1]: one for one in series if one.group == "coupling"}
    rows: list[tuple[object, ...]] = []
    for whole in features.values():
        if whole.group == "part":
            continue
        leaders = [one for one in features.values() if one.group == "part" and tokens[whole.name] < tokens[one.name]]
        feeding = couplings.get(whole.measure.rsplit(" ", 1)[-1])
        leaders += [feeding] if feeding else []
        leaders += [one for one in series if one.group == "grammar"]
        rows += [(one.name, whole.name, one.group, *_lead(one, whole)) for one in leaders]
    return pd.DataFrame(rows, columns=list(_COLUMNS))


def _tokens(run: Run) -> dict[str, frozenset[str]]:
    if "part_filter_auc" not in run.records:
        raise ValueError(
            f"Parts and what is made of them are what a PartProbe records; none has looked in {run}. Put "
            "--config probes/parts on top of the configuration."
        )
    areas = run.records.part_filter_auc
    feature = str(areas.dims[-1])
    return {
        str(name): frozenset(str(own).split("/"))
        for name, own in zip(areas[feature].values, areas[f"{feature}_tokens"].values, strict=True)
    }


def _lead(leader: Series, follower: Series) -> Iterator[float | None]:
    """The lead over the looks that both series have."""
    shared = sorted(set(leader.steps) & set(follower.steps))
    values = [dict(zip(one.steps, one.values, strict=True)) for one in (leader, follower)]
    both = ([own[step] for step in shared] for own in values)
    found = lead_time(shared, *both, least=(leader.least, follower.least))
    yield from (found.steps, found.low, found.high)
