"""What several figures are made from: the default network, its data, and the probes of configurations."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import seed_everything
from torch import nn

import lightning_emerge as le

CONFIGS = Path(__file__).parents[2] / "configs"
DEFAULT, FULL = CONFIGS / "vgg5.yaml", CONFIGS / "probes" / "full.yaml"


@cache
def make_data() -> le.TokenDataModule:
    """The default exemplars, rendered."""
    data = le.TokenDataModule()
    data.setup("fit")
    return data


def make_model(**changes: int) -> le.TokenClassifier:
    """The default network, always with the same weights."""
    seed_everything(0, verbose=False)
    return le.TokenClassifier(le.VGG(**changes))


def forward(network: nn.Module, images: torch.Tensor) -> None:
    """One pass of images, as plain PyTorch does it, 50 at a time."""
    network.eval()
    with torch.no_grad():
        for some in images.split(50):
            network(some)


def read_probes(*configs: Path, **settings: Any) -> list[le.Probe]:
    """Makes the probes of configurations put on top of each other, to raise if they fail.

    Args:
        configs: files, the first as it is.
        settings: of all of them, in place of what the configurations say.
    """
    entries: list[Mapping[str, Any]] = []
    for config in configs:
        trainer = yaml.safe_load(config.read_text())["trainer"]
        entries = [*(trainer.get("callbacks") or entries), *(trainer.get("callbacks+") or ())]
    given = {"on_error": "raise", **settings}
    return [
        _class_of(entry)(**{**_build(entry.get("init_args", {})), **given}) for entry in entries if _is_probe(entry)
    ]


def without_probes(config: Path, folder: Path) -> Path:
    """Writes a configuration without its probes, with all else as it is."""
    settings = yaml.safe_load(config.read_text())
    kept = [entry for entry in settings["trainer"]["callbacks"] if not _is_probe(entry)]
    settings["trainer"]["callbacks"] = kept
    bare = folder / f"{config.stem}_without_probes.yaml"
    bare.write_text(yaml.safe_dump(settings))
    return bare


def _class_of(entry: Mapping[str, Any]) -> Any:
    module, name = entry["class_path"].rsplit(".", 1)
    return getattr(import_module(module), name)


def _build(value: Any) -> Any:
    """What a value of a configuration stands for, with the classes that it names made."""
    if isinstance(value, dict) and "class_path" in value:
        return _class_of(value)(**_build(value.get("init_args", {})))
    if isinstance(value, list):
        return [_build(item) for item in value]
    return {key: _build(item) for key, item in value.items()} if isinstance(value, dict) else value


def _is_probe(entry: Mapping[str, Any]) -> bool:
    kind = _class_of(entry)
    return isinstance(kind, type) and issubclass(kind, le.Probe)
