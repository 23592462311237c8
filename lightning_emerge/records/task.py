"""The task of a network: what of its result is its outputs, and which loss of them it is trained by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor

from lightning_emerge.records.structures import Structure, leaves, take

Positions: TypeAlias = Literal["all", "mean", "first", "last"]
_POSITIONS = ("all", "mean", "first", "last")


@dataclass(frozen=True, eq=False)
class Task:
    """What of a network's result is its outputs, and which loss is differentiated.

    Attributes:
        outputs: which part of the result is the outputs: a name, a number, or a function of the result. None takes the
            result itself, `logits` of what has them, the first tensor of a tuple or list, or the only one of a mapping
            or dataclass.
        loss: a function of (outputs, targets) that gives one number a stimulus, or their mean over stimuli; or the name
            of a method of the module, which gets (inputs, targets) and gives the same. None is the cross-entropy of
            outputs (stimulus, token) and labels.
        targets: what the loss compares with, a structure of tensors with the stimulus first; the labels if none are
            given. "inputs" are what the network gets, as for an autoencoder.
        positions: which positions are taken of layers that give (stimulus, position, channel).
        channels: name or pattern of layers -> which axis of what they give is their channels, from 0, the stimuli, or
            from -1, the last; of all others it is found from what they are.

    Raises:
        ValueError: if one of them is something else.
    """

    outputs: Callable[[Any], Tensor] | int | str | None = None
    loss: Callable[[Tensor, Structure], Tensor] | str | None = None
    targets: Structure | Literal["inputs"] | None = None
    positions: Positions = "all"
    channels: Mapping[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        for layer, axis in self.channels.items():
            if type(axis) is not int or axis == 0:
                raise ValueError(
                    f"channels are axes other than that of the stimuli, such as 1 or -1; got {axis!r} of {layer!r}."
                )
        if not (self.outputs is None or isinstance(self.outputs, int | str) or callable(self.outputs)):
            raise ValueError(f"outputs is a name, a number or a function of the result; got {self.outputs!r}.")
        if not (self.loss is None or isinstance(self.loss, str) or callable(self.loss)):
            raise ValueError(
                f"loss is a function of (outputs, targets) or the name of a method of the module; got {self.loss!r}."
            )
        if self.positions not in _POSITIONS:
            raise ValueError(f"positions is one of {', '.join(_POSITIONS)}; got {self.positions!r}.")
        if isinstance(self.targets, str) and self.targets != "inputs":
            raise ValueError(f"targets are tensors, or 'inputs'; got {self.targets!r}.")

    @property
    def given(self) -> Structure | None:
        """The targets that were given; None if they are labels or inputs."""
        return None if isinstance(self.targets, str) else self.targets

    def of(self, rows: slice | Tensor) -> Task:
        """The task of some of the stimuli."""
        return self if self.given is None else replace(self, targets=take(self.given, rows))

    def check(self, module: object) -> None:
        """Sees whether a network has the method that gives the loss.

        Raises:
            ValueError: if it has none.
        """
        if isinstance(self.loss, str) and not callable(getattr(module, self.loss, None)):
            raise ValueError(
                f"loss names a method of the module, which gets (inputs, targets); {type(module).__name__} has no "
                f"method {self.loss!r}. Write it, or give a function of (outputs, targets)."
            )

    def read(self, result: Any) -> Tensor:
        """The outputs in what a network returned.

        Raises:
            ValueError: if it cannot be said which they are, or they are no tensor.
        """
        found = _find(result) if self.outputs is None else self._pick(result)
        if not isinstance(found, Tensor):
            what = f"{_words(result)}" if self.outputs is None else f"a {type(found).__name__} there"
            raise ValueError(
                f"A probe looks at outputs that are one tensor; the network gives {what}. "
                "Say which they are with Stimuli(outputs=...): a name, a number or a function."
            )
        return found

    def _pick(self, result: Any) -> Any:
        if callable(self.outputs):
            return self.outputs(result)
        where: Any = self.outputs
        try:
            if isinstance(where, str) and not isinstance(result, Mapping):
                return getattr(result, where)
            return cast("Mapping[Any, Any]", result)[where]
        except (AttributeError, IndexError, KeyError, TypeError):
            raise ValueError(
                f"outputs={where!r} is what the network gives by this name or number; it gives {_words(result)}."
            ) from None


def _find(result: Any) -> Any:
    """The tensor that is most likely a network's outputs; None if it cannot be said."""
    if isinstance(result, Tensor):
        return result
    named = _named(result)
    if named.get("logits") is not None:
        return named["logits"]
    if isinstance(result, tuple | list):
        return next((part for part in cast("Sequence[Any]", result) if isinstance(part, Tensor)), None)
    tensors = [part for part in named.values() if isinstance(part, Tensor)]
    return tensors[0] if len(tensors) == 1 else None


def _named(result: Any) -> dict[str, Any]:
    """The parts of a result that has them by name."""
    if isinstance(result, Mapping):
        return {str(key): part for key, part in cast("Mapping[Any, Any]", result).items()}
    if is_dataclass(result) and not isinstance(result, type):
        return {own.name: getattr(result, own.name) for own in fields(result)}
    names: Any = getattr(result, "_fields", ())
    return {name: getattr(result, name) for name in names}


def _words(result: Any) -> str:
    names = [name for name, part in _named(result).items() if part is not None]
    kind = type(result).__name__
    return f"a {kind} with {', '.join(names)}" if names else f"a {kind}"


def answers(outputs: Tensor, tokens: int) -> Tensor:
    """Outputs as logits (stimulus, token): of two tokens, one number a stimulus is the logit of the second.

    Its softmax with 0 for the first token is the sigmoid.
    """
    if tokens != 2 or outputs.shape[1:] not in ((), (1,)) or not outputs.dim():
        return outputs
    second = outputs.reshape(-1, 1)
    return torch.cat([torch.zeros_like(second), second], dim=1)


def check_targets(targets: Structure, count: int) -> None:
    """Compares targets with the number of stimuli.

    Raises:
        ValueError: if there is not a row of each tensor for each stimulus.
    """
    for name, tensor in leaves(targets).items():
        if not tensor.dim() or len(tensor) != count:
            raise ValueError(
                f"targets have a row for each stimulus; {name or 'they'} {'has' if name else 'are'} "
                f"{tuple(tensor.shape)} for {count} stimuli."
            )
