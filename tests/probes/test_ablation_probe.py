"""AblationProbe on a network that is built so that one channel carries one part."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from passed import run_bank
from scipy.stats import mannwhitneyu
from torch import nn

import lightning_emerge as le
from lightning_emerge.capture import open_network
from lightning_emerge.measures.parts import Features, features_of
from lightning_emerge.store.write import ArraySink

EACH = 8


@pytest.fixture(scope="module")
def bank() -> le.StimulusBank:
    """Its images are what its stimuli have: one channel a part, so that a network can read it; one place."""
    data = le.TokenDataModule(image_size=16, val_exemplars=2, test_exemplars=2, bank_exemplars=EACH)
    data.setup("fit")
    found = data.stimulus_bank()
    noise = 0.1 * torch.randn(len(found), 8, 2, 2, generator=torch.Generator().manual_seed(0))
    parts = features_of(found).of_kind("part").held.float()
    noise[:, :6, 0, 1] += parts
    return le.StimulusBank(noise, found.labels, found.ids, found.tokens, found.latents)


@pytest.fixture(scope="module")
def features(bank) -> Features:
    return features_of(bank).of_kind("part")


class Wired(nn.Module):
    """Channel k of the layer detects part k, and speaks for the tokens that have the part; two more say nothing."""

    def __init__(self, features: Features, tokens: tuple[str, ...]) -> None:
        super().__init__()
        self.layer = nn.Conv2d(8, 8, 1, bias=False)
        self.head = nn.Linear(8, 5, bias=False)
        with torch.no_grad():
            self.layer.weight.copy_(torch.eye(8)[:, :, None, None])
            self.head.weight.zero_()
            for part, owners in enumerate(features.tokens):
                for owner in owners.split("/"):
                    self.head.weight[tokens.index(owner), part] = 4

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(images).amax(dim=(2, 3)))


def look(network: nn.Module, bank: le.StimulusBank, layers: tuple[str, ...]) -> dict[str, le.Measurement]:
    seen = run_bank(network, bank, layers)
    with open_network(network, ()) as live:
        capture = le.Capture(7, layers, bank, activations=seen.activations, outputs=seen.outputs, network=live)
        found = {one.name: one for one in le.AblationProbe().measure(capture)}
    assert not any(part._forward_hooks for part in network.modules())
    return found


@pytest.fixture(scope="module")
def network(bank, features) -> Wired:
    return Wired(features, bank.tokens)


@pytest.fixture(scope="module")
def measured(bank, network) -> dict[str, le.Measurement]:
    return look(network, bank, ("layer",))


def test_silencing_a_parts_channel_hurts_the_tokens_that_have_it_and_no_others(measured, features, bank):
    drops = measured["ablation_drop"]
    assert measured["ablation_filter"].values[0, :, 0].tolist() == [0, 1, 2, 3, 4, 5]
    for part, owners in enumerate(features.tokens):
        has = np.array([token in owners.split("/") for token in bank.tokens])
        own, others = drops.values[0, part, has], drops.values[0, part, ~has]
        assert own.min() > 0.01, features.names[part]
        assert own.mean() > others.max() + 0.05, features.names[part]


def test_the_drop_is_that_of_a_forward_pass_by_hand(measured, bank, network):
    with torch.no_grad():
        rows = network.layer(bank.images)
        rows[:, 4] = rows[:, 4].mean()
        intact, silenced = network(bank.images).softmax(1), network.head(rows.amax(dim=(2, 3))).softmax(1)
    right = torch.arange(len(bank)), bank.labels
    expected = (intact[right] - silenced[right]).view(5, EACH).mean(dim=1)
    np.testing.assert_allclose(measured["ablation_drop"].values[0, 4], expected, atol=1e-6)


def test_lots_of_channels_that_say_nothing_take_nothing(bank, features):
    """The network listens to parts alone; of its five lots, those of the two other channels take nothing."""
    found = look(Wired(features, bank.tokens), bank, ("layer",))["ablation_control"]
    assert found.values.shape == (1, 5, 5)
    quiet = np.abs(found.values[0]).max(axis=1) < 1e-6
    assert quiet.sum() <= 2
    assert np.isfinite(found.values).all()


def test_a_layer_without_detectors_is_nan(bank, network):
    blind = Wired(features_of(bank).of_kind("part"), bank.tokens)
    with torch.no_grad():
        blind.layer.weight.zero_()
    found = look(blind, bank, ("layer",))
    for name in ("ablation_drop", "ablation_control", "ablation_filter", "ablation_rival"):
        assert np.isnan(found[name].values).all(), name


def tell(measured: Iterable[le.Measurement], folder: Path) -> pd.DataFrame:
    sink = ArraySink(folder / "records.zarr", None)
    sink.write(7, list(measured))
    sink.close()
    return le.ablation_table(folder)


def test_rivals_are_the_other_sets_of_tokens_and_their_detectors_are_silenced(measured, features, bank, network):
    rivals = measured["ablation_rival"]
    _, rival, token = rivals.axes
    assert len(rival.labels) == 20 - len({own for own in features.tokens if own.count("/") in (1, 2)})
    assert not set(rival.labels) & set(features.tokens)
    assert list(rival.notes["size"]) == [str(one).count("/") + 1 for one in rival.labels]
    assert token.labels == bank.tokens
    # A forward pass by hand, without the channel that fires most for these tokens.
    number = int(np.isfinite(rivals.values[0]).all(axis=1).argmax())
    own = [bank.tokens.index(one) for one in str(rival.labels[number]).split("/")]
    held = torch.isin(bank.labels, torch.tensor(own)).numpy()
    with torch.no_grad():
        rows = network.layer(bank.images)
        scores = rows.amax(dim=(2, 3)).numpy()
        best = int(np.argmax([mannwhitneyu(one[held], one[~held]).statistic for one in scores.T]))
        rows[:, best] = rows[:, best].mean()
        intact, silenced = network(bank.images).softmax(1), network.head(rows.amax(dim=(2, 3))).softmax(1)
    right = torch.arange(len(bank)), bank.labels
    expected = (intact[right] - silenced[right]).view(5, EACH).mean(dim=1)
    np.testing.assert_allclose(rivals.values[0, number], expected, atol=1e-6)


def test_names_of_tokens_may_hold_what_stands_between_them(measured, bank, network):
    renamed = le.StimulusBank(bank.images, bank.labels, bank.ids, ("a/b", "a", "b", "c[0]", "*"), bank.latents)
    found = look(network, renamed, ("layer",))
    for name, one in measured.items():
        np.testing.assert_array_equal(found[name].values, one.values)


def test_the_table_finds_what_was_planted(measured, tmp_path):
    table = tell(measured.values(), tmp_path)
    assert table.columns.tolist() == [
        *("layer", "part", "drop_with", "drop_without", "difference", "low", "high", "p", "control")
    ]
    assert len(table) == 7
    every, single = table.iloc[-1], table.iloc[:-1]
    assert every.part == "all parts"
    assert 1 / 5001 <= every.p < 0.05
    assert every.difference > every.high
    by_lot = measured["ablation_control"].values[0].mean(axis=0)
    assert single.control[0] == pytest.approx(by_lot[[0, 3]].mean(), abs=1e-6)
    assert every.drop_with > every.control
    assert (single.p > 0.1 - 1e-9).all()
    assert (single.p * 10).tolist() == pytest.approx((single.p * 10).round().tolist())
    assert (single.low < single.high).all()
    drops = measured["ablation_drop"].values[0, 0]
    assert single.drop_with[0] == pytest.approx(drops[[0, 3]].mean(), abs=1e-6)
    assert single.drop_without[0] == pytest.approx(drops[[1, 2, 4]].mean(), abs=1e-6)
    with pytest.raises(ValueError, match="at which an AblationProbe looked: 7; got 3"):
        le.ablation_table(tmp_path, step=3)


class Tuned(nn.Module):
    """Filters that fire for tokens at random and know no parts; a token is told if nearly all of its filters fire."""

    def __init__(self, seed: int, filters: int = 40) -> None:
        super().__init__()
        tuning = torch.randn(filters, 5, generator=torch.Generator().manual_seed(seed)).relu()
        self.layer = nn.Conv2d(5, filters, 1, bias=False)
        self.head = nn.Linear(filters, 5)
        with torch.no_grad():
            self.layer.weight.copy_(tuning[:, :, None, None])
            self.head.weight.copy_(tuning.T)
            self.head.bias.copy_(-0.8 * (tuning**2).sum(dim=0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(images).amax(dim=(2, 3))).relu()


def test_tuning_to_tokens_at_random_is_not_taken_for_parts(bank, tmp_path):
    """Detectors hurt their own tokens in every draw, but those of parts do so no more than those of rivals."""
    noise = 0.05 * torch.randn(len(bank), 5, 1, 1, generator=torch.Generator().manual_seed(0))
    images = noise + nn.functional.one_hot(bank.labels)[:, :, None, None]
    tokens = le.StimulusBank(images, bank.labels, bank.ids, bank.tokens, bank.latents)
    rows = []
    for seed in range(80):
        measured = look(Tuned(seed), tokens, ("layer",))
        rows.append(tell(measured.values(), tmp_path / str(seed)).iloc[-1])
    p, difference = np.array([row.p for row in rows]), np.array([row.difference for row in rows])
    assert (difference > 0).mean() > 0.95
    assert (p <= 0.05).mean() <= 0.1
    assert p.mean() == pytest.approx(0.5, abs=0.1)


def test_without_rivals_in_the_records_there_is_no_p(measured, tmp_path):
    table = tell([one for name, one in measured.items() if name != "ablation_rival"], tmp_path)
    assert table[["low", "high", "p"]].isna().all(axis=None)
    assert table[["drop_with", "drop_without", "difference", "control"]].notna().all(axis=None)


def test_the_table_is_refused_without_an_ablation(tmp_path):
    ArraySink(tmp_path / "records.zarr", None).close()
    with pytest.raises(ValueError, match="none has looked in"):
        le.ablation_table(tmp_path)


def test_drops_are_drawn_with_a_frame_where_a_token_has_the_part(measured, features):
    figure = le.AblationProbe().draw(measured["ablation_drop"])
    assert figure is not None
    axes = figure.axes[0]
    framed = {(round(p.get_x() + 0.44), round(p.get_y() + 0.42)) for p in axes.patches}
    tokens = [str(token) for token in measured["ablation_drop"].axes[2].labels]
    expected = {(tokens.index(own), row) for row, owners in enumerate(features.tokens) for own in owners.split("/")}
    assert framed == expected
    for panel, values in zip(figure.axes, measured["ablation_drop"].values, strict=False):
        np.testing.assert_array_equal(np.ma.filled(panel.images[0].get_array(), np.nan), values)
    assert le.AblationProbe().draw(measured["ablation_control"]) is None


def chosen(probe: le.AblationProbe, network: nn.Module) -> tuple[str, ...]:
    return probe.choose(network, probe.check(network))


def test_it_looks_at_the_last_convolutions_of_the_last_stages():
    assert chosen(le.AblationProbe(), le.VGG()) == ("conv3_3", "conv4_3", "conv5_3")
    assert chosen(le.AblationProbe(), le.VGG(plan=[1, 1], head=[], image_size=16)) == ("conv2_1",)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 3))
    assert chosen(le.AblationProbe(), linear) == ("1",)
    assert chosen(le.AblationProbe(layers=["fc*"]), le.VGG()) == ("fc1", "fc2", "fc3")


def test_in_a_fit_it_records_and_leaves_no_hook(make_data, make_model, make_trainer, tmp_path: Path):
    model = make_model()
    trainer = make_trainer([le.AblationProbe(le.At([0]), on_error="raise")], max_steps=1)
    trainer.fit(model, datamodule=make_data())
    assert not any(part._forward_hooks or part._backward_hooks for part in model.modules())
    assert le.open_run(tmp_path / "run").ablation_drop.dims == ("step", "layer", "part", "token")
