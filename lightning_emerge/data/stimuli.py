"""Stimuli for probes of any network: a tensor, a folder or a data module as the stimulus bank."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import torch
from lightning.pytorch import Callback, LightningDataModule

from lightning_emerge.data.dataset import normalise
from lightning_emerge.data.names import check_token, file_id
from lightning_emerge.data.photographs.decoding import decode, read_each
from lightning_emerge.data.photographs.listing import list_tokens
from lightning_emerge.records import StimulusBank


@final
class Stimuli(Callback):
    """Says at which stimuli a trainer's probes look, where its data module does not.

    Args:
        source: one of

            - a float tensor (stimulus, channel, y, x), as the network gets its training images;
            - a folder with one folder of pictures a token;
            - a data module. One with a method `stimulus_bank` gives that; of any other, the first pictures of each
              label in its validation data are taken. Its batches are `(images, labels)`, or mappings with `image` and
              `label`.
        labels: of a tensor: the token of each stimulus, a position in `tokens`; all are of one token if none are given.
        tokens: names of the tokens, in the order of the network's outputs. Those of a folder are the names of its
            folders in alphabetical order if none are given, others are numbered.
        each: stimuli of each token at most, of a folder or a data module; at least 2.
        size: of a folder: side in pixels to which pictures are scaled and cropped, at least 8.
        transform: of a folder: makes what the network gets from a uint8 tensor (channel, y, x), such as a transform of
            torchvision. Without it pixels from 0 to 1 become (pixel - 0.5) / 0.25, as in this package's data modules.

    Raises:
        ValueError: if an argument is out of its range, or is given for a source that has no use for it.
        FileNotFoundError: if the folder does not exist or holds no folders.
    """

    def __init__(
        self,
        source: str | torch.Tensor | LightningDataModule,
        labels: Sequence[int] | torch.Tensor | None = None,
        tokens: Sequence[str] | None = None,
        each: int = 50,
        size: int = 64,
        transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        if each < 2:
            raise ValueError(f"Stimuli: each is at least 2; got {each}.")
        if size < 8:
            raise ValueError(f"Stimuli: size is at least 8; got {size}.")
        if labels is not None and not isinstance(source, torch.Tensor):
            raise ValueError("Stimuli: labels are given with a tensor; folders and data modules have their own.")
        if transform is not None and not isinstance(source, str | Path):
            raise ValueError("Stimuli: transform is given with a folder; other stimuli are taken as they are.")
        for token in tokens or ():
            check_token(str(token))
        self._source, self._labels, self._tokens = source, labels, tokens
        self._each, self._size, self._transform = each, size, transform
        self._bank: StimulusBank | None = None
        if isinstance(source, torch.Tensor):
            self.bank()

    def bank(self) -> StimulusBank:
        """The stimuli; they are read once."""
        if self._bank is None:
            source = self._source
            if isinstance(source, torch.Tensor):
                self._bank = self._of_tensor(source)
            elif isinstance(source, LightningDataModule):
                self._bank = self._of_data(source)
            else:
                self._bank = self._of_folder(Path(source))
        return self._bank

    def _of_tensor(self, images: torch.Tensor) -> StimulusBank:
        if images.dim() < 2 or not images.is_floating_point() or not len(images):
            raise ValueError(
                "Stimuli: a tensor is floating, (stimulus, channel, y, x), as the network gets its training images; "
                f"got {images.dtype} {tuple(images.shape)}. Convert it as you do in training."
            )
        labels = torch.zeros(len(images)) if self._labels is None else torch.as_tensor(self._labels)
        return self._make(images, labels.long(), "stimulus", self._tokens)

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
        images, labels = _take(_pairs(data.val_dataloader()), self._each)
        return self._make(images, labels, "val", self._tokens or getattr(data, "tokens", None))

    def _make(
        self, images: torch.Tensor, labels: torch.Tensor, name: str, tokens: Sequence[str] | None
    ) -> StimulusBank:
        count = int(labels.max()) + 1
        names = tuple(tokens) if tokens else tuple(str(label) for label in range(count))
        if len(labels) != len(images) or int(labels.min()) < 0 or count > len(names):
            raise ValueError(
                f"Stimuli: each stimulus has a label from 0 to {len(names) - 1}, its token's position; got "
                f"{len(labels)} labels from {int(labels.min())} to {count - 1} for {len(images)} stimuli."
            )
        ids = tuple(f"{name}/{number:06d}" for number in range(len(images)))
        return StimulusBank(images.detach().cpu(), labels.cpu(), ids, names)


def _pairs(batches: Iterable[Any]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Single stimuli with their labels."""
    for batch in batches:
        if isinstance(batch, Mapping) and {"image", "label"} <= batch.keys():
            images, labels = batch["image"], batch["label"]
        elif isinstance(batch, Sequence) and len(batch) >= 2:
            images, labels = batch[:2]
        else:
            raise ValueError(
                "Stimuli: a data module's validation batches are (images, labels), or mappings with image and label; "
                f"got {type(batch).__name__}. Give a tensor, or write the data module's method stimulus_bank."
            )
        yield from zip(images, labels, strict=True)


def _take(pairs: Iterable[tuple[torch.Tensor, torch.Tensor]], each: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The first stimuli of each label, as many of each as of the rarest, in the order of labels."""
    found: dict[int, list[torch.Tensor]] = {}
    for image, label in pairs:
        own = found.setdefault(int(label), [])
        if len(own) < each:
            own.append(image)
    if not found:
        raise ValueError("Stimuli: a data module has validation data; this one has none.")
    fewest = min(map(len, found.values()))
    chosen = [(image, label) for label in sorted(found) for image in found[label][:fewest]]
    return torch.stack([image for image, _ in chosen]), torch.tensor([label for _, label in chosen])
