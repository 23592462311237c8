"""MaximisationProbe on networks whose filters are known, in a fit and in replay."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import lightning_emerge as le
from lightning_emerge.capture import open_network

SIDE = 16


def make_bank(channels: int = 3) -> le.StimulusBank:
    images = torch.rand(40, channels, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    ids = tuple(f"bank/{k}" for k in range(40))
    return le.StimulusBank(images, torch.arange(40) % 2, ids, ("a", "b"))


def make_network(channels: int = 3) -> le.VGG:
    torch.manual_seed(0)
    network = le.VGG(tokens=2, plan=[1, 1], width=4, head=[], image_size=SIDE, channels=channels)
    with torch.no_grad():
        network.conv1_1.conv.weight[1] = -1
        network.conv1_1.conv.bias[1] = -1
    return network


def look(network: nn.Module, bank: le.StimulusBank, **arguments) -> dict[str, le.Measurement]:
    probe = le.MaximisationProbe(**{"iterations": 12, "filters": 3, **arguments})
    layers = probe.check(network)
    with open_network(network, layers) as live:
        return {found.name: found for found in probe.measure(le.Capture(7, layers, bank, network=live))}


@pytest.mark.parametrize("target", ["channel", "unit"])
def test_what_it_records_is_what_the_network_gives(target):
    network, bank = make_network(), make_bank()
    found = look(network, bank, target=target, iterations=30)
    images = found["maximising_image"]
    assert images.values.shape == (3, 3, 3, SIDE, SIDE)
    assert images.axes[0].notes["filters"] == [3, 3, 2]
    assert [axis.name for axis in images.axes] == ["layer", "filter", "channel", "y", "x"]
    low, high = bank.images.amin((0, 2, 3)), bank.images.amax((0, 2, 3))

    def respond(images: torch.Tensor) -> torch.Tensor:
        outputs = network.conv1_1(images)
        return outputs.mean(dim=(2, 3)) if target == "channel" else outputs[..., SIDE // 2, SIDE // 2]

    with torch.no_grad():
        shown = torch.from_numpy(images.values[0, [0, 2]]) * (high - low)[:, None, None] + low[:, None, None]
        reached = respond(shown)[[0, 1], [0, 2]]
        best = respond(bank.images).amax(dim=0)[:3]
    np.testing.assert_allclose(found["maximising_activation"].values[0, [0, 2]], reached, rtol=1e-4)
    np.testing.assert_allclose(found["best_exemplar_activation"].values[0], best, rtol=1e-5)
    assert np.nanmin(images.values) >= 0
    assert np.nanmax(images.values) <= 1


def test_a_dead_filter_has_no_image_and_an_activation_of_zero():
    found = look(make_network(), make_bank())
    assert np.isnan(found["maximising_image"].values[0, 1]).all()
    assert np.isfinite(found["maximising_image"].values[0, [0, 2]]).all()
    assert found["maximising_activation"].values[0, 1] == 0
    assert found["best_exemplar_activation"].values[0, 1] == 0
    assert np.isnan(found["begun_as_exemplar"].values[0, 1])


def test_the_last_layer_has_an_image_for_each_token_and_no_more():
    found = look(make_network(), make_bank(), iterations=40)
    assert np.isnan(found["maximising_image"].values[2, 2]).all()
    assert np.isnan(found["maximising_activation"].values[2, 2])
    reached, best = found["maximising_activation"].values[2, :2], found["best_exemplar_activation"].values[2, :2]
    assert (reached > best).all()


@pytest.mark.parametrize(("channels", "drawn"), [(1, ["maximising_image"]), (2, []), (3, ["maximising_image"])])
def test_images_of_one_and_three_channels_are_drawn(channels, drawn):
    found = look(make_network(channels), make_bank(channels), iterations=1)
    assert [name for name, measured in found.items() if le.MaximisationProbe().draw(measured)] == drawn


def test_same_seed_same_image_in_a_fit_and_after_it(make_data, make_model, make_trainer, tmp_path):
    def fit(version: str, seed: int) -> np.ndarray:
        probe = le.MaximisationProbe(le.At([0]), ["conv2_1"], filters=2, iterations=2, seed=seed, on_error="raise")
        model = make_model()
        trainer = make_trainer([probe], max_steps=1, logger=False, default_root_dir=tmp_path / version)
        trainer.fit(model, datamodule=make_data())
        assert not any(part._forward_hooks or part._backward_hooks for part in model.modules())
        return le.open_run(tmp_path / version).maximising_image.values

    first, again, other = fit("a", 0), fit("b", 0), fit("c", 1)
    np.testing.assert_array_equal(first, again)
    assert first.shape == (2, 1, 2, 3, SIDE, SIDE)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"filters": 0}, "filters and iterations are at least 1; got 0 and 64"),
        ({"iterations": 0}, "got 8 and 0"),
        ({"target": "neuron"}, "target is 'channel' or 'unit'; got 'neuron'"),
    ],
)
def test_arguments_out_of_range_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        le.MaximisationProbe(**wrong)
