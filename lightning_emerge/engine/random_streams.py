"""The random streams of all processes, as a checkpoint keeps them."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer


def random_states(trainer: Trainer) -> list[str]:
    """Gathers the random streams of all processes, each as JSON. Every process calls it."""
    own = torch.tensor(
        list(json.dumps(_random_state()).encode()), dtype=torch.uint8, device=trainer.strategy.root_device
    )
    if trainer.world_size == 1:
        return [_text(own)]
    sizes = trainer.strategy.all_gather(torch.tensor([len(own)], device=own.device)).flatten().tolist()
    padded = own.new_zeros(max(sizes))
    padded[: len(own)] = own
    gathered = trainer.strategy.all_gather(padded).reshape(trainer.world_size, -1)
    return [_text(row[:size]) for row, size in zip(gathered, sizes, strict=True)]


def restore_random_state(state: str) -> None:
    """Puts the random streams of this process back, as `random_states` found them."""
    streams = json.loads(state)
    torch.set_rng_state(torch.tensor(streams["torch"], dtype=torch.uint8))
    if "cuda" in streams and torch.cuda.is_available():
        torch.cuda.set_rng_state(torch.tensor(streams["cuda"], dtype=torch.uint8))
    kind, keys, *rest = streams["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))  # noqa: NPY002 - the stream that others use
    version, values, gauss = streams["python"]
    random.setstate((version, tuple(values), gauss))


def _random_state() -> dict[str, Any]:
    kind, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
    streams: dict[str, Any] = {
        "torch": torch.get_rng_state().tolist(),
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "python": random.getstate(),
    }
    if torch.cuda.is_available():
        streams["cuda"] = torch.cuda.get_rng_state().tolist()
    return streams


def _text(values: torch.Tensor) -> str:
    return bytes(values.tolist()).decode()
