"""PartProbe on planted detectors, on masks that are known, and in a fit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from passed import run_bank
from torch import nn

import lightning_emerge as le
from lightning_emerge.capture import open_network
from lightning_emerge.measures.parts import features_of

EACH = 10


@pytest.fixture(scope="module")
def bank() -> le.StimulusBank:
    data = le.TokenDataModule(image_size=32, val_exemplars=2, test_exemplars=2, bank_exemplars=EACH)
    data.setup("fit")
    return data.stimulus_bank()


class Planted(nn.Module):
    """A layer whose filter 2 fires where rings are, and nowhere else; others are noise that is fixed by the image."""

    def __init__(self, bank: le.StimulusBank) -> None:
        super().__init__()
        self.layer, self.head = nn.Identity(), nn.Linear(5, 5)
        features = features_of(bank)
        self.known = bank.images
        self.where = torch.zeros(len(bank), 32, 32)
        table = bank.latents
        assert table is not None
        for row in features.held[:, features.names.index("ring")].nonzero()[:, 0].tolist():
            part = next(k for k in range(4) if str(table[f"part{k}_appearance"][row]).startswith("ring"))
            top, bottom, left, right = (
                int(table[f"part{part}_{edge}"][row]) for edge in ("top", "bottom", "left", "right")
            )
            self.where[row, top:bottom, left:right] = 1

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        # Of an image on a path to a known one, the nearest in direction is the one.
        about = self.known.mean(dim=0)
        alike = torch.cosine_similarity(
            (images.detach() - about).flatten(1)[:, None], (self.known - about).flatten(1)[None], dim=2
        )
        masks = self.where[alike.argmax(dim=1)]
        noise = torch.sin(1000 * images[:, :1] + torch.arange(4)[:, None, None])
        ring = (images.abs().mean(dim=1) * masks)[:, None]
        maps = self.layer(torch.cat([noise[:, :2], ring, noise[:, 2:]], dim=1))
        return self.head(maps.mean(dim=(2, 3)))


def look(network: nn.Module, bank: le.StimulusBank, layers: tuple[str, ...], **arguments) -> dict[str, le.Measurement]:
    seen = run_bank(network, bank, layers)
    with open_network(network, ()) as live:
        capture = le.Capture(7, layers, bank, activations=seen.activations, network=live)
        return {found.name: found for found in le.PartProbe(**arguments).measure(capture)}


@pytest.fixture(scope="module")
def measured(bank) -> dict[str, le.Measurement]:
    torch.manual_seed(0)
    return look(Planted(bank), bank, ("layer", "head"))


def test_a_planted_detector_of_rings_is_found_by_name_and_number(measured):
    ring = measured["part_filter_auc"].axes[1].labels.index("ring")
    assert measured["part_filter_auc"].values[0, ring] == 1
    assert measured["part_best_filter"].values[0, ring] == 2
    areas = measured["filter_part_auc"].values
    assert areas.shape == (2, 5, 14)
    assert areas[0, 2, ring] == 1
    assert areas[0, 2, ring + 1] == 0  # triangles stand where rings do not
    assert np.abs(areas[0, [0, 1, 3, 4], ring] - 0.5).max() < 0.3
    assert measured["part_auc"].values[0, ring] > 0.7


def test_its_attribution_lies_inside_the_part_and_not_in_the_others(measured):
    shares = measured["part_attribution"]
    assert [axis.name for axis in shares.axes] == ["layer", "part", "attribution", "region"]
    ring = shares.axes[1].labels.index("ring")
    own, others = shares.values[0, ring, :, 0], shares.values[0, ring, :, 1]
    # The box of a ring is larger than the ring: a share well above that of its area, and hardly any elsewhere.
    assert (own > 4).all()
    assert (others < own / 4).all()
    assert np.isnan(shares.values[1, :, 1]).all()  # a layer without places has no Grad-CAM
    assert np.isfinite(shares.values[1, :, 0]).all()


def test_axes_say_what_each_feature_is(measured):
    feature = measured["part_auc"].axes[1]
    assert feature.notes["kind"].count("pair") == 7
    assert feature.notes["stimuli"][feature.labels.index("ring")] == 2 * EACH
    assert measured["part_attribution"].axes[1].labels == feature.labels[:6]
    assert {found.values.dtype for found in measured.values()} == {np.dtype("float32")}


def test_areas_are_drawn(measured):
    probe = le.PartProbe()
    drawn = [found.name for found in measured.values() if probe.draw(found)]
    assert drawn == ["part_auc", "part_filter_auc", "part_transfer"]
    figure = probe.draw(measured["part_auc"])
    image = figure.axes[0].images[0]
    np.testing.assert_array_equal(np.ma.filled(image.get_array(), np.nan), measured["part_auc"].values.T)
    assert (image.norm.vmin, image.norm.vmax) == (0.5, 1)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(measured["part_auc"].axes[1].labels)


def test_without_attribution_there_is_no_record_of_it_and_without_scenes_nan(bank):
    network = le.VGG(plan=[1], width=2, head=[], image_size=32)
    assert "part_attribution" not in look(network, bank, ("conv1_1",), attributed=0)
    assert bank.latents is not None
    bare = le.StimulusBank(
        bank.images, bank.labels, bank.ids, bank.tokens, bank.latents[[f"part{k}_appearance" for k in range(4)]]
    )
    found = look(network, bare, ("conv1_1",))
    assert np.isnan(found["part_attribution"].values).all()
    assert np.isfinite(found["part_auc"].values).all()


def test_a_layer_of_positions_has_no_grad_cam(bank):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 8, 8), nn.Flatten(2), nn.ReLU())  # patches in a row: (stimulus, 4, 16)
    shares = look(network, bank, ("2",))["part_attribution"].values
    assert np.isfinite(shares[..., 0, :]).any()
    assert np.isnan(shares[..., 1, :]).all()


def test_noise_is_at_chance_for_a_layer_and_for_its_best_filter(bank):
    random = torch.Generator().manual_seed(0)
    layers = {f"l{k}": torch.randn(len(bank), 100, generator=random) for k in range(20)}
    capture = le.Capture(0, tuple(layers), bank, activations=layers)
    found = {one.name: one.values for one in le.PartProbe(attributed=0).measure(capture)}
    for name in ("part_auc", "part_filter_auc", "part_transfer"):
        assert np.nanmean(found[name]) == pytest.approx(0.5, abs=0.05), name


def test_a_bank_without_latents_is_refused_in_one_sentence(make_model, make_trainer, make_data):
    stimuli = le.Stimuli(torch.rand(4, 3, 16, 16), [0, 1, 2, 3], tokens=list("abcde"))
    trainer = make_trainer([stimuli, le.PartProbe(on_error="raise")])
    with pytest.raises(ValueError, match="PartProbe needs the latents of each stimulus"):
        trainer.fit(make_model(), datamodule=make_data())


def test_arguments_out_of_range_are_refused():
    with pytest.raises(ValueError, match="attributed is at least 0; got -1"):
        le.PartProbe(attributed=-1)


def test_in_a_fit_it_records_and_leaves_no_hook(make_data, make_model, make_trainer, tmp_path):
    model = make_model()
    trainer = make_trainer([le.PartProbe(le.At([0]), attributed=2, on_error="raise")], max_steps=1)
    trainer.fit(model, datamodule=make_data())
    assert not any(part._forward_hooks or part._backward_hooks for part in model.modules())
    assert all(parameter.grad is None or parameter.requires_grad for parameter in model.parameters())
    run = le.open_run(tmp_path / "run")
    assert run.part_auc.dims == ("step", "layer", "feature")
    assert run.feature_kind.values.tolist().count("part") == 6
    assert run.part_attribution.sel(part="ring", attribution="integrated_gradients", region="own").shape == (2, 4)
