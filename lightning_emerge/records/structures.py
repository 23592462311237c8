"""Nested structures of tensors with the stimulus first: what a network gets, and what it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn

Structure: TypeAlias = Any
"""A tensor with the stimulus first, or a tuple, list or mapping of such structures."""


def leaves(structure: Structure, name: str = "") -> dict[str, Tensor]:
    """Finds the tensors of a structure, each by where it is: "" for a tensor alone, else `pixels` or `pair.0`.

    Raises:
        ValueError: if there is anything else in it, or nothing.
    """
    if isinstance(structure, Tensor):
        return {name: structure}
    found = dict[str, Tensor]()
    for key, part in _parts(structure) or ():
        found |= leaves(part, f"{name}.{key}" if name else key)
    if not found:
        where = f" at {name!r}" if name else ""
        raise ValueError(
            "Stimuli are tensors with the stimulus first, or tuples, lists and mappings of such; got "
            f"{type(structure).__name__}{where}. Make tensors of it, or leave it out."
        )
    return found


def change_all(structure: Structure, change: Callable[[Tensor], Tensor]) -> Structure:
    """Gives a structure of the same form with each tensor changed; mappings become dictionaries."""
    if isinstance(structure, Tensor):
        return change(structure)
    if isinstance(structure, Mapping):
        named = cast("Mapping[Any, Structure]", structure)
        return {key: change_all(part, change) for key, part in named.items()}
    parts = [change_all(part, change) for part in cast("Sequence[Structure]", structure)]
    if hasattr(structure, "_fields"):  # a named tuple
        return type(structure)(*parts)
    return tuple(parts) if isinstance(structure, tuple) else parts


def take(structure: Structure, rows: slice | Tensor) -> Structure:
    """The rows of some stimuli, of each tensor."""
    return change_all(structure, lambda tensor: tensor[rows])


def stack(rows: Sequence[Structure]) -> Structure:
    """Puts single stimuli of one form together, the stimulus first.

    Raises:
        ValueError: if tensors differ in shape from stimulus to stimulus.
    """
    tensors = [leaves(row) for row in rows]
    stacked = list[Tensor]()
    for name in tensors[0]:
        shapes = {tuple(row[name].shape) for row in tensors}
        if len(shapes) > 1:
            raise ValueError(
                f"Stimuli have one shape; {name or 'theirs'} {'has' if name else 'are'} "
                f"{' and '.join(map(str, sorted(shapes)[:2]))}. Pad or crop them to one."
            )
        stacked.append(torch.stack([row[name] for row in tensors]))
    column = iter(stacked)
    return change_all(rows[0], lambda _: next(column))


def move(structure: Structure, device: torch.device, dtype: torch.dtype) -> Structure:
    """A structure on a device, its floating-point numbers in a type.

    Whole numbers stay what they are, as they count or name something; bytes are pixels, and become floating.
    """
    return change_all(structure, lambda tensor: tensor.to(device, dtype) if is_real(tensor) else tensor.to(device))


def is_real(tensor: Tensor) -> bool:
    """Whether a tensor holds real numbers or bytes of pixels, and not whole numbers that count or name something."""
    return tensor.is_floating_point() or tensor.dtype == torch.uint8


def call(module: nn.Module, inputs: Structure) -> Any:
    """Calls a network: with a tensor, the items of a tuple or list, or those of a mapping by their names."""
    if isinstance(inputs, Tensor):
        return module(inputs)
    if isinstance(inputs, Mapping):
        return module(**inputs)
    return module(*inputs)


def describe(structure: Structure) -> str:
    """A structure's shapes in words, the stimulus first."""
    return ", ".join(f"{name} {tuple(tensor.shape)}".strip() for name, tensor in leaves(structure).items())


def _parts(structure: Structure) -> list[tuple[str, Structure]] | None:
    if isinstance(structure, Mapping):
        return [(str(key), part) for key, part in cast("Mapping[Any, Structure]", structure).items()]
    if isinstance(structure, tuple | list):
        return [(str(number), part) for number, part in enumerate(cast("Sequence[Structure]", structure))]
    return None
