"""RegimeProbe on networks whose kernel is known, stands still or changes in a known way, and over checkpoints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from small import make_bank
from torch import nn

import lightning_emerge as le
from lightning_emerge.capture import open_network
from lightning_emerge.capture.layers import find_weights
from lightning_emerge.engine.conductor import Conductor
from lightning_emerge.engine.reporting import Sinks
from lightning_emerge.measures.cka import debiased_cka
from lightning_emerge.measures.geometry import layer_geometry
from lightning_emerge.measures.regime import spread_stimuli


class Looks:
    """A network that is looked at step by step."""

    def __init__(self, network: nn.Module, bank: le.StimulusBank, **settings: Any) -> None:
        self.network, self.bank = network, bank
        self.probe, self.step, self.first = le.RegimeProbe(**settings), 0, le.FirstLook(0)

    def look(self) -> dict[str, np.ndarray]:
        layers = self.probe.check(self.network)
        weights = {layer: one.read().clone() for layer, one in find_weights(self.network, layers).items()}
        with open_network(self.network, layers, bank=self.bank) as live:
            capture = le.Capture(self.step, layers, self.bank, network=live, weights=weights, start=self.first)
            found = {one.name: one.values for one in self.probe.measure(capture)}
        if self.first.now:
            self.first = le.FirstLook(self.step, weights, self.first.kept, now=False)
        self.step += 1
        return found


def disturb(network: nn.Module, size: float) -> None:
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(size * weight.std().nan_to_num() * torch.randn_like(weight))


def test_a_linear_network_is_its_own_linearisation_however_far_it_goes():
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    looks = Looks(network, make_bank(30, 3, 2, 2))
    first = looks.look()
    assert [first[name].item() for name in ("kernel_alignment_total", "start_cka")] == pytest.approx([1, 1])
    assert [first[name].item() for name in ("turned_share_total", "relative_distance_total")] == [0, 0]
    assert np.isnan(first["update_rank"]).all()
    disturb(network, 3)
    later = looks.look()
    assert later["kernel_alignment"].item() == later["kernel_alignment_total"].item() == pytest.approx(1)
    assert later["turned_share"].item() == 1
    assert later["relative_distance"].item() > 2
    assert later["start_cka"].item() < 0.99


def test_two_linear_layers_have_the_kernels_of_their_closed_form():
    # Of f = A B x, the gradient by B has the kernel (A A')[a, b] x x', and that by A 1[a = b] (B x)(B x)'.
    network = nn.Sequential(nn.Linear(6, 8, bias=False), nn.Linear(8, 3, bias=False)).double()
    bank = make_bank(40, 6)
    looks = Looks(network, bank, stimuli=20)
    start = network[0].weight.detach().clone()
    looks.look()
    disturb(network[0], 1)
    found = looks.look()
    rows = bank.images[spread_stimuli(bank.labels, 20)].double()
    grams = torch.stack([layer_geometry(rows @ weight.T).gram for weight in (start, network[0].weight.detach())])
    assert found["kernel_alignment"] == pytest.approx([1, debiased_cka(grams)[0, 1].item()], abs=1e-4)
    assert found["relative_distance"][1] == 0
    change = network[0].weight.detach() - start
    assert found["relative_distance"][0] == pytest.approx((change.norm() / start.norm()).item(), rel=1e-5)


def make_normed() -> nn.Module:
    torch.manual_seed(0)
    return le.VGG(plan=[1, 1], width=4, head=[8], image_size=8, batch_norm=True)


def test_running_averages_of_batch_norm_are_no_change_of_the_network():
    network, bank = make_normed(), make_bank(30, 3, 8, 8)
    looks = Looks(network, bank)
    first = looks.look()
    with torch.no_grad():
        for _ in range(20):
            network(3 + bank.images)  # in training mode
    kept = {name: buffer.clone() for name, buffer in network.named_buffers()}
    later = looks.look()
    for name in ("kernel_alignment", "kernel_alignment_total", "start_cka"):
        np.testing.assert_array_equal(first[name], later[name])
        np.testing.assert_allclose(later[name], 1, atol=1e-6)
    assert all(torch.equal(buffer, kept[name]) for name, buffer in network.named_buffers())


def test_the_more_weights_change_the_less_is_left_of_the_kernel():
    found = []
    for size in (0.03, 0.3, 3):
        network = make_normed()
        looks = Looks(network, make_bank(30, 3, 8, 8))
        looks.look()
        disturb(network, size)
        found.append(looks.look())
    totals = [one["kernel_alignment_total"].item() for one in found]
    assert totals[0] > 0.95
    assert totals[0] > totals[1] > totals[2]
    assert [one["turned_share_total"].item() for one in found][::2] == [0, pytest.approx(1, abs=0.1)]
    assert all(0 < one["update_rank"].min() <= one["update_rank"].max() <= 1 for one in found)


def test_a_kernel_that_has_come_to_know_tokens_is_told_from_one_that_has_turned():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(80, 10, bias=False), nn.Linear(10, 2, bias=False))
    bank = make_bank(40, 80)
    bank.images[:, 0] += 2 * (2 * bank.labels - 1)
    looks = Looks(network, bank, stimuli=20)
    first = looks.look()["kernel_token_alignment"]
    with torch.no_grad():  # of the second weight, the kernel is that of what the first gives
        network[0].weight.copy_(torch.randn(10, 80))
    turned = looks.look()["kernel_token_alignment"]
    with torch.no_grad():
        network[0].weight[:, 1:] = 0
    learned = looks.look()["kernel_token_alignment"]
    assert learned[1] > max(first[1], turned[1]) + 0.25
    assert learned[0] == pytest.approx(first[0], abs=0.1)  # of the first, it is that of the images


class Pairs(nn.Module):
    """Gives many numbers a stimulus, and has a layer that gives a row for all."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.odd, self.last = nn.Embedding(9, 6), Odd(), nn.Linear(6, 4)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.last(self.embed(ids) * self.odd().sum())


class Odd(nn.Linear):
    def __init__(self) -> None:
        super().__init__(2, 2)

    def forward(self) -> torch.Tensor:
        return self.weight[0]


def test_other_networks_are_measured_as_far_as_they_can_be():
    ids = torch.randint(0, 9, (20, 5), generator=torch.Generator().manual_seed(0))
    bank = le.StimulusBank(ids, torch.arange(20) % 2, tuple(map(str, range(20))), ("a", "b"))
    looks = Looks(Pairs(), bank)
    with pytest.warns(UserWarning, match="no start_cka of odd"):
        first = looks.look()
    assert first["kernel_alignment"] == pytest.approx([1, 1, 1])
    assert np.isnan(first["start_cka"]).tolist() == [False, True, False]
    disturb(looks.network, 0.5)
    assert np.isnan(looks.look()["start_cka"]).tolist() == [False, True, False]


def test_a_network_that_diverged_is_nan_and_does_not_fail():
    network = make_normed()
    looks = Looks(network, make_bank(10, 3, 8, 8))
    looks.look()
    with torch.no_grad():
        network.fc1[0].weight.fill_(torch.nan)
    found = looks.look()
    assert np.isnan(found["kernel_alignment_total"])
    assert np.isnan(found["relative_distance_total"])


@pytest.fixture
def conduct():
    """Looks in a run, with what an earlier part of it left in a checkpoint."""

    def make(network: nn.Module, step: int, past: Any = None, **settings: Any) -> tuple[Conductor, le.RegimeProbe]:
        probe = le.RegimeProbe(schedule=le.EverySteps(1), **settings)
        bank = make_bank(20, 3, 8, 8)
        return Conductor(network, [probe], bank, Sinks(), step=step, past=past), probe

    return make


def test_what_the_first_look_kept_survives_a_checkpoint(conduct, tmp_path):
    network = make_normed()
    conductor, _ = conduct(network, 0)
    conductor.look(0)
    torch.save(conductor.remember(), tmp_path / "past.pt")
    conductor.close()
    past = torch.load(tmp_path / "past.pt", weights_only=True)
    (kept,) = past["RegimeProbe"]
    assert kept["step"] == 0
    assert {*kept["kept"]} == {"kernels", "grams"}
    disturb(network, 0.5)
    conductor, probe = conduct(network, 5, past)
    conductor.look(6)
    again = conductor.remember()["RegimeProbe"]
    assert again[0]["step"] == 0
    assert all(torch.equal(again[0]["kept"][name], own) for name, own in kept["kept"].items())
    assert probe.failed_at is None
    conductor.close()


def test_other_settings_than_those_that_the_run_began_with_are_refused(conduct):
    network = make_normed()
    conductor, _ = conduct(network, 0)
    conductor.look(0)
    past = conductor.remember()
    conductor.close()
    conductor, _ = conduct(network, 5, past, stimuli=12, on_error="raise")
    with pytest.raises(ValueError, match=r"one shape all through a run.*settings that the run began with"):
        conductor.look(6)
    conductor.close()


@pytest.mark.parametrize("arguments", [{"stimuli": 3}, {"outputs": 0}], ids=str)
def test_numbers_out_of_range_are_refused(arguments):
    with pytest.raises(ValueError, match="stimuli is at least 4 and outputs at least 1"):
        le.RegimeProbe(**arguments)


def test_it_looks_seldom_unless_told_otherwise():
    assert [step for step in range(1000) if le.RegimeProbe().schedule(step)] == [0, 1, 3, 10, 32, 100, 316]
