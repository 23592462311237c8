from math import log, prod

import pytest
import torch
from torch import nn
from torchvision.models.vgg import cfgs, make_layers

from lightning_emerge.models.vgg import VGG

PUBLISHED = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}


def tiny(**arguments) -> VGG:
    return VGG(**{"plan": [1, 1], "width": 2, "head": [3], "tokens": 4, "image_size": 8, "channels": 1, **arguments})


def weights(network: nn.Module) -> int:
    return sum(prod(parameter.shape) for parameter in network.parameters())


class TestDefault:
    def test_it_has_the_paper_s_number_of_weights(self):
        assert weights(VGG()) == 1_242_845

    def test_it_has_13_convolutions_and_3_linear_layers(self):
        kinds = [type(module) for module in VGG().modules()]
        assert kinds.count(nn.Conv2d) == 13
        assert kinds.count(nn.Linear) == 3
        assert kinds.count(nn.BatchNorm2d) == 0

    def test_layers_are_named_by_stage_and_number(self):
        stages = ["1_1 1_2", "2_1 2_2", "3_1 3_2 3_3", "4_1 4_2 4_3", "5_1 5_2 5_3"]
        expected = []
        for number, stage in enumerate(stages, start=1):
            expected += [f"conv{name}" for name in stage.split()] + [f"pool{number}"]
        assert VGG().layers == [*expected, "average", "fc1", "fc2", "fc3"]

    def test_it_says_what_data_it_takes(self):
        network = VGG(tokens=7, image_size=40, channels=2)
        assert (network.tokens, network.image_size, network.channels) == (7, 40, 2)


class TestPlans:
    @pytest.mark.parametrize("plan", PUBLISHED)
    def test_the_name_counts_the_layers_with_weights(self, plan):
        kinds = [type(module) for module in VGG(plan=plan, width=1, head=[2, 2]).modules()]
        assert kinds.count(nn.Conv2d) + kinds.count(nn.Linear) == int(plan.removeprefix("vgg"))

    @pytest.mark.parametrize(("plan", "letter"), PUBLISHED.items())
    def test_at_width_64_filters_and_poolings_are_those_published(self, plan, letter):
        modules = VGG(plan=plan, width=64, head=[]).modules()
        layers = [module for module in modules if isinstance(module, nn.Conv2d | nn.MaxPool2d)]
        found = [layer.out_channels if isinstance(layer, nn.Conv2d) else "M" for layer in layers]
        assert found == cfgs[letter]

    @pytest.mark.parametrize("batch_norm", [False, True])
    def test_torchvision_s_layers_with_the_same_weights_give_the_same_logits(self, batch_norm):
        torch.manual_seed(0)
        network = VGG(plan="vgg11", width=2, head=[6], batch_norm=batch_norm, image_size=64).eval()
        plan = [size if size == "M" else size // 32 for size in cfgs["A"]]
        features = make_layers(plan, batch_norm=batch_norm).eval()
        own = [tensor for name, tensor in network.state_dict().items() if name.startswith("conv")]
        features.load_state_dict(dict(zip(features.state_dict(), own, strict=True)))
        images = torch.randn(3, 3, 64, 64)
        pooled = features(images).mean(dim=(2, 3))
        hidden = (pooled @ network.fc1.linear.weight.T + network.fc1.linear.bias).clamp(min=0)
        torch.testing.assert_close(network(images), hidden @ network.fc2.linear.weight.T + network.fc2.linear.bias)

    def test_a_plan_of_one_s_own(self):
        network = tiny(plan=[1, 3, 2])
        assert [name for name in network.layers if name.startswith("conv")] == [
            *("conv1_1", "conv2_1", "conv2_2", "conv2_3", "conv3_1", "conv3_2")
        ]


class TestInitial:
    def test_small_initial_weights_change_no_response_under_batch_norm(self):
        found = []
        for initial in (1.0, 0.3):
            torch.manual_seed(0)
            found.append(tiny(batch_norm=True, initial=initial))
        images = torch.randn(6, 1, 8, 8)
        for whole, small in zip(found[0].parameters(), found[1].parameters(), strict=True):
            assert small.allclose(whole * (0.3 if whole.dim() == 4 else 1))
        torch.testing.assert_close(found[1](images), found[0](images), rtol=1e-3, atol=1e-4)

    def test_running_statistics_follow_each_batch_as_far_as_they_are_told_to(self):
        torch.manual_seed(0)
        network, images = tiny(batch_norm=True, norm_momentum=0.5).train(), torch.randn(6, 1, 8, 8)
        network(images)
        seen = network.conv1_1.conv(images)
        torch.testing.assert_close(network.conv1_1.norm.running_mean, 0.5 * seen.mean(dim=(0, 2, 3)))
        with pytest.raises(ValueError, match=r"norm_momentum.*above 0"):
            tiny(norm_momentum=0.0)

    @pytest.mark.parametrize("initial", [0.0, -1.0, float("inf"), float("nan")])
    def test_weights_that_cannot_learn_are_refused(self, initial):
        with pytest.raises(ValueError, match=r"initial.*above 0"):
            tiny(initial=initial)


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "count"),
        [
            ({}, (9 * 1 * 2 + 2) + (9 * 2 * 4 + 4) + (4 * 3 + 3) + (3 * 4 + 4)),
            ({"head": []}, (9 * 1 * 2 + 2) + (9 * 2 * 4 + 4) + (4 * 4 + 4)),
            ({"batch_norm": True}, (9 * 1 * 2 + 2 + 4) + (9 * 2 * 4 + 4 + 8) + (4 * 3 + 3) + (3 * 4 + 4)),
            ({"channels": 3, "tokens": 2}, (9 * 3 * 2 + 2) + (9 * 2 * 4 + 4) + (4 * 3 + 3) + (3 * 2 + 2)),
            ({"width": 1, "plan": [2]}, (9 + 1) + (9 + 1) + (1 * 3 + 3) + (3 * 4 + 4)),
        ],
    )
    def test_weights_counted_by_hand(self, arguments, count):
        assert weights(tiny(**arguments)) == count

    def test_width_doubles_up_to_eight_times(self):
        convolutions = [
            module for module in tiny(plan=[1] * 5, image_size=32).modules() if isinstance(module, nn.Conv2d)
        ]
        assert [convolution.out_channels for convolution in convolutions] == [2, 4, 8, 16, 16]

    @pytest.mark.parametrize(("image_size", "channels", "tokens"), [(8, 1, 4), (9, 3, 2), (33, 2, 10)])
    def test_forward_gives_one_logit_a_token(self, image_size, channels, tokens):
        network = tiny(image_size=image_size, channels=channels, tokens=tokens)
        assert network(torch.randn(5, channels, image_size, image_size)).shape == (5, tokens)

    def test_the_smallest_image_goes_through(self):
        network = VGG(plan="vgg11", width=1, head=[2], image_size=32)
        assert network(torch.randn(1, 3, 32, 32)).shape == (1, 5)

    def test_dropout_silences_in_training_only(self):
        torch.manual_seed(0)
        network, images = tiny(head=[200], dropout=0.5), torch.randn(2, 1, 8, 8)
        assert not torch.equal(network(images), network(images))
        network.eval()
        assert torch.equal(network(images), network(images))

    def test_without_dropout_training_is_deterministic(self):
        network, images = tiny(), torch.randn(2, 1, 8, 8)
        assert torch.equal(network(images), network(images))

    @pytest.mark.parametrize(
        ("argument", "value", "rule"),
        [
            ("tokens", 1, "tokens is at least 2; got 1"),
            ("plan", [], r"plan has at least one convolution in each stage; got \[\]"),
            ("plan", [1, 0], r"plan has at least one convolution in each stage; got \[1, 0\]"),
            ("plan", "vgg12", "plan.*vgg11.*vgg19.*vgg12"),
            ("width", 0, "width is at least 1; got 0"),
            ("head", [4, 0], r"head has at least 1 unit in each layer; got \[4, 0\]"),
            ("dropout", -0.1, "dropout is at least 0 and below 1; got -0.1"),
            ("dropout", 1.0, "dropout is at least 0 and below 1; got 1.0"),
            ("image_size", 3, "image_size is at least 4 for 2 poolings; got 3"),
            ("channels", 0, "channels is at least 1; got 0"),
        ],
    )
    def test_an_argument_out_of_its_range_is_refused_with_rule_and_value(self, argument, value, rule):
        with pytest.raises(ValueError, match=rf"^VGG: {rule}"):
            tiny(**{argument: value})


class TestHooks:
    def test_no_relu_works_in_place(self):
        relus = [module for module in VGG(batch_norm=True).modules() if isinstance(module, nn.ReLU)]
        assert len(relus) == 15
        assert not any(relu.inplace for relu in relus)

    def test_a_hook_on_a_convolution_keeps_what_it_saw(self):
        torch.manual_seed(0)
        network, seen = tiny(), {}
        network.conv2_1.conv.register_forward_hook(lambda module, given, gave: seen.update(before=gave))
        network.conv2_1.register_forward_hook(lambda module, given, gave: seen.update(after=gave))
        network.pool2.register_forward_hook(lambda module, given, gave: seen.update(next=given[0]))
        network(torch.randn(2, 1, 8, 8))
        assert (seen["before"] < 0).any()
        torch.testing.assert_close(seen["after"], seen["before"].clamp(min=0))
        assert torch.equal(seen["next"], seen["after"])


class TestInitialisation:
    def scales(self, network: VGG) -> list[float]:
        """Root mean square of each convolution's output, for white noise of unit scale."""
        values = torch.randn(8, 3, 48, 48)
        found = []
        with torch.no_grad():
            for name in network.layers:
                values = network.get_submodule(name)(values)
                if name.startswith("conv"):
                    found.append(float(values.square().mean().sqrt()))
        return found

    @pytest.mark.parametrize("seed", [0, 1])
    def test_the_scale_of_activations_survives_13_layers(self, seed):
        torch.manual_seed(seed)
        scales = self.scales(VGG())
        assert len(scales) == 13
        assert all(0.3 < scale < 10 for scale in scales)

    def test_torch_s_own_initialisation_would_have_lost_it(self):
        torch.manual_seed(0)
        network = VGG()
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.reset_parameters()
        assert self.scales(network)[-1] < 0.1

    def test_weights_have_he_s_variance_and_biases_are_zero(self):
        torch.manual_seed(0)
        network = VGG()
        for convolution in (network.conv3_2.conv, network.conv5_1.conv):
            expected = (2 / (9 * convolution.in_channels)) ** 0.5
            assert float(convolution.weight.detach().std()) == pytest.approx(expected, rel=0.03)
        assert all(not parameter.any() for name, parameter in network.named_parameters() if name.endswith("bias"))

    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_an_untrained_network_holds_all_tokens_for_about_equally_likely(self, seed):
        torch.manual_seed(seed)
        with torch.no_grad():
            loss = nn.functional.cross_entropy(VGG()(torch.randn(50, 3, 48, 48)), torch.arange(50) % 5)
        assert float(loss) == pytest.approx(log(5), abs=0.5)

    def test_a_seed_makes_the_weights(self):
        networks = []
        for seed in (3, 3, 4):
            torch.manual_seed(seed)
            networks.append(torch.cat([parameter.flatten() for parameter in tiny().parameters()]))
        assert torch.equal(networks[0], networks[1])
        assert not torch.equal(networks[0], networks[2])
