"""The stimulus bank, and what probes may ask of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Concatenate, ParamSpec, TypeVar

import pandas as pd  # pyright: ignore[reportMissingTypeStubs]
import torch

from lightning_emerge.records.structures import Structure, change_all, describe, is_real, leaves, take
from lightning_emerge.records.task import Task, answers, check_targets

Given = ParamSpec("Given")
Made = TypeVar("Made")


@dataclass(frozen=True)
class StimulusBank:
    """A fixed, balanced, held-out set of exemplars that probes look at, the same all through a run.

    Attributes:
        inputs: what the network gets, as in training, with the stimulus first: a tensor, such as normalised images
            (stimulus, channel, y, x), rows of features or token ids; or a tuple or list of its arguments, or a mapping
            from their names, of tensors or of such structures.
        labels: int64 tensor (stimulus,), the position of each stimulus' token in `tokens`.
        ids: one unique name a stimulus, in an order that is the same on every rank and in every run.
        tokens: the names of the tokens.
        latents: what made each stimulus, one row a stimulus, or None if that is not known.
        task: what of the network's result is its outputs, and which loss of them it learns by.
        texts: what each stimulus is in words, such as the text behind its token ids; or None. They are shown beside it.
    """

    inputs: Structure
    labels: torch.Tensor
    ids: tuple[str, ...]
    tokens: tuple[str, ...]
    latents: pd.DataFrame | None = None
    task: Task = field(default_factory=Task)
    texts: tuple[str, ...] | None = None
    _made: dict[Hashable, Any] = field(default_factory=dict[Hashable, Any], init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tensors = leaves(self.inputs)
        sizes = {name: len(tensor) if tensor.dim() else 0 for name, tensor in tensors.items()}
        if {*sizes.values(), len(self.labels), len(self.ids)} != {len(self.ids)}:
            given = ", ".join(f"{size} {name or 'inputs'}" for name, size in sizes.items())
            raise ValueError(
                "A stimulus bank has a row of inputs, one label and one id a stimulus; got "
                f"{given}, {len(self.labels)} labels and {len(self.ids)} ids."
            )
        if self.latents is not None and len(self.latents) != len(self.ids):
            raise ValueError(
                f"The latents of a stimulus bank have one row a stimulus; got {len(self.latents)} rows for "
                f"{len(self.ids)} stimuli."
            )
        if self.task.given is not None:
            check_targets(self.task.given, len(self.ids))
        if self.texts is not None and len(self.texts) != len(self.ids):
            raise ValueError(
                f"A stimulus bank has one text a stimulus; got {len(self.texts)} for {len(self.ids)} stimuli."
            )
        if len(set(self.ids)) != len(self.ids):
            raise ValueError("The ids of a stimulus bank are unique; got the same id twice.")
        for what, names in (("ids", self.ids), ("tokens", self.tokens), ("texts", self.texts or ())):
            for name in names:
                _check_text(what, str(name))

    def __len__(self) -> int:
        return len(self.ids)

    def once(
        self, make: Callable[Concatenate[StimulusBank, Given], Made], *given: Given.args, **named: Given.kwargs
    ) -> Made:
        """Gives what a function makes of the bank, which is made when it is first asked for and kept with the bank.

        Args:
            make: gets the bank and what follows. Whoever asks shares what it gives, so nobody writes to it.
            *given: what it gets besides, as keys of a dictionary can be.
            **named: likewise.
        """
        key = make, given, tuple(named.items())
        if key not in self._made:
            self._made[key] = make(self, *given, **named)
        return self._made[key]

    @property
    def pictured(self) -> bool:
        """Whether the stimuli are images, and not rows of features, sequences, volumes or several things at once."""
        found = [*leaves(self.inputs).values()]
        return len(found) == 1 and found[0].dim() == 4 and is_real(found[0])

    @property
    def images(self) -> torch.Tensor:
        """The one tensor that the network gets: images (stimulus, channel, y, x), or others with a row a stimulus.

        Raises:
            ValueError: if it gets several.
        """
        found = leaves(self.inputs)
        if len(found) > 1:
            raise ValueError(
                f"A bank's images are the one tensor that a network gets; it gets {len(found)}: "
                f"{describe(self.inputs)}. Ask for `inputs`."
            )
        return next(iter(found.values()))

    def targets(self, rows: torch.Tensor) -> Structure:
        """What the loss of some stimuli compares with."""
        if isinstance(self.task.targets, str):
            return take(self.inputs, rows)
        return self.labels[rows] if self.task.targets is None else take(self.task.targets, rows)

    def read(self, result: Any) -> torch.Tensor:
        """The outputs in what a network returned for some stimuli, those of one logit as (stimulus, token).

        Raises:
            ValueError: if it cannot be said which they are.
        """
        return answers(self.task.read(result), len(self.tokens))

    def like(self, images: torch.Tensor) -> Structure:
        """Other images in the form in which the network gets those of the bank: it may take them by a name."""
        return change_all(self.inputs, lambda _: images)


def _check_text(what: str, name: str) -> None:
    if "\0" in name or (not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name)):
        raise ValueError(
            f"The {what} of a stimulus bank are text that can be written as UTF-8, without NUL; got {name!a}. "
            "Rename it."
        )


def check_pictured(bank: StimulusBank, probe: str) -> None:
    """Says that a probe looks at images.

    Raises:
        ValueError: if the stimuli are none.
    """
    if not bank.pictured:
        raise ValueError(
            f"{probe} looks at images (stimulus, channel, y, x); the bank's stimuli are {describe(bank.inputs)}. "
            "Leave it out."
        )


def check_outputs(outputs: torch.Tensor, bank: StimulusBank) -> None:
    """Compares what a network gives with the tokens of what it got.

    Raises:
        ValueError: if it is not one number for each stimulus and token.
    """
    tokens, labels = len(bank.tokens), int(bank.labels.max()) + 1 if len(bank) else 0
    fits = outputs.dim() == 2 and outputs.shape[1] >= labels
    if not fits:
        raise ValueError(
            f"Answers and their cross-entropy are taken of outputs (stimulus, token); the network gives "
            f"{tuple(outputs.shape)} where labels go up to {labels - 1}. Say which they are with Stimuli(outputs=...), "
            "give the loss that the network learns by with Stimuli(loss=...), or leave out the probes of answers and "
            "of gradients on the bank."
        )
    if tokens == 1 and outputs.shape[1] > 1:
        raise ValueError(
            "Answers and their cross-entropy are of stimuli of two tokens at least; those of this bank are of one, and "
            f"the network gives {tuple(outputs.shape)}. Give Stimuli labels, or the loss that the network learns by."
        )
    if bank.task.loss is not None and outputs.shape[1] != tokens:
        raise ValueError(
            f"Outputs of a network with a loss of its own are answers where there is one for each of the {tokens} "
            f"tokens; the network gives {tuple(outputs.shape)}."
        )
