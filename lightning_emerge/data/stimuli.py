"""Stimuli for probes of any network: tensors, a folder or a data module as the stimulus bank."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, final

import torch
from lightning.pytorch import Callback, LightningDataModule

from lightning_emerge.data.dataset import normalise
from lightning_emerge.data.names import check_token, file_id
from lightning_emerge.data.photographs.decoding import decode, read_each
from lightning_emerge.data.photographs.listing import list_tokens
from lightning_emerge.records import StimulusBank, Task
from lightning_emerge.records.structures import Structure, change_all, leaves, stack


@final
class Stimuli(Callback):
    """Says at which stimuli a trainer's probes look, where its data module does not.

    Args:
        source: one of

            - what the network gets in training, with the stimulus first: a tensor, such as images (stimulus, channel,
              y, x), rows of features or token ids; a tuple or list of its arguments; or a mapping from their names;
            - a folder with one folder of pictures a token;
            - a data module. One with a method `stimulus_bank` gives that; of any other, the first stimuli of each
              label in its validation data are taken. Its batches are `(inputs, labels)`, or mappings with `image` and
              `label`, or with `label` or `labels` beside the network's arguments.
        labels: of tensors: the token of each stimulus, a position in `tokens`; all are of one token if none are given.
        tokens: names of the tokens, in the order of the network's outputs. Those of a folder are the names of its
            folders in alphabetical order if none are given, others are numbered.
        each: stimuli of each token at most, of a folder or a data module; at least 2.
        size: of a folder: side in pixels to which pictures are scaled and cropped, at least 8.
        transform: of a folder: makes what the network gets from a uint8 tensor (channel, y, x), such as a transform of
            torchvision. Without it pixels from 0 to 1 become (pixel - 0.5) / 0.25, as in this package's data modules.
        outputs: which part of what the network returns is its outputs, as in `Task`: a name, a number or a function.
        loss: what the network learns by, as in `Task`: a function of (outputs, targets), or the name of a method of
            the module that gets (inputs, targets). The cross-entropy of outputs and labels if none is given.
        targets: what the loss compares with, a structure like the inputs; the labels if none are given, and what the
            network gets if it is "inputs".
        positions: which positions are taken of layers that give (stimulus, position, channel), as in `Task`.
        channels: name or pattern of layers -> which axis of what they give is their channels, as in `Task`.
        texts: what each stimulus is in words, such as the text behind its token ids, to be shown beside it.

    Raises:
        ValueError: if an argument is out of its range, or is given for a source that has no use for it.
        FileNotFoundError: if the folder does not exist or holds no folders.
    """

    def __init__(
        self,
        source: str | torch.Tensor | LightningDataModule | Sequence[Any] | Mapping[str, Any],
        labels: Sequence[int] | torch.Tensor | None = None,
        tokens: Sequence[str] | None = None,
        each: int = 50,
        size: int = 64,
        transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
        outputs: Callable[[Any], torch.Tensor] | int | str | None = None,
        loss: Callable[[torch.Tensor, Any], torch.Tensor] | str | None = None,
        targets: Any = None,
        positions: Literal["all", "mean", "first", "last"] = "all",
        texts: Sequence[str] | None = None,
        channels: Mapping[str, int] | None = None,
    ) -> None:
        given = not isinstance(source, str | Path | LightningDataModule)
        if each < 2:
            raise ValueError(f"Stimuli: each is at least 2; got {each}.")
        if size < 8:
            raise ValueError(f"Stimuli: size is at least 8; got {size}.")
        if labels is not None and not given:
            raise ValueError("Stimuli: labels are given with a tensor; folders and data modules have their own.")
        if transform is not None and not isinstance(source, str | Path):
            raise ValueError("Stimuli: transform is given with a folder; other stimuli are taken as they are.")
        for token in tokens or ():
            check_token(str(token))
        self._source, self._labels, self._tokens = source, labels, tokens
        self._each, self._size, self._transform = each, size, transform
        said = positions != "all" or any(value is not None for value in (outputs, loss, targets, channels))
        self._task = Task(outputs, loss, targets, positions, channels or {}) if said else None
        self._texts = None if texts is None else tuple(texts)
        self._bank: StimulusBank | None = None
        if given:
            self.bank()

    def bank(self) -> StimulusBank:
        """The stimuli; they are read once."""
        if self._bank is None:
            source: Any = self._source
            if isinstance(source, LightningDataModule):
                bank = self._of_data(source)
            elif isinstance(source, str | Path):
                bank = self._of_folder(Path(source))
            else:
                bank = self._of_tensors(source)
            self._bank = replace(bank, task=self._task or bank.task, texts=self._texts or bank.texts)
        return self._bank

    def _of_tensors(self, inputs: Structure) -> StimulusBank:
        tensors = leaves(inputs)
        count = _check_tensors(tensors, alone=isinstance(inputs, torch.Tensor))
        labels = torch.zeros(count) if self._labels is None else torch.as_tensor(self._labels)
        return self._make(inputs, labels.long(), "stimulus", self._tokens)

    def _of_folder(self, folder: Path) -> StimulusBank:
        files = list_tokens(folder)
        tokens = list(self._tokens or files)
        unknown = sorted(files.keys() ^ set(tokens))
        if unknown:
            raise ValueError(
                f"Stimuli: tokens are the names of the folders in {folder} ({', '.join(files)}); "
                f"{', '.join(unknown)} only in one of the two."
            )
        chosen = {path: label for label, token in enumerate(tokens) for path in files[token][: self._each]}
        pixels = read_each(chosen, lambda path: decode(path.read_bytes(), self._size))
        change = self._transform or normalise
        images = torch.stack([change(torch.from_numpy(pixels[path])) for path in chosen])
        ids = tuple(file_id(path.relative_to(folder)) for path in chosen)
        return StimulusBank(images.float(), torch.tensor(list(chosen.values())), ids, tuple(tokens))

    def _of_data(self, data: LightningDataModule) -> StimulusBank:
        if data.trainer is None:
            data.prepare_data()
            data.setup("fit")
        if hasattr(data, "stimulus_bank"):
            return data.stimulus_bank()  # pyright: ignore[reportAttributeAccessIssue, reportCallIssue]
        inputs, labels = _take(_pairs(data.val_dataloader()), self._each)
        return self._make(inputs, labels, "val", self._tokens or getattr(data, "tokens", None))

    def _make(self, inputs: Structure, labels: torch.Tensor, name: str, tokens: Sequence[str] | None) -> StimulusBank:
        sizes, count = [len(tensor) for tensor in leaves(inputs).values()], int(labels.max()) + 1
        names = tuple(tokens) if tokens else tuple(str(label) for label in range(count))
        if len(labels) != sizes[0] or int(labels.min()) < 0 or count > len(names):
            raise ValueError(
                f"Stimuli: each stimulus has a label from 0 to {len(names) - 1}, its token's position; got "
                f"{len(labels)} labels from {int(labels.min())} to {count - 1} for {sizes[0]} stimuli."
            )
        ids = tuple(f"{name}/{number:06d}" for number in range(len(labels)))
        return StimulusBank(change_all(inputs, lambda tensor: tensor.detach().cpu()), labels.cpu(), ids, names)


def _check_tensors(tensors: Mapping[str, torch.Tensor], *, alone: bool) -> int:
    """How many stimuli there are in tensors."""
    for name, tensor in tensors.items():
        numbers = tensor.is_floating_point() or (tensor.dtype != torch.uint8 and tensor.dim() < 4)
        if tensor.dim() < (2 if alone else 1) or not numbers or not len(tensor):
            raise ValueError(
                "Stimuli: a tensor is floating, (stimulus, channel, y, x), as the network gets its training images; or "
                "(stimulus, ...) of other floating-point numbers, or of whole numbers such as token ids; got "
                f"{tensor.dtype} {tuple(tensor.shape)}{f' of {name}' if name else ''}. Convert it as in training."
            )
    return len(next(iter(tensors.values())))


def _pairs(batches: Iterable[Any]) -> Iterator[tuple[Structure, torch.Tensor]]:
    """Single stimuli with their labels."""
    for batch in batches:
        inputs, labels = _split(batch)
        if not bool((labels == labels.long()).all()):
            raise ValueError(
                "Stimuli: labels of validation batches are whole numbers, positions of tokens; got others, as of a "
                "regression. Give the inputs themselves, and targets=."
            )
        for number, label in enumerate(labels.long()):
            yield change_all(inputs, lambda tensor, number=number: tensor[number]), label


def _split(batch: Any) -> tuple[Structure, torch.Tensor]:
    """The inputs and labels of a batch."""
    if isinstance(batch, Mapping):
        parts: dict[str, Any] = {**batch}
        label = next((parts.pop(name) for name in ("label", "labels") if name in parts), None)
        if label is not None and parts:
            tensors = {name: part for name, part in parts.items() if isinstance(part, torch.Tensor)}
            return parts.get("image", tensors), torch.as_tensor(label)
    elif isinstance(batch, Sequence) and len(batch) >= 2:
        return batch[0], torch.as_tensor(batch[1])
    raise ValueError(
        "Stimuli: a data module's validation batches are (inputs, labels), or mappings with image and label, or with "
        f"labels beside the network's arguments; got {type(batch).__name__}. Give a tensor, or write the data module's "
        "method stimulus_bank."
    )


def _take(pairs: Iterable[tuple[Structure, torch.Tensor]], each: int) -> tuple[Structure, torch.Tensor]:
    """The first stimuli of each label, as many of each as of the rarest, in the order of labels."""
    found: dict[int, list[Structure]] = {}
    for stimulus, label in pairs:
        own = found.setdefault(int(label), [])
        if len(own) < each:
            own.append(stimulus)
    if not found:
        raise ValueError("Stimuli: a data module has validation data; this one has none.")
    fewest = min(map(len, found.values()))
    chosen = [(stimulus, label) for label in sorted(found) for stimulus in found[label][:fewest]]
    return stack([stimulus for stimulus, _ in chosen]), torch.tensor([label for _, label in chosen])
