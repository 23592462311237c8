"""Each record says what it should where there is nothing, and finds what was planted: the table in docs/probes.md."""

from __future__ import annotations

import inspect

import calibration
import pytest
from trials import DESCRIBED, TRIALS
from trials.laziness import Way, train

import lightning_emerge as le


@pytest.fixture(scope="module")
def found() -> list[calibration.Found]:
    return calibration.calibrate()


@pytest.mark.slow
def test_records_of_nothing_say_so(found):
    due = [row for row in found if row.expected is not None and not row.exact]
    assert len(due) > 40
    assert not {row.record: row.z for row in due if not abs(row.z) < 3.5}  # by chance once in 40 tables


@pytest.mark.slow
def test_planted_effects_are_found(found):
    recovered = {row.record: row.recovery for row in found if row.recovery is not None}
    assert recovered.pop("maximising_activation") > 0.4  # of a bound: its search ends long before
    assert not {record: share for record, share in recovered.items() if not 0.7 < share < 1.3}


@pytest.mark.slow
def test_the_page_has_the_table_that_the_command_makes(found, tmp_path):
    page = tmp_path / "probes.md"
    page.write_text(calibration.PAGE.read_text())
    calibration.write_table(found, page)
    names = [line.split("|")[1] for line in _table(page.read_text())]
    assert names == [line.split("|")[1] for line in _table(calibration.PAGE.read_text())]


def test_the_kernel_of_a_lazy_network_stays_and_that_of_one_that_builds_features_goes():
    lazy, between, rich = (train(way) for way in (Way(factor=100), Way(factor=0.3), Way(size=0.2)))
    of_noise = train(Way(size=0.2, shuffled=True))
    kernel = [one["kernel_alignment_total"][1] for one in (lazy, between, rich, of_noise)]
    assert kernel[0] > 0.995
    assert 0.95 > kernel[1] > kernel[2] + 0.1
    assert kernel[3] == pytest.approx(kernel[2], abs=0.1)  # it turns as far by learning nothing
    gains = [
        after - before for before, after in (one["kernel_token_alignment_total"] for one in (lazy, rich, of_noise))
    ]
    assert abs(gains[0]) < 0.005
    assert gains[1] > 0.05 > gains[2]
    assert min(one["accuracy"][1] for one in (lazy, between, rich)) > 0.8
    assert of_noise["accuracy"][1] < 0.6


def test_no_record_of_any_probe_is_left_out():
    trials = [trial() for trial in TRIALS]
    probes = {type(trial.probe(0)) for trial in trials}
    public = [getattr(le, name) for name in le.__all__]
    shipped = {one for one in public if inspect.isclass(one) and issubclass(one, le.Probe) and one is not le.Probe}
    assert probes == shipped
    tried = {row.record for trial in trials for row in trial.rows}
    recorded = {name for trial in trials for name in calibration.look(trial.probe(0), trial.planted(0))}
    assert recorded - tried == set(DESCRIBED)


def test_a_page_without_a_place_for_the_table_is_left_as_it_is(tmp_path):
    page = tmp_path / "probes.md"
    page.write_text("nothing")
    with pytest.raises(ValueError, match="no such place"):
        calibration.write_table([], page)
    assert page.read_text() == "nothing"


def _table(text: str) -> list[str]:
    return text.split(calibration.BEGIN)[1].split(calibration.END, maxsplit=1)[0].strip().splitlines()
