"""Is one process of a fit, as torchrun's variables in the environment say.

python ranks.py FOLDER CASE     reads FOLDER/cases.json, leaves FOLDER/CASE_<rank>.pt and FOLDER/CASE/records.zarr
"""

from __future__ import annotations

import json
import os
import random
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy

import lightning_emerge as le

CHEAP = {
    le.CurvatureProbe: {"iterations": 5, "vectors": 2},
    le.MaximisationProbe: {"filters": 2, "iterations": 2},
    le.PartProbe: {"attributed": 1},
}


BANK = le.Record("bank_gradient_norm", ("layer",))
TOKENS = le.Record("token_gradient_size", ("layer", "token"))
SQUARES = le.Record("gradient_square", ("layer",))
POOLED = le.Record("pooled_mean", ("layer",))


class Whole(le.Probe):
    """Looks at all that the shipped probes leave out."""

    needs = (le.Pooled(), le.BankGradients(), le.TokenGradients(), le.GradientSquares(), le.Latents(), le.Past())
    records = (BANK, TOKENS, SQUARES, POOLED)

    def measure(self, capture):
        layers = le.Axis("layer", capture.layers)
        norms = torch.stack([capture.bank_gradients[layer].norm() for layer in capture.layers])
        tokens = torch.stack([capture.token_gradients[layer].flatten(1).norm(dim=1) for layer in capture.layers])
        squares = torch.stack([capture.gradient_squares[layer].sum() for layer in capture.layers])
        pooled = torch.stack([capture.pooled[layer].mean() for layer in capture.layers])
        yield BANK.of(norms, layers)
        yield TOKENS.of(tokens, layers, le.Axis("token", capture.bank.tokens))
        yield SQUARES.of(squares, layers)
        yield POOLED.of(pooled, layers)


class DrawsOneNumber(le.Probe):
    """Breaks the promise to leave random streams alone, behind the engine's back."""

    needs = (le.Weights(),)

    def on_train_batch_end(self, *arguments):
        super().on_train_batch_end(*arguments)
        torch.rand(1)

    def measure(self, capture):
        return []


class Failing(le.Probe):
    """Raises on process zero, which is the only one that measures."""

    needs = (le.Weights(),)

    def measure(self, capture):
        raise RuntimeError("planted in measure")


class Fussy(le.TokenClassifier):
    """A network that cannot be looked at in process one, from its third look on."""

    def forward(self, images):
        if not self.training:
            self.looks = {*getattr(self, "looks", ()), self.global_step}
            if self.global_rank == 1 and len(self.looks) > 2:
                raise RuntimeError("planted in forward")
        return super().forward(images)


class Sinking(le.TokenClassifier):
    """Its loss is as planned in the mean over two processes, and goes up and down in each of them."""

    planned: list[float]

    def training_step(self, batch, batch_idx):
        own = 25 * (1 - 2 * self.global_rank) * (-1) ** self.global_step
        return 0 * super().training_step(batch, batch_idx) + self.planned[self.global_step] + own


class Witness(Callback):
    """Notes the order of the data, and everything that a probe could have changed, when training ends."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.found: dict[str, Any] = {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.order += batch["id"]

    def on_train_end(self, trainer, pl_module):
        moments = trainer.optimizers[0].state_dict()["state"]
        modules = list(pl_module.modules())
        self.found = {
            **{f"model {name}": value.clone() for name, value in pl_module.state_dict().items()},
            **{f"optimizer {k} {name}": v.clone() for k, row in moments.items() for name, v in row.items()},
            "torch": torch.get_rng_state(),
            "python": str(random.getstate()),
            "numpy": str(np.random.get_state()[1].tolist()),  # noqa: NPY002
            "order": self.order,
            "modes": [module.training for module in modules],
            "hooks": sum(len(module._forward_hooks) + len(module._backward_hooks) for module in modules),
        }


def make_probes(names: list[str], looks: le.Schedule) -> list[le.Probe]:
    of_layers = (le.FilterProbe, le.TopExemplarProbe, le.SimilarityProbe, le.EmbeddingProbe, le.CouplingProbe)
    of_loss = (le.GradientProbe, le.TokenGradientProbe, le.GradientNoiseProbe, le.CurvatureProbe)
    of_parts = (le.PartProbe, le.AblationProbe, le.RegimeProbe)
    shipped = (le.CategoryProbe, *of_layers, *of_parts, *of_loss, le.MaximisationProbe, Whole)
    kinds = {kind.__name__: kind for kind in (*shipped, DrawsOneNumber, Failing)}
    if names == ["all"]:
        return [kind(schedule=looks, on_error="raise", **CHEAP.get(kind, {})) for kind in shipped]
    return [kinds[name](schedule=looks) for name in names]


def fit(folder: Path, case: dict[str, Any], **trainer: Any) -> dict[str, Any]:
    """Fits as a case says and tells what came of it."""
    seed_everything(0, verbose=False)
    random_parts = {"batch_norm": True, "dropout": 0.5} if case.get("random") else {}
    network = le.VGG(plan=[1, 1], width=4, head=[8], image_size=16, **random_parts)
    kind = Fussy if case.get("fussy") else Sinking if "losses" in case else le.TokenClassifier
    # A large eps, as Adam's first updates otherwise are the signs of gradients, and those of rounding errors too.
    model = kind(network, lambda parameters: torch.optim.Adam(parameters, lr=1e-3, eps=1e-3))
    if isinstance(model, Sinking):
        model.planned = case["losses"]
    data = le.TokenDataModule(val_exemplars=4, test_exemplars=4, bank_exemplars=7, image_size=16, batch_size=12)
    witness = Witness()
    looks = le.LossMoved(0.1, window=1) if "losses" in case else le.EverySteps(case.get("every", 7))
    probes = make_probes(case["probes"], looks)
    settings = {
        "accelerator": "cpu",
        "max_steps": case["steps"],
        "limit_val_batches": 0,
        "num_sanity_val_steps": 0,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "logger": TensorBoardLogger(folder, name="", version=case["name"]),
    }
    fitted = Trainer(callbacks=[*probes, witness], **{**settings, **trainer})
    error = ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fitted.fit(model, datamodule=data)
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"
    said = [str(warning.message) for warning in caught]
    off = {type(probe).__name__: probe.failed_at for probe in probes}
    return {**witness.found, "steps": fitted.global_step, "error": error, "said": said, "off": off}


def main() -> None:
    folder = Path(sys.argv[1])
    case = next(case for case in json.loads((folder / "cases.json").read_text()) if case["name"] == sys.argv[2])
    world, local = (int(os.environ[name]) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    several = {"strategy": DDPStrategy(process_group_backend="gloo"), "num_nodes": world // local} if world > 1 else {}
    found = fit(folder, case, devices=local, **several)
    torch.save(found, folder / f"{case['name']}_{os.environ['RANK']}.pt")
    if dist.is_initialized():  # together, as a process that is left by another in the middle of its end aborts
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
