"""A chunk that is torn on disk costs the step at which it was written, in analyses and the report, and is said.

The run is that of `test_old_runs`; a chunk of every record at step 3 is cut in half, or removed.
"""

from __future__ import annotations

import json
import shutil
import tarfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lightning_emerge as le
from lightning_emerge.analysis.biography import read_biography
from lightning_emerge.analysis.coupling import draw_run_couplings, draw_run_graph
from lightning_emerge.analysis.embedding import last_scores
from lightning_emerge.analysis.emergence import summarise_run
from lightning_emerge.analysis.geometry import draw_run_fits
from lightning_emerge.analysis.timeline import run_series
from lightning_emerge.report.content import Report

OLD = Path(__file__).with_name("old_run.tar.xz")
TORN, LAST = 3, 8
LEFT = [0, 1, 2, 6, 8]


def _unpack(folder: Path) -> Path:
    with tarfile.open(OLD) as packed:
        packed.extractall(folder, filter="data")
    return folder


def _tear(folder: Path, step: int, damage: Callable[[Path], object]) -> int:
    records = le.open_run(folder)
    row, count = records.step.values.tolist().index(step), 0
    for name in records.data_vars:
        for chunk in (folder / "records.zarr" / str(name)).glob(f"c.{row}*"):
            if chunk.name.split(".")[1] == str(row):
                damage(chunk)
                count += 1
    return count


def _cut(chunk: Path) -> None:
    chunk.write_bytes(chunk.read_bytes()[:-3])


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return _unpack(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module", params=[_cut, Path.unlink], ids=["cut", "lost"])
def torn(request, tmp_path_factory) -> Path:
    folder = _unpack(tmp_path_factory.mktemp("torn"))
    assert _tear(folder, TORN, request.param) > 40
    with pytest.raises(Exception, match=r".*"):  # open_run is strict
        le.open_run(folder).load()
    return folder


@pytest.fixture(scope="module")
def expected(whole) -> Callable[[str], Any]:
    """What an analysis says of the whole run, asked once."""
    return cache(lambda name: ANALYSES[name](whole))


@pytest.fixture(scope="module")
def intact(whole) -> Report:
    return le.make_report([whole])


def _order(run: Any) -> str:
    """Eight looks date nothing, so that there is no order; a torn one says so as a whole one does."""
    with pytest.raises(ValueError, match="two groups or more") as refused:
        le.construction_order([run])
    return str(refused.value)


def _steps(found: Any) -> list[int]:
    return [one.step for one in found]


ANALYSES: dict[str, Callable[[Any], Any]] = {
    "ablation_table": le.ablation_table,
    "construction_leads": le.construction_leads,
    "construction_order": _order,
    "coupling_graph": lambda run: sorted(le.coupling_graph(run, LAST).edges(data="strength")),
    "draw_run_couplings": lambda run: len(draw_run_couplings(run).axes),
    "draw_run_fits": lambda run: len(draw_run_fits(run).axes),
    "draw_run_graph": lambda run: len(draw_run_graph(run, LAST).axes),
    "grammar_recovery": lambda run: [(one.step, one.auc) for one in le.grammar_recovery(run) if one.step != TORN],
    "last_scores": lambda run: {name: scores.tolist() for name, scores in last_scores(run).items()},
    "name_filters": le.name_filters,
    "read_biography": lambda run: read_biography(run, "conv1_1", 0).name,
    "run_timeline": lambda run: [(one.name, one.emergence.step) for one in le.run_timeline(run)],
    "step_cka": lambda run: le.step_cka(run, "fc1").sel(step=LEFT, step_b=LEFT).round(9).values.tolist(),
    "summarise_run": lambda run: summarise_run(run)[0][1:],
}
"""What is asked of a run, as far as it is the same without step 3."""


@pytest.mark.parametrize("name", ANALYSES)
def test_an_analysis_goes_round_what_is_torn(name, expected, torn):
    run = le.Run(torn, forgiving=True)
    wanted, found = expected(name), ANALYSES[name](run)
    if hasattr(wanted, "equals"):
        assert wanted.equals(found)
    else:
        assert json.dumps(wanted, default=repr) == json.dumps(found, default=repr)
    read_all_steps = name not in ("coupling_graph", "draw_run_graph", "last_scores")
    assert any("is torn at step 3, which is left out" in sentence for sentence in run.trouble) or not read_all_steps
    assert len(set(run.trouble)) == len(run.trouble)


def test_series_and_tables_of_steps_lack_the_torn_one(torn, tmp_path):
    run = le.Run(torn, forgiving=True)
    assert le.coupling_statistics(run).step.values.tolist() == LEFT
    assert _steps(le.grammar_recovery(run)) == LEFT
    assert le.step_cka(run, "fc1").step.values.tolist() == LEFT
    assert {tuple(one.steps) for one in run_series(run)} == {tuple(LEFT)}
    assert run.read("rdm").step.values.tolist() == LEFT
    assert run.at("rdm", TORN) is None
    with pytest.raises(ValueError, match="got 3"):
        le.coupling_graph(run, TORN)
    copied = shutil.copytree(torn, tmp_path / "copied")
    assert le.embed_run(le.Run(copied, forgiving=True), looks=5).step.values.tolist() == LEFT


def test_rdms_are_given_away_without_the_torn_step(torn):
    pytest.importorskip("rsatoolbox")
    given = le.to_rsatoolbox(le.Run(torn, forgiving=True), layer="fc1")
    assert sorted(given.rdm_descriptors["step"]) == LEFT


def test_a_folder_is_as_good_as_a_run_and_warns_of_what_is_torn_once(torn):
    with pytest.warns(UserWarning, match="`rdm` of .* is torn at step 3, which is left out") as said:
        assert le.step_cka(torn, "fc1").step.values.tolist() == LEFT
    assert len(said) == 1
    run = le.Run(torn)
    with warnings.catch_warnings(record=True) as again:
        warnings.simplefilter("always")
        run.read("rdm"), run.read("rdm")
    assert len(again) == 1


def test_the_report_says_what_is_torn_and_has_all_its_sections(torn, intact):
    report = le.make_report([torn])
    torn_ones = [sentence for sentence in report.missing if "is torn at step 3" in sentence]
    assert len(set(torn_ones)) == len(torn_ones) > 10
    assert not [sentence for sentence in report.missing if "could not be made" in sentence]
    for own, other in zip(report.chapters, intact.chapters, strict=True):
        assert [one.name for one in own.section.pictures] == [one.name for one in other.section.pictures]
        assert [len(table.rows) for table in own.section.tables] == [len(table.rows) for table in other.section.tables]


def test_a_record_that_is_torn_at_all_steps_costs_no_section(tmp_path):
    folder = _unpack(tmp_path)
    for chunk in (folder / "records.zarr/filter_part_auc").glob("c.*"):
        _cut(chunk)
    missing = le.make_report([folder]).missing
    assert sum("`filter_part_auc`" in sentence and "is torn at step" in sentence for sentence in missing) == 6
    assert not [sentence for sentence in missing if "could not be made" in sentence]


def test_a_note_of_an_axis_that_is_torn_costs_the_note_alone(tmp_path):
    folder = _unpack(tmp_path)
    before = le.open_run(folder).rdm.load()
    _cut(next((folder / "records.zarr/stimulus_token").glob("c*")))
    run = le.Run(folder, "it", forgiving=True)
    found = run.read("rdm")
    np.testing.assert_array_equal(found.values, before.values)
    assert "stimulus_token" not in found.coords
    assert run.trouble == ["`stimulus_token` of it is torn, and is left out."]


def test_only_a_forgiving_run_is_without_records(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds records\.zarr"):
        le.Run(tmp_path)
    run = le.Run(tmp_path, "nothing", forgiving=True)
    assert (run.steps, run.tokens, run.read("rdm"), run.last("rdm"), run.at("rdm", 0)) == ([], [], None, None, None)
    assert run.trouble == ["nothing has no records: no probe has looked, or the run ended before its first look."]
