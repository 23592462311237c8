"""Model RDMs: how far apart stimuli would lie if a layer held one thing alone, from what is known of the stimuli."""

# pandas has no types: what comes out of a table is unknown until it is converted.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd  # pyright: ignore[reportMissingTypeStubs]
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lightning_emerge.measures.geometry import layer_geometry
from lightning_emerge.measures.latents import part_columns, part_prefixes, parts_held
from lightning_emerge.records import StimulusBank
from lightning_emerge.records.structures import is_real, leaves

POSE = ("x", "y", "scale", "rotation")
COLOUR = ("red", "green", "blue")


def model_rdms(bank: StimulusBank) -> dict[str, Float[Tensor, "stimulus stimulus"]]:
    """Makes the model RDMs that a bank knows enough for.

    Returns:
        By name: `token` always; `pixels` (one minus Pearson's r of what the network gets) if that is one tensor of
        real numbers; `parts`, `conjunctions`, `pose` (of
        the token: place, size, rotation) and `colour` (of the ground and the mean over parts) if the bank has latents
        of rendered tokens. float64, zero on the diagonal. They are kept with the bank, so nobody writes to them.
    """
    return dict(bank.once(_models))


def _models(bank: StimulusBank) -> dict[str, Tensor]:
    models = {"token": token_model(bank.labels.cpu())}
    table = bank.latents
    if table is not None and part_columns(table) and set(table.columns) >= {*POSE}:
        _, held = parts_held(table)
        models["parts"], models["conjunctions"] = parts_model(held), conjunctions_model(held)
        models["pose"] = distance_model(_numbers(table, POSE))
        models["colour"] = distance_model(_colours(table))
    inputs = [*leaves(bank.inputs).values()]
    if len(inputs) == 1 and is_real(inputs[0]):
        models["pixels"] = layer_geometry(inputs[0].flatten(1)).correlation.cpu().fill_diagonal_(0)
    return {name: model.double() for name, model in models.items()}


def token_model(labels: Int[Tensor, " stimulus"]) -> Float[Tensor, "stimulus stimulus"]:
    """Says 0 for two stimuli of one token and 1 for two of different tokens."""
    return (labels[:, None] != labels[None, :]).double()


def parts_model(held: Bool[Tensor, "stimulus part"]) -> Float[Tensor, "stimulus stimulus"]:
    """Says which share of the parts that either of two stimuli has is not in both (Jaccard's distance), 0 to 1.

    Args:
        held: which part, at its place and in its pose, stands in which stimulus.
    """
    shared, either = _shared(held)
    return 1 - shared / either


def conjunctions_model(held: Bool[Tensor, "stimulus part"]) -> Float[Tensor, "stimulus stimulus"]:
    """Says the same of conjunctions: of all sets of two parts or more that either of two stimuli has, 0 to 1.

    n parts have 2^n - 1 - n conjunctions, so that sharing three of four parts is much nearer than sharing two.

    Args:
        held: which part, at its place and in its pose, stands in which stimulus.
    """
    shared = held.double() @ held.double().T
    both = torch.exp2(shared) - 1 - shared
    own = both.diagonal()
    either = own[:, None] + own[None, :] - both
    # Stimuli of one part each have no conjunction to differ in.
    return torch.where(either > 0, 1 - both / either, 0)


def distance_model(columns: Float[Tensor, "stimulus column"]) -> Float[Tensor, "stimulus stimulus"]:
    """Gives the Euclidean distance of stimuli in some factors, each brought to a standard deviation of 1 over stimuli.

    Factors that do not vary are left out.
    """
    about = columns - columns.mean(dim=0)
    spread = about.square().mean(dim=0).sqrt()
    scaled = about[:, spread > 1e-9] / spread[spread > 1e-9]
    return torch.cdist(scaled, scaled, compute_mode="donot_use_mm_for_euclid_dist")


def _shared(held: Tensor) -> tuple[Tensor, Tensor]:
    inside = held.double()
    shared, own = inside @ inside.T, inside.sum(dim=1)
    return shared, own[:, None] + own[None, :] - shared


def _colours(latents: pd.DataFrame) -> Tensor:
    """The ground's three colours and the mean three of the parts."""
    means = [
        _numbers(latents, [f"{part}_{colour}" for part in part_prefixes(latents)]).nanmean(dim=1) for colour in COLOUR
    ]
    return torch.cat([_numbers(latents, [f"ground_{colour}" for colour in COLOUR]), torch.stack(means, dim=1)], dim=1)


def _numbers(latents: pd.DataFrame, columns: Sequence[str]) -> Tensor:
    return torch.tensor([[float(value) for value in latents[name]] for name in columns], dtype=torch.float64).T
