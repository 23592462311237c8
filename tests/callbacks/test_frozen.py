"""FrozenLayers in a fit."""

from __future__ import annotations

import pytest
import torch

import lightning_emerge as le
from lightning_emerge.capture import find_layers


def _trained(make_data, make_model, make_trainer, callbacks):
    model = make_model()
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    make_trainer(callbacks).fit(model, datamodule=make_data())
    after = model.network.state_dict()
    return {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}


def test_what_is_frozen_stays_and_the_rest_learns(make_data, make_model, make_trainer):
    everything = _trained(make_data, make_model, make_trainer, [])
    changed = _trained(make_data, make_model, make_trainer, [le.FrozenLayers(["conv1_*"])])
    assert {"conv1_1", "conv2_1", "fc1"} <= everything
    assert changed == everything - {"conv1_1"}


def test_running_statistics_stay_in_later_epochs_too(make_data, make_model, make_trainer):
    changes = {"max_steps": -1, "max_epochs": 2, "limit_train_batches": 2, "limit_val_batches": 1}
    model = make_model()
    norm = next(part for part in find_layers(model)["conv1_1"].modules() if isinstance(part, torch.nn.BatchNorm2d))
    make_trainer([le.FrozenLayers(["conv1_1"])], **changes).fit(model, datamodule=make_data())
    assert norm.num_batches_tracked == 0


def test_probes_look_at_frozen_layers_as_at_others(make_data, make_model, make_trainer, all_probes, tmp_path):
    probes = all_probes(le.At([0, 4]))
    make_trainer([*probes, le.FrozenLayers(["conv1_*"])]).fit(make_model(), datamodule=make_data())
    records = le.open_run(tmp_path / "run")
    layers = records.update_ratio.layer.values.tolist()
    moved = dict(zip(layers, records.update_ratio.sel(step=4).values, strict=True))
    assert moved["conv1_1"] == 0
    assert moved["conv2_1"] > 0


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], r"^FrozenLayers: layers names the layers to freeze"),
        (["conv9"], r"'conv9' matches none\. Did you mean 'conv"),
        (["*"], r"^FrozenLayers leaves something to learn; \* are all layers\. Name fewer"),
    ],
)
def test_layers_that_cannot_be_frozen_are_refused(layers, message, make_data, make_model, make_trainer):
    with pytest.raises(ValueError, match=message):
        make_trainer([le.FrozenLayers(layers)]).fit(make_model(), datamodule=make_data())
