"""What a probe declares, and measurements that are made of it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch

import lightning_emerge as le
from lightning_emerge.records import Axis, Record, check_declared

DEPTH = Record("depth", ("layer", "filter"), "metre", range=(0, None), scale="log", about="How deep a filter lies")
LAYER, FILTER = Axis("layer", ["a"]), Axis("filter", [0, 1])


class TestRecord:
    def test_a_measurement_says_what_its_record_says(self):
        found = DEPTH.of(np.array([[1.0, 2.0]]), LAYER, FILTER, beside={"more": np.zeros(1)})
        assert (found.name, found.unit, found.about) == ("depth", "metre", "How deep a filter lies")
        assert (found.range, found.scale, found.distance) == ((0.0, None), "log", "")
        assert found.axes == (LAYER, FILTER)
        assert [*found.beside] == ["more"]
        np.testing.assert_array_equal(found.values, [[1, 2]])

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
    def test_tensors_become_arrays(self, dtype):
        found = DEPTH.of(torch.tensor([[0.5, torch.nan]], dtype=dtype, requires_grad=True), LAYER, FILTER)
        np.testing.assert_array_equal(found.values, [[0.5, np.nan]])

    def test_it_is_exported_and_cannot_be_changed(self):
        assert le.Record is Record
        with pytest.raises(FrozenInstanceError):
            DEPTH.unit = "mile"  # pyright: ignore[reportAttributeAccessIssue]

    @pytest.mark.parametrize(
        ("axes", "said"),
        [
            ((LAYER,), r"\(layer, filter\), and got \(layer\)"),
            ((FILTER, LAYER), r"got \(filter, layer\)"),
            ((LAYER, Axis("filters", [0, 1])), "Did you mean 'filter'"),
            ((), r"got \(none\)"),
        ],
    )
    def test_other_axes_are_refused(self, axes, said):
        with pytest.raises(ValueError, match=said):
            DEPTH.of(np.zeros((1, 2)), *axes)

    def test_labels_that_do_not_fit_the_values_are_refused(self):
        with pytest.raises(ValueError, match=r"shape \(1, 3\)"):
            DEPTH.of(np.zeros((1, 3)), LAYER, FILTER)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"name": "a/b"}, "Rename"),
            ({"name": "step"}, "axis of steps"),
            ({"axes": ("layer", "a/b")}, "Rename"),
            ({"axes": ("layer", "layer")}, "different names"),
            ({"axes": ("depth",)}, "different names"),
            ({"axes": "layer"}, "comma"),
            ({"range": (1, 0)}, "low to high"),
            ({"range": (1, 1)}, "low to high"),
            ({"range": (0, float("inf"))}, "finite"),
            ({"range": (0,)}, "two finite numbers"),
            ({"range": ("0", None)}, "finite"),
            ({"scale": "logs"}, "Did you mean 'log'"),
            ({"scale": "log", "range": (None, None)}, "above zero"),
            ({"scale": "log", "range": (-1, None)}, "above zero"),
            ({"distance": "squares"}, "Did you mean 'square'"),
            ({"unit": "\udcff"}, "text"),
            ({"about": "\udcff"}, "text"),
        ],
    )
    def test_what_makes_no_sense_is_refused_when_it_is_declared(self, change, said):
        with pytest.raises(ValueError, match=said):
            replace(DEPTH, **change)


class TestCheckDeclared:
    made = DEPTH.of(np.zeros((1, 2)), LAYER, FILTER)

    def test_what_is_declared_passes(self):
        check_declared(self.made, (replace(DEPTH, name="other"), DEPTH), "Own")

    def test_one_of_several_declarations_of_a_name_is_enough(self):
        both = (DEPTH, replace(DEPTH, unit="foot"))
        check_declared(both[1].of(np.zeros((1, 2)), LAYER, FILTER), both, "Own")

    def test_what_is_said_of_it_may_differ(self):
        check_declared(replace(self.made, about="of today", step=3), (DEPTH,), "Own")

    def test_a_name_that_is_not_declared_is_refused_with_the_nearest(self):
        with pytest.raises(ValueError, match=r"Own declares depths, x, and measured 'depth'.*Did you mean 'depths'"):
            check_declared(self.made, (replace(DEPTH, name="depths"), Record("x")), "Own")

    def test_nothing_is_declared(self):
        with pytest.raises(ValueError, match=r"Own declares none, .*Declare it as a lightning_emerge\.Record"):
            check_declared(self.made, (), "Own")

    @pytest.mark.parametrize(
        "change",
        [{"unit": "mile"}, {"range": (0.0, 1.0)}, {"scale": "linear"}, {"distance": "length"}],
        ids=lambda change: next(iter(change)),
    )
    def test_another_meaning_of_the_numbers_is_refused(self, change):
        with pytest.raises(ValueError, match=r"'depth' of Own declares .*'metre', \(0\.0, None\) and 'log'"):
            check_declared(replace(self.made, **change), (DEPTH,), "Own")

    def test_other_axes_are_refused(self):
        bare = le.Measurement("depth", np.zeros(2), (FILTER,), 0, "metre", range=(0.0, None), scale="log")
        with pytest.raises(ValueError, match=r"\(layer, filter\), .* has \(filter\)"):
            check_declared(bare, (DEPTH,), "Own")
