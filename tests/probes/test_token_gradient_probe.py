"""TokenGradientProbe on tokens that are known to pull against each other, and on labels that mean nothing."""

from __future__ import annotations

import numpy as np
import torch
from passed import run_bank
from torch import nn

import lightning_emerge as le

TOKENS = ("dax", "wug", "fep", "blick", "toma")


def look(network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> dict[str, le.Measurement]:
    """What the probe measures of the first layer of a network of two."""
    bank = le.StimulusBank(images, labels, tuple(map(str, range(len(labels)))), TOKENS)
    layer = le.capture.default_layers(network)[0]
    seen = run_bank(network, bank, [], token_gradients=[layer])
    capture = le.Capture(3, (layer,), bank, token_gradients=seen.token_gradients)
    return {found.name: found for found in le.TokenGradientProbe().measure(capture)}


def make_network(readout: torch.Tensor, features: int) -> nn.Module:
    """Linear, with a first layer of zeros: token k's gradient is (mean row - row k of the readout) times its image."""
    first, second = nn.Linear(features, readout.shape[1], bias=False), nn.Linear(*readout.T.shape, bias=False)
    nn.init.zeros_(first.weight)
    second.weight.data = readout
    return nn.Sequential(nn.Flatten(), first, second)


def off_diagonal(found: dict[str, le.Measurement]) -> np.ndarray:
    cosines = found["token_gradient_cosine"].values[0]
    return cosines[np.triu_indices(len(cosines), 1)]


def test_opposed_tokens_are_found_and_no_others():
    generator = torch.Generator().manual_seed(0)
    third = 2 * torch.pi / 3 * torch.arange(3)
    readout = torch.zeros(5, 3)
    readout[0, 0], readout[1, 0] = 1, -1
    readout[2:, 1:] = torch.stack([third.cos(), third.sin()], dim=1)
    images = torch.ones(50, 1, 4, 4) + 0.1 * torch.randn(50, 1, 4, 4, generator=generator)
    found = look(make_network(readout, 16), images, torch.arange(50) % 5)
    cosines = found["token_gradient_cosine"].values[0]
    assert cosines[0, 1] < -0.9
    assert np.argwhere(cosines < -0.9).tolist() == [[0, 1], [1, 0]]
    np.testing.assert_allclose(off_diagonal(found), [-1, 0, 0, 0, 0, 0, 0, -0.5, -0.5, -0.5], atol=0.05)


def test_labels_drawn_at_random_show_no_structure():
    """A test of permutation: the spread of the cosines over pairs, among that of 99 other draws of the labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 5
    # Images of tokens 0 and 1 are alike, the others are not; the readout treats all tokens the same.
    centres = torch.randn(5, 30, generator=generator)
    centres[1] = centres[0]
    images = (centres[labels] + torch.randn(200, 30, generator=generator)).view(200, 1, 5, 6)
    network = make_network(torch.eye(5), 30)

    def spread(labels: torch.Tensor) -> float:
        return off_diagonal(look(network, images, labels)).std().item()

    drawn = [spread(labels[torch.randperm(200, generator=generator)]) for _ in range(100)]
    one, others = drawn[0], np.array(drawn[1:])
    assert spread(labels) > 3 * others.max()
    assert (1 + (others >= one).sum()) / 100 > 0.05
    # The same images, and a readout of five directions that add up to zero: -1/4 for all pairs.
    mean = off_diagonal(look(network, images, labels[torch.randperm(200, generator=generator)])).mean()
    assert abs(mean + 0.25) < 0.05


def test_each_record_has_its_axes_and_only_the_matrix_is_drawn():
    probe = le.TokenGradientProbe()
    gradients = torch.tensor([[[1.0, 0.0]], [[0.0, 2.0]], [[-3.0, 0.0]], [[0.0, 0.0]], [[torch.nan] * 2]])
    bank = le.StimulusBank(torch.zeros(4, 1, 2, 2), torch.arange(4), ("a", "b", "c", "d"), TOKENS)
    capture = le.Capture(7, ("fc",), bank, token_gradients={"fc": gradients})
    found = {one.name: one for one in probe.measure(capture)}
    assert {name: [axis.name for axis in one.axes] for name, one in found.items()} == {
        "token_gradient_cosine": ["layer", "token", "token_b"],
        "gradient_conflict": ["layer"],
        "token_gradient_norm": ["layer", "token"],
    }
    np.testing.assert_equal(found["token_gradient_norm"].values, [[1, 2, 3, 0, np.nan]])
    np.testing.assert_allclose(found["gradient_conflict"].values, [1 / 3])
    cosines = found["token_gradient_cosine"].values[0]
    np.testing.assert_equal(cosines[:3, :3], [[1, 0, -1], [0, 1, 0], [-1, 0, 1]])
    assert np.isnan(cosines[3:]).all()
    assert [name for name, one in found.items() if probe.draw(one)] == ["token_gradient_cosine"]
