from copy import copy
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch

from lightning_emerge.records import Axis, Capture, Measurement, StimulusBank, to_array


def measurement(**arguments) -> Measurement:
    layers, tokens = Axis("layer", ["conv1", "conv2"]), Axis("token", ["a", "b", "c"])
    return Measurement(**{"name": "m", "values": np.zeros((2, 3)), "axes": (layers, tokens), "step": 4, **arguments})


def bank(**arguments) -> StimulusBank:
    plain = {"inputs": torch.zeros(3, 1, 2, 2), "labels": torch.tensor([0, 0, 1]), "ids": ("x", "y", "z")}
    return StimulusBank(**{**plain, "tokens": ("a", "b"), **arguments})


class TestMeasurement:
    def test_it_carries_what_it_is_given(self):
        made = measurement(unit="rad", source="Probe", about="An angle.")
        assert (made.name, made.step, made.unit, made.source, made.about) == ("m", 4, "rad", "Probe", "An angle.")
        assert [axis.name for axis in made.axes] == ["layer", "token"]

    @pytest.mark.parametrize("shape", [(3, 2), (2,), (2, 3, 1), (2, 4), ()])
    def test_a_shape_that_its_axes_do_not_have_is_refused(self, shape):
        with pytest.raises(
            ValueError, match=r"'m' has values of shape .* and axes \{'layer': 2, 'token': 3\}"
        ) as caught:
            measurement(values=np.zeros(shape))
        assert str(shape) in str(caught.value)

    def test_a_number_without_axes(self):
        assert measurement(values=np.array(1.5), axes=()).values.shape == ()

    def test_two_axes_of_one_name_are_refused(self):
        with pytest.raises(ValueError, match=r"different names; 'm' has \['a', 'a'\]"):
            measurement(values=np.zeros((1, 1)), axes=(Axis("a", [0]), Axis("a", [1])))

    @pytest.mark.parametrize("dtype", [np.int64, np.bool_, np.complex64, np.uint8])
    def test_what_cannot_be_nan_is_refused(self, dtype):
        with pytest.raises(TypeError, match=f"'m' has {np.dtype(dtype)}. Convert"):
            measurement(values=np.zeros((2, 3), dtype))

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    def test_floating_numbers_and_nan_are_not(self, dtype):
        assert np.isnan(measurement(values=np.full((2, 3), np.nan, dtype)).values).all()

    def test_it_is_frozen(self):
        with pytest.raises(FrozenInstanceError):
            measurement().step = 5


class TestAxis:
    def test_notes_have_a_label_for_each_position(self):
        Axis("stimulus", ["x", "y"], notes={"token": ["a", "b"]})
        with pytest.raises(ValueError, match="'stimulus' has 2, its note 'token' has 3"):
            Axis("stimulus", ["x", "y"], notes={"token": ["a", "b", "c"]})

    def test_no_axis_shares_its_notes_with_another(self):
        assert Axis("a", [1]).notes is not Axis("b", [1]).notes


class TestStimulusBank:
    def test_as_long_as_its_ids(self):
        assert len(bank()) == 3

    @pytest.mark.parametrize(
        "odd", [{"inputs": torch.zeros(2, 1, 2, 2)}, {"labels": torch.zeros(4, dtype=torch.int64)}, {"ids": ("x", "y")}]
    )
    def test_one_image_one_label_one_id_a_stimulus(self, odd):
        counts = {"inputs": 3, "labels": 3, "ids": 3} | {name: len(value) for name, value in odd.items()}
        message = f"{counts['inputs']} inputs, {counts['labels']} labels and {counts['ids']} ids"
        with pytest.raises(ValueError, match=message):
            bank(**odd)

    def test_an_id_twice_is_refused(self):
        with pytest.raises(ValueError, match="ids of a stimulus bank are unique"):
            bank(ids=("x", "y", "x"))


class TestCapture:
    def test_what_was_not_asked_for_is_refused_with_how_to_ask(self):
        capture = Capture(0, ("fc",), weights={"fc": torch.ones(2, 2)})
        assert (capture.bank, capture.layers, list(capture.found)) == (None, ("fc",), ["weights"])
        with pytest.raises(AttributeError, match=r"here weights; 'outputs' .* Add lightning_emerge\.Outputs\(\)"):
            _ = capture.outputs
        with pytest.raises(AttributeError, match=r"Did you mean 'activations'\? Add lightning_emerge\.Activations\(\)"):
            _ = capture.activation
        with pytest.raises(AttributeError, match=r"Did you mean 'weights'\?$"):
            _ = capture.weight
        assert copy(capture).weights is capture.weights

    def test_it_does_not_change(self):
        capture = Capture(0, (), outputs=torch.ones(1))
        with pytest.raises(AttributeError, match="does not change; got 'step'"):
            capture.step = 1
        with pytest.raises(TypeError):
            capture.found["outputs"] = None  # pyright: ignore[reportIndexIssue]


class TestToArray:
    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (torch.bfloat16, np.float32),
            (torch.float16, np.float32),
            (torch.float32, np.float32),
            (torch.float64, np.float64),
        ],
    )
    def test_half_precision_becomes_single_and_the_rest_stays(self, given, expected):
        array = to_array(torch.tensor([[1.5, -0.25]], dtype=given))
        assert array.dtype == expected
        np.testing.assert_array_equal(array, [[1.5, -0.25]])

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
    def test_it_is_a_copy(self, dtype):
        tensor = torch.ones(3, dtype=dtype)
        array = to_array(tensor)
        tensor.zero_()
        np.testing.assert_array_equal(array, 1)
        array[:] = 5
        assert not tensor.any()

    def test_a_tensor_with_a_gradient_and_strides(self):
        tensor = torch.arange(6.0).reshape(2, 3).requires_grad_()
        np.testing.assert_array_equal(to_array(tensor.T), [[0, 3], [1, 4], [2, 5]])
