"""The network that a probe runs, and what its units see."""

from __future__ import annotations

import pytest
import torch
from small import count_hooks, make_vgg
from torch import nn
from torchvision.models import resnet18

import lightning_emerge as le
from lightning_emerge.capture import (
    open_network,
)


class TestNetwork:
    def test_it_runs_as_deep_as_the_layer_and_leaves_nothing_behind(self):
        network, images = make_vgg(batch_norm=True, dropout=0.5).train(), torch.randn(3, 3, 8, 8)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        with open_network(network, ["conv1_1"]) as live:
            expected = network.conv2_1(network.pool1(network.conv1_1(images)))
            network.fc1.register_forward_hook(lambda *_: pytest.fail("ran deeper than the layer"))
            assert torch.equal(live.respond("conv2_1", images), expected)
            network.fc1._forward_hooks.clear()
            assert torch.equal(live(images), network(images))
            assert torch.equal(live.respond("", images), network(images))
        assert count_hooks(network) == 0
        assert all(part.training for part in network.modules())
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())

    def test_batch_norms_have_the_statistics_of_some_stimuli_until_it_is_closed(self):
        network, images = make_vgg(batch_norm=True).eval(), torch.randn(30, 3, 8, 8) + 2
        before = {name: value.clone() for name, value in network.state_dict().items()}
        expected = network.train()(images)
        network.eval().load_state_dict(before)
        with open_network(network, [], {"fc1": "planted"}) as live:
            found = live.normalise(images, ["conv1_1", "fc1", "fc2"])
            torch.testing.assert_close(live(images), expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(live.respond("fc2", images[:3]), found["fc2"][:3], rtol=1e-4, atol=1e-5)
        assert [*found] == ["conv1_1", "fc2"]
        assert not torch.allclose(expected, network(images), atol=0.1)
        assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
        assert count_hooks(network) == 0

    def test_it_can_be_differentiated_by_images_and_by_frozen_weights(self):
        network = make_vgg().requires_grad_(False)
        images = torch.randn(2, 3, 8, 8, requires_grad=True)
        with torch.no_grad(), open_network(network, ["conv1_1"]) as live:
            total = live.respond("conv2_2", images).square().sum()
            weight = live.parameters(["conv1_1"])["conv1_1"]
            found = torch.autograd.grad(total, [images, weight], create_graph=True)
            assert all(float(gradient.detach().abs().sum()) > 0 for gradient in found)
        assert not any(parameter.requires_grad for parameter in network.parameters())

    def test_what_is_put_in_a_layers_place_goes_on_from_there(self):
        network, images = make_vgg(), torch.randn(3, 3, 8, 8)
        with torch.no_grad(), open_network(network, []) as live:
            assert torch.equal(live.intervene("conv2_1", lambda rows: rows, images), network(images))
            assert not torch.equal(live.intervene("conv2_1", torch.zeros_like, images), network(images))
            assert torch.equal(live.intervene("fc1", lambda rows: rows + 1, images), _after_fc1(network, images))
        assert count_hooks(network) == 0

    def test_what_does_not_fit_in_a_layers_place_is_said(self):
        network, images = make_vgg(), torch.randn(3, 3, 8, 8)
        network.spare = nn.Linear(2, 2)
        with open_network(network, []) as live:
            with pytest.raises(ValueError, match=r"has its shape; 'conv2_1' gives .* got \(1, "):
                live.intervene("conv2_1", lambda rows: rows[:1], images)
            with pytest.raises(ValueError, match="'spare' was not reached"):
                live.intervene("spare", torch.zeros_like, images)
        assert count_hooks(network) == 0

    def test_hooks_go_when_the_network_fails(self):
        network = make_vgg()
        with pytest.raises(RuntimeError), open_network(network, []) as live:
            live.respond("fc1", torch.randn(2, 5, 8, 8))
        assert count_hooks(network) == 0


def _after_fc1(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    names = network.layers
    for name in names[: names.index("fc1") + 1]:
        images = network.get_submodule(name)(images)
    images = images + 1
    for name in names[names.index("fc1") + 1 :]:
        images = network.get_submodule(name)(images)
    return images


def seen_by(network: nn.Module, layer: str, side: int, place: int) -> tuple[int, int]:
    """First row of the image that a unit's gradient reaches, and the one after the last."""
    with open_network(network, []) as live:
        image = torch.rand(1, 3, side, side, requires_grad=True)
        unit = live.respond(layer, image)[0, :, place, place].sum()
        rows = torch.autograd.grad(unit, image)[0].abs().sum(dim=(0, 1, 3)).nonzero()
    return int(rows.min()), int(rows.max()) + 1


class TestReceptiveFields:
    @pytest.mark.parametrize("layer", ["conv1_1", "conv2_2", "pool2", "conv3_3", "conv4_1.conv"])
    def test_they_are_what_gradients_reach(self, layer):
        # Averages instead of maxima and nothing rectified, so that gradients reach all that is seen.
        network = le.VGG(width=2, image_size=96)
        for name, part in list(network.named_modules()):
            home = network.get_submodule(name.rpartition(".")[0]) if name else network
            if isinstance(part, nn.MaxPool2d):
                setattr(home, name.rpartition(".")[2], nn.AvgPool2d(2))
            elif isinstance(part, nn.ReLU):
                setattr(home, name.rpartition(".")[2], nn.Identity())
        with open_network(network, []) as live:
            field = live.receptive_fields([layer], torch.rand(3, 96, 96))[layer]
        assert field is not None
        for place in (1, 3):
            low, high = field.span(place)
            assert seen_by(network, layer, 96, place) == (max(low, 0), min(high, 96))

    def test_a_residual_network_has_them_and_what_sees_all_has_none(self):
        network = resnet18()
        with open_network(network, []) as live:
            fields = live.receptive_fields(["conv1", "layer1", "layer3", "fc"], torch.rand(3, 64, 64))
        assert fields["conv1"] == le.ReceptiveField(7, 2, -3)
        assert fields["layer1"].size == 11 + 4 * 2 * 4  # the pooled stem, then four 3 x 3 convolutions, 4 pixels apart
        assert fields["layer3"] is None
        assert fields["fc"] is None
        assert count_hooks(network) == 0

    def test_modules_that_are_given_no_tensor_are_passed_by(self):
        class Joined(nn.Module):
            def forward(self, parts: list[torch.Tensor]) -> torch.Tensor:
                return torch.cat(parts, dim=1)

        class Dense(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv, self.join, self.unused = nn.Conv2d(3, 3, 3), Joined(), nn.Conv2d(3, 3, 3)

            def forward(self, images: torch.Tensor) -> torch.Tensor:
                maps = self.conv(images)
                return self.join([maps, maps])

        with open_network(Dense(), []) as live:
            fields = live.receptive_fields(["conv", "join", "unused"], torch.rand(3, 8, 8))
        assert fields == {"conv": le.ReceptiveField(3, 1, 0), "join": None, "unused": None}
