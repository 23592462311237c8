"""What a probe has to see of the network, as objects: each says what it hooks, collects, joins and costs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, NoReturn

import torch
from torch import nn

from lightning_emerge.capture.layers import find_weights
from lightning_emerge.capture.layouts import Layouts
from lightning_emerge.capture.troubles import Key, Troubles
from lightning_emerge.capture.view import Chunk, View
from lightning_emerge.records import Capture, History, StimulusBank, name_finder


class Need:
    """What of the network a probe has to see. Those of a probe are its `needs`; what they find is in its `Capture`.

    Needs are values: equal ones of two probes are looked for once. One with settings is a
    `@dataclasses.dataclass(frozen=True)`.

    Attributes:
        name: what it is called: its class' name in small letters, if the class says nothing else.
        finds: names of what it adds to a capture; its own name, if the class says nothing else.
        bank: whether there has to be a stimulus bank, which the capture has then too.
        latents: whether the bank has to have a table of what made each stimulus.
        passes: whether the bank has to go through the network.
        whole: whether it is of the whole network, and not of each layer: probes then have all that it finds.
        weighs: whether each layer has to hold a weight.
        differentiates: whether the bank's loss has to be differentiated.
        sized: whether its rows are large enough to be counted before training.
        runs: whether the probe itself runs the network.
        training: whether the probe looks at training batches, and not at the bank.
        compares: whether the probe compares every stimulus with every other.
        uses: needs whose finds it cannot do without; they are looked for with it.
    """

    name: ClassVar[str] = ""
    finds: ClassVar[tuple[str, ...]] = ()
    bank: ClassVar[bool] = False
    latents: ClassVar[bool] = False
    passes: ClassVar[bool] = False
    whole: ClassVar[bool] = False
    weighs: ClassVar[bool] = False
    differentiates: ClassVar[bool] = False
    sized: ClassVar[bool] = False
    runs: ClassVar[bool] = False
    training: ClassVar[bool] = False
    compares: ClassVar[bool] = False
    uses: ClassVar[tuple[Need, ...]] = ()

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        own = vars(cls)
        if "name" not in own:
            cls.name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()
        if "finds" not in own:
            cls.finds = (cls.name,)
        for found in cls.finds:
            name_finder(found, cls)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(
            f"Needs do not change, so that equal ones are looked for once; got {type(self).__name__}.{name}. "
            "Make the class a dataclasses.dataclass(frozen=True) with this field."
        )

    def check(self, module: nn.Module, layers: Sequence[str], named: Sequence[str]) -> None:
        """Sees before training whether layers can give it.

        Args:
            module: the network.
            layers: those of the probe.
            named: those of them that the user named; what others lack is left out later.

        Raises:
            ValueError: if one cannot.
        """
        if self.weighs:
            find_weights(module, layers)

    def trials(self, needs: Sequence[Need], *, named: bool) -> dict[Need, bool]:
        """What is tried on a few stimuli before training, and whether a layer that does not give it is left out.

        Args:
            needs: all of the probe.
            named: whether the user named the layers.
        """
        return {self: True} if self.passes and not self.whole else {}

    def try_out(self, module: nn.Module, layers: Sequence[str]) -> AbstractContextManager[Mapping[str, str]]:
        """Watches a few stimuli pass, and says which layers do not give it, each with why."""
        return nullcontext({})

    def misfits(self, layouts: Layouts, layers: Sequence[str]) -> Mapping[str, str]:
        """Says of which layers it is not given because of how what they give lies, each with why.

        Args:
            layouts: name of a call of a layer -> how what it gave a few stimuli lies.
            layers: that are asked for it.
        """
        return {}

    def untried(self, layer: str, error: Exception) -> str | None:
        """Why a layer does not give it, if it could not be tried as the network failed; None if it may."""
        return None

    def together(self, needs: Sequence[Need]) -> bool:
        """Whether weights of all layers are taken together, so that one that layers share has to count once."""
        return False

    def collect(self, view: View, layers: Sequence[str], troubles: Troubles) -> Collector:
        """Begins a pass: what it returns asks the view for what it will have to see."""
        return Collector(self, view, layers, troubles)

    def whose(self, layer: str) -> str:
        """Whose rows it collects, in the words of an error."""
        return f"layer {layer!r}" if layer else "the network"

    def join(self, found: Mapping[str, Any], total: int, device: torch.device) -> dict[str, Any]:
        """Puts together what all processes found in a pass. Every process calls it.

        Args:
            found: layer -> what this process found, of the layers of which all found it.
            total: stimuli of the bank.
            device: where the network lies.

        Returns:
            By its name in `finds`, a mapping by layer or one thing. Only process zero makes use of it.
        """
        return {}

    def look(self, look: Look, layers: Sequence[str]) -> dict[str, Any]:
        """Finds what takes no pass, at one look; by its name in `finds`."""
        return {}

    def lend(self, loan: Loan) -> AbstractContextManager[Mapping[str, Any]]:
        """What a probe has while it measures, and gives back then; by its name in `finds`."""
        return nullcontext({})

    def remember(self, history: History, capture: Capture) -> None:
        """Keeps what a later look of the probe will need of this one."""

    def remembered(self, needs: Sequence[Need]) -> int:
        """How many copies of each layer's weight that takes."""
        return 0

    def finite(self, found: Mapping[str, Any]) -> Iterable[torch.Tensor]:
        """Of what it found, what is finite while a network learns."""
        return ()

    def memory(self, size: Size) -> Memory | None:
        """What a look needs for it on process zero."""
        return None


class Look(NamedTuple):
    """One look: a network at a step.

    Attributes:
        module: the network.
        read: gives a copy of a layer's weight as it is used, its filters first: at a training batch, before the update.
        batch: the training batch that is looked at, as `lightning_emerge.capture.needs.training` keeps it; or None.
        layouts: name of a call of a layer -> how what it gives lies.
    """

    module: nn.Module
    read: Callable[[str], torch.Tensor]
    batch: Any = None
    layouts: Layouts = MappingProxyType({})


class Loan(NamedTuple):
    """One probe at one look.

    Attributes:
        module: the network.
        layers: of the probe.
        patterns: by which the user named layers, of which the probe's are those that suit it; None if none were.
        step: of the look.
        history: what its earlier looks left.
        refused: gives the layers that a trial has shown not to give a need, each with why.
        foreign: whether the probe is somebody's own, and not tested to change nothing.
        layouts: name of a call of a layer -> how what it gives lies.
        bank: the stimuli, if the probe looks at them.
    """

    module: nn.Module
    layers: tuple[str, ...]
    patterns: Sequence[str] | None
    step: int
    history: History
    refused: Callable[[Need], Mapping[str, str]]
    foreign: bool
    layouts: Layouts = MappingProxyType({})
    bank: StimulusBank | None = None


class Memory(NamedTuple):
    """Bytes that a look needs.

    Attributes:
        what: takes it, in words.
        held: all through the look.
        passing: for one layer after the other, besides.
    """

    what: str
    held: float
    passing: float = 0.0


@dataclass(frozen=True)
class Size:
    """How much there is to look at.

    Attributes:
        stimuli: in the bank.
        tokens: of the bank.
        processes: that share it.
        layers: that all probes with the need have.
        found: layer -> what the need finds for one stimulus, if it is `sized`.
        weight: gives how many numbers the weight of a layer has.
    """

    stimuli: int
    tokens: int
    processes: int
    layers: tuple[str, ...]
    found: Mapping[str, Any]
    weight: Callable[[str], int]


class Collector:
    """What a need collects in one pass.

    Args:
        need: that asks for it.
        view: of the pass.
        layers: it is to collect of.
        troubles: where errors go.

    Attributes:
        unmoved: layer -> a sum in which nothing of this process had a part, once the pass is over.
    """

    def __init__(self, need: Need, view: View, layers: Sequence[str], troubles: Troubles) -> None:
        self.need, self.view, self.layers, self.troubles = need, view, tuple(layers), troubles
        self.unmoved: dict[str, Any] = {}

    def key(self, layer: str) -> Key:
        """What errors of a layer are kept by."""
        return self.need, layer

    def begin(self) -> None:
        """Begins, once the network is ready."""

    def rows(self, chunk: Chunk) -> dict[str, torch.Tensor]:
        """Rows of a chunk's stimuli, by layer, for which the pass makes room."""
        return {}

    def add(self, chunk: Chunk) -> None:
        """Adds what is no row, once the chunk's loss is differentiated."""

    def finish(self, rows: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """What was found of each layer, once the network is as it was.

        Args:
            rows: of all stimuli of this process, by layer, without those in trouble.
        """
        return {}


def complete(needs: Iterable[Need]) -> tuple[Need, ...]:
    """Needs, each once and before those that it uses."""
    found = dict[Need, None]()
    for need in needs:
        found |= dict.fromkeys((need, *complete(need.uses)))
    return tuple(found)


def _check_settings(owner: str, need: Need) -> None:
    try:
        hash(need)
    except TypeError as error:
        raise ValueError(
            f"Needs do not change, so that equal ones are looked for once; {owner}'s {need!r} can, or what it holds "
            f"({error}). Make its class a dataclasses.dataclass(frozen=True), with tuples in the place of lists."
        ) from None


def check_needs(owner: str, needs: Any) -> None:
    """Compares what a probe says that it needs with what can be asked for.

    Args:
        owner: name of the probe.
        needs: what it says.

    Raises:
        ValueError: if they are no tuple of needs, name training batches and the bank, or find two things of one name.
    """
    if not isinstance(needs, tuple) or not all(isinstance(need, Need) for need in needs):
        raise ValueError(
            f"{owner}.needs is a tuple of needs, as in needs = (lightning_emerge.Activations(),); got {needs!r}."
        )
    for need in needs:
        _check_settings(owner, need)
    every = complete(needs)
    if any(need.training for need in every) and any(need.bank or need.passes or need.runs for need in every):
        raise ValueError(
            f"A probe looks at training batches or at the stimulus bank; {owner}'s needs name both. Write two probes."
        )
    finders = dict[str, Need]()
    for need in every:
        for name in need.finds:
            other = finders.setdefault(name, need)
            if other != need or name in ("step", "layers", "bank"):
                raise ValueError(
                    f"What a need finds has a name of its own in the capture; {name!r} of {owner}'s {need!r} is also "
                    f"that of {'every capture' if other == need else repr(other)}. Name another in `finds`."
                )
