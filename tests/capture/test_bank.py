"""One pass of the bank: in chunks, token by token."""

from __future__ import annotations

import pytest
import torch
from small import Wrapper, both, make_bank, make_mlp, make_vgg
from torch.nn.functional import max_pool2d


def test_activations_are_those_of_the_network_taken_apart():
    network, bank = make_vgg().eval(), make_bank(5, 3, 8, 8)
    wrapped = Wrapper(network)
    activations, outputs = both(wrapped, bank, ["conv1_1.conv", "conv1_1", "pool1", "conv2_1", "fc2"])
    with torch.no_grad():
        first = network.conv1_1.conv(bank.images)
        pooled = max_pool2d(first.clamp(min=0), 2)
        expected = {
            "conv1_1.conv": first,
            "conv1_1": first.clamp(min=0),
            "pool1": pooled,
            "conv2_1": network.conv2_1.conv(pooled).clamp(min=0),
            "fc2": network(bank.images),
        }
    assert list(activations) == list(expected)
    for layer, rows in expected.items():
        torch.testing.assert_close(activations[layer], rows)
    torch.testing.assert_close(outputs, expected["fc2"])
    assert (activations["conv1_1.conv"] < 0).any()


def test_a_relu_in_place_does_not_overwrite_the_layer_before_it():
    network, bank = make_mlp(inplace=True), make_bank(5, 4)
    activations, _ = both(network, bank, ["0", "1"])
    expected = bank.images @ network[0].weight.T + network[0].bias
    torch.testing.assert_close(activations["1"], expected.clamp(min=0))
    torch.testing.assert_close(activations["0"], expected)


@pytest.mark.parametrize("size", [1, 32, 33, 150])
def test_the_bank_passes_once_token_by_token_in_chunks(size):
    network, bank = make_mlp(), make_bank(size, 4)
    passed: list[torch.Tensor] = []
    network.register_forward_pre_hook(lambda _, inputs: passed.append(inputs[0]))
    activations, outputs = both(network, bank, ["0", "2"])
    own = [bank.images[bank.labels == token] for token in (0, 1)]
    assert [len(chunk) for chunk in passed] == [
        len(chunk) for images in own for chunk in images.split(32) if len(chunk)
    ]
    assert torch.equal(torch.cat(passed), torch.cat(own))
    assert activations["0"].shape == (size, 6)
    torch.testing.assert_close(outputs, network(bank.images).detach())
    assert torch.equal(activations["2"], outputs)
