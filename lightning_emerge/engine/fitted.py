"""What is kept of a fit beside its records: how long it took, what looking cost, and what it ran on."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from lightning_emerge.engine.costs import Costs
from lightning_emerge.store.folder import Folder
from lightning_emerge.store.layout import FIT

_PACKAGES = ("lightning_emerge", "torch", "torchvision", "lightning", "numpy", "zarr", "xarray", "umap-learn")


def keep_fit(
    folder: str, module: nn.Module, costs: Costs, steps: tuple[int, int], processes: int, metrics: Mapping[str, float]
) -> None:
    """Writes `fit.json` into a run's folder, in place of that of an earlier part of the run.

    Args:
        folder: of the run, or an fsspec URL.
        module: the network.
        costs: of looking.
        steps: optimizer steps taken when this part of the run began, and when it ended.
        processes: that shared the work.
        metrics: the last value of what was logged; those that are no numbers are left out.

    Raises:
        OSError: if the folder cannot be written.
    """
    parameters = [parameter for parameter in module.parameters() if not is_lazy(parameter)]
    content = {
        "began": steps[0],
        "step": steps[1],
        **costs.plain(),
        "weights": sum(parameter.numel() for parameter in parameters),
        "processes": processes,
        "device": _device(parameters[0].device) if parameters else "cpu",
        "metrics": {name: value for name, value in metrics.items() if math.isfinite(value)},
        "versions": _versions(),
    }
    Folder(folder).put(FIT, json.dumps(content, indent=2).encode())


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a checkout that is not installed
            continue
    return found
