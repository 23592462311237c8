"""What probes declare holds of what they recorded; and what tests make up is what they declare."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import lightning_emerge as le

OLD_RUN = Path(__file__).parents[1] / "contracts/old_run.tar.xz"
PROBES = {name: kind for name in le.__all__ if name.endswith("Probe") and (kind := getattr(le, name)) is not le.Probe}
NOTHING = ("ablation_drop", "ablation_filter", "coupling_threshold")
"""What cannot be measured with so few stimuli: no filter is a detector, and no coupling counts."""

RECORDS = {record.name: record for kind in PROBES.values() for record in reversed(kind.records)}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    """What all probes recorded of a network while it trained."""
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(OLD_RUN) as packed:
        packed.extractall(folder, filter="data")
    return le.open_run(folder).load()


@pytest.mark.parametrize("name", PROBES)
def test_each_probe_declares_what_it_records(name):
    assert PROBES[name].records
    for record in PROBES[name].records:
        assert record.about
        assert not record.about.endswith(".")


def test_a_name_belongs_to_one_probe_and_has_the_same_axes_whatever_its_arguments():
    owners: dict[str, tuple[str, tuple[str, ...]]] = {}
    for name, kind in PROBES.items():
        for record in kind.records:
            assert owners.setdefault(record.name, (name, record.axes)) == (name, record.axes)


@pytest.mark.parametrize("name", RECORDS)
def test_what_was_recorded_has_the_declared_axes_and_lies_in_the_declared_range(name, trained):
    record = RECORDS[name]
    if name not in trained:
        pytest.skip("no probe of that run records it")
    values = trained[name]
    axes = tuple(str(axis).partition("_of_")[0] for axis in values.dims[1:])
    assert (("layer", *axes) if name == "kernels" else axes) == record.axes  # they had no axis for their layer then
    low, high = record.range
    known = values.values[np.isfinite(values.values)]
    assert (known.size == 0) == (name in NOTHING)
    assert low is None or known.min(initial=np.inf) >= low - 1e-5
    assert high is None or known.max(initial=-np.inf) <= high + 1e-5
    if record.scale == "diverging" and record.range != (None, None):
        assert record.range == (-1, 1)


def test_a_made_up_run_has_what_probes_declare(make_run, tmp_path):
    made = le.open_run(make_run(tmp_path / "run")).load()
    assert len(made.data_vars) > 30
    for name, values in made.data_vars.items():
        record = RECORDS[str(name)]
        assert tuple(str(axis).partition("_of_")[0] for axis in values.dims[1:]) == record.axes, name
        assert values.attrs["units"] == record.unit, name
        assert (values.attrs.get("valid_min"), values.attrs.get("valid_max")) == record.range, name
        assert (values.attrs["scale"], values.attrs["long_name"]) == (record.scale, record.about), name
        low, high = record.range
        assert low is None or float(values.min()) >= low, name
        assert high is None or float(values.max()) <= high, name
