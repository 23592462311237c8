"""What records are to say, by plain hooks and autograd: for the table of networks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

import lightning_emerge as le


def check_records(network: nn.Module, bank: le.StimulusBank, records: Any) -> int:
    """Compares records of the last look with what hooks find.

    They are dissimilarities (`rdm`), the mean response of each filter to each token (`filter_response`), and the norms
    of filters (`filter_norm`), of each layer that is there.

    Args:
        network: as it was at the last look.
        bank: what it looked at.
        records: of the run.

    Returns:
        How many values were compared.

    Raises:
        AssertionError: if one is another.
    """
    given = outputs_of(network.eval(), bank)  # to read a spectral norm in training changes it
    last = records.sel(step=1)
    return _check_rdm(last, given, bank) + _check_responses(last, given, network, bank) + _check_norms(last, network)


def outputs_of(network: nn.Module, bank: le.StimulusBank) -> dict[str, list[torch.Tensor]]:
    """What each module of a network in evaluation mode gave, its first tensor, by name and call."""
    given: dict[str, list[torch.Tensor]] = {}
    handles = [
        module.register_forward_hook(lambda _, __, out, name=name: given.setdefault(name, []).append(_first(out)))
        for name, module in network.named_modules()
    ]
    inputs = bank.inputs
    with torch.no_grad():
        if isinstance(inputs, Mapping):
            network(**inputs)
        else:
            network(*inputs) if isinstance(inputs, tuple) else network(inputs)
    for handle in handles:
        handle.remove()
    return given


def _first(output: Any) -> torch.Tensor:
    while not isinstance(output, torch.Tensor):
        output = next(iter(output.values() if isinstance(output, Mapping) else output))
    return output.clone()


def _by_layer(values: Any) -> dict[str, np.ndarray]:
    """A record's values by layer; its axis of layers has a number where records are of other layers."""
    axis = next(str(axis) for axis in values.dims if str(axis).split("_")[0] == "layer")
    return dict(zip(values[axis].values.tolist(), values.transpose(axis, ...).values, strict=True))


def _full(names: Mapping[str, Any], layer: str) -> str:
    """A layer's whole name: records leave out what all layers begin with."""
    return min((name for name in names if name == layer or name.endswith(f".{layer}")), key=len)


def _of_layer(given: Mapping[str, list[torch.Tensor]], layer: str, bank: le.StimulusBank) -> torch.Tensor:
    name, _, call = layer.partition("#")
    rows = given[_full(given, name)][int(call or 1) - 1]
    return _at(rows, bank.task.positions) if rows.dim() == 3 else rows


def _at(rows: torch.Tensor, positions: str) -> torch.Tensor:
    """Rows (stimulus, position, channel) at the positions that are taken."""
    return {"first": rows[:, 0], "last": rows[:, -1], "mean": rows.mean(dim=1)}.get(positions, rows)


def _check_rdm(last: Any, given: Mapping[str, list[torch.Tensor]], bank: le.StimulusBank) -> int:
    if "rdm" not in last:
        return 0
    for layer, found in _by_layer(last.rdm).items():
        rows = _of_layer(given, layer, bank).flatten(1).double().numpy()
        with np.errstate(invalid="ignore"):
            _compare(found, 1 - np.corrcoef(rows), f"rdm of {layer}")
    return int(last.rdm.size)


def _check_responses(
    last: Any, given: Mapping[str, list[torch.Tensor]], network: nn.Module, bank: le.StimulusBank
) -> int:
    if "filter_response" not in last:
        return 0
    count, modules = 0, dict(network.named_modules())
    for layer, found in _by_layer(last.filter_response).items():
        rows = _of_layer(given, layer, bank)
        axis = _channels(modules, given, _full(modules, layer.partition("#")[0]), rows)
        means = rows.movedim(axis, 1).flatten(2).mean(dim=2) if rows.dim() > 2 else rows
        by_token = torch.stack([means[bank.labels == k].mean(dim=0) for k in range(len(bank.tokens))], dim=1).numpy()
        _compare(found[: len(by_token)], by_token, f"filter_response of {layer}")
        assert np.isnan(found[len(by_token) :]).all(), f"{layer} has {len(by_token)} filters and no more"
        count += by_token.size
    return count


_LAST = (nn.Linear, nn.LayerNorm, nn.LSTM, nn.Embedding, nn.MultiheadAttention)


def _channels(
    modules: Mapping[str, nn.Module], given: Mapping[str, list[torch.Tensor]], name: str, rows: torch.Tensor
) -> int:
    """On which axis channels are: that of the last module with weights inside of it which gave as many axes."""
    if rows.dim() == 2:
        return 1
    inside = [one for one in given if one == name or one.startswith(f"{name}.")]
    ends = [one for one in inside if hasattr(modules[one], "weight") or isinstance(modules[one], nn.RNNBase)]
    if not ends:  # their weights are used without calling them, as by torchvision's Swin
        ends = [one for one in modules if one.startswith(f"{name}.") and hasattr(modules[one], "weight")]
    alike = [one for one in ends if one in given and given[one][0].shape == rows.shape]
    last = modules[(alike or ends)[-1]]
    if not alike and isinstance(last, nn.Conv2d):  # what it gave was turned, as patches are
        return rows.shape.index(last.out_channels, 1)
    kind = type(last)
    return rows.dim() - 1 if kind in _LAST or kind.__name__ == "Conv1D" else 1


def _check_norms(last: Any, network: nn.Module) -> int:
    if "filter_norm" not in last:
        return 0
    count, modules = 0, dict(network.named_modules())
    for layer, found in _by_layer(last.filter_norm).items():
        weights = [_by_filter(part) for part in modules[_full(modules, layer)].modules() if _weighs(part)]
        if len(weights) != 1:
            continue
        norms = weights[0].detach().flatten(1).norm(dim=1).numpy()
        _compare(found[: len(norms)], norms, f"filter_norm of {layer}")
        count += norms.size
    return count


def _by_filter(part: nn.Module) -> torch.Tensor:
    """A weight with its filters first: the Conv1D of Transformers has them last."""
    weight: Any = part.weight
    return weight.t() if type(part).__name__ == "Conv1D" else weight


def _weighs(part: nn.Module) -> bool:
    weight = getattr(part, "weight", None)
    return isinstance(weight, torch.Tensor) and weight.dim() > 1


def _compare(found: np.ndarray, truth: np.ndarray, what: str) -> None:
    known = np.isfinite(truth)
    assert (np.isfinite(found) == known).all(), f"{what} is not NaN where it is to be"
    if not known.any():
        return
    size = max(1.0, float(np.abs(truth[known]).max()))
    gap = float(np.abs(found - truth)[known].max())
    assert gap < 2e-4 * size, f"{what} is off by {gap:.2g}"
