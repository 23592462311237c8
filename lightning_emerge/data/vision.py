"""Any classification data set of torchvision that is on disk."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torchvision.datasets import VisionDataset
from torchvision.transforms.v2.functional import to_pil_image

from lightning_emerge.data.dataset import Exemplars
from lightning_emerge.data.names import check_token
from lightning_emerge.data.photographs.dealt import DealtDataModule
from lightning_emerge.data.photographs.decoding import Pixels, UnsuitableError, fit, read_each, to_rgb


class VisionDataModule(DealtDataModule):
    """Some classes of a torchvision data set as tokens, such as cats and ships of CIFAR-10.

    Each image is treated as `FolderDataModule` treats a photograph. The seed and the images' pixels decide which split
    each falls into, in equal shares of each token. One that is there twice, be it under two tokens, is never held out,
    so that no other split holds a picture of training. Only the classes that are chosen are decoded. Ids are
    `<token>/<position in the data set>`.

    Args:
        dataset: of `torchvision.datasets`, or of your own; one that is on disk, as nothing is downloaded. Its items
            are an image and a label, and the image a PIL image or a uint8 tensor (channel, y, x). All four splits are
            dealt from it.
        classes: names of the classes to learn, at least two, in the order of their labels; all if none are given.
            The names are the data set's `classes`, or what its `class_to_idx` says, or else its labels' numbers.
        exemplars: training exemplars of each token at most, at least `min_exemplars`; all that are left if none is
            given. More of them leave the first ones, and the other splits, as they were.
        **shared: image_size, batch_size, min_exemplars and others, as for any `DealtDataModule`.

    Raises:
        ValueError: if an argument is out of its range, a class is not known, the data set's labels are no classes, or
            too few images are left to train on.
    """

    def __init__(
        self,
        dataset: VisionDataset,
        classes: list[str] | None = None,
        exemplars: int | None = None,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.dataset = dataset
        self._deal = replace(self._deal, exemplars=exemplars)
        positions = _positions(dataset)
        self._positions = {token: positions[token] for token in _choose(tuple(positions), classes)}
        counts = {token: len(found) for token, found in self._positions.items()}
        self._deal.check_dense(counts)
        self._deal.check_left(counts)

    @property
    def tokens(self) -> tuple[str, ...]:
        return tuple(self._positions)

    def load(self) -> Mapping[str, Exemplars]:
        before = torch.get_rng_state()
        read = read_each([_Place(token, at) for token, found in self._positions.items() for at in found], self._read)
        if not torch.equal(before, torch.get_rng_state()):
            raise ValueError(
                "data.dataset gives the same image at every visit; its transform samples random numbers. "
                "Give random transforms as data.augmentations."
            )
        contents: dict[str, dict[_Place, bytes]] = {token: {} for token in self.tokens}
        for place, image in read.items():
            contents[place.token][place] = image.digest
        pixels = {place: image.pixels for place, image in read.items()}
        return self.hold(self._deal(contents), pixels, lambda row: str(row.key))

    def _read(self, place: _Place) -> _Image:
        image = to_rgb(_to_pil(self.dataset[place.position][0]))
        content = f"{image.size}".encode() + image.tobytes()
        return _Image(hashlib.sha256(content).digest(), fit(image, self.image_size))


class _Place(NamedTuple):
    token: str
    position: int  # in the data set

    def __str__(self) -> str:
        return f"{self.token}/{self.position:06d}"


class _Image(NamedTuple):
    digest: bytes  # of the pixels before they are scaled
    pixels: Pixels


def _to_pil(image: Any) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, torch.Tensor) and image.dtype == torch.uint8:
        return to_pil_image(image)
    kind = f"{image.dtype} tensors" if isinstance(image, torch.Tensor) else type(image).__name__
    raise UnsuitableError(
        f"data.dataset gives PIL images or uint8 tensors (channel, y, x); got {kind}. Leave ToTensor, ToDtype and "
        "Normalize out of its transform, as the network's input is normalised later."
    )


def _positions(dataset: VisionDataset) -> dict[str, list[int]]:
    """Where each class' images are in a data set: by name, in the order of the labels."""
    labels = _labels(dataset)
    names = _names(dataset, labels)
    unnamed = sorted(set(labels) - names.keys())
    if unnamed:
        raise ValueError(
            f"Each label of data.dataset is one of its {len(names)} classes; got {unnamed[0]}, which is none. "
            "Choose another part of the data set."
        )
    positions: dict[int, list[int]] = {label: [] for label in sorted(set(labels))}
    for position, label in enumerate(labels):
        positions[label].append(position)
    return {names[label]: found for label, found in positions.items()}


def _labels(dataset: Any) -> list[int]:
    if getattr(dataset, "target_transform", None) is not None:
        raise ValueError(
            "data.dataset has its own labels; got a target_transform. Leave it out, and choose with data.classes."
        )
    given = _given_labels(dataset)
    try:
        found = np.asarray(given)
    except ValueError:  # of different lengths
        found = np.asarray(given, object)
    if found.shape != (len(dataset),) or found.dtype.kind not in "iu":
        raise ValueError(
            "The labels of data.dataset are whole numbers, one an image; got "
            f"{found.dtype} {found.shape} for {len(dataset)} images. Take a data set for classification."
        )
    return found.tolist()


def _given_labels(dataset: Any) -> Any:
    for attribute in ("targets", "labels", "_labels"):
        if hasattr(dataset, attribute):
            return getattr(dataset, attribute)
    return [dataset[position][1] for position in range(len(dataset))]


def _names(dataset: Any, labels: Sequence[int]) -> dict[int, str]:
    """Name of each label. ImageNet has several names a class, and two classes of one name."""
    if hasattr(dataset, "classes"):
        names = {k: ", ".join(n) if isinstance(n, tuple | list) else str(n) for k, n in enumerate(dataset.classes)}
    elif hasattr(dataset, "class_to_idx"):
        names = {label: name for name, label in dataset.class_to_idx.items()}
    else:
        names = {label: str(label) for label in labels}
    times = Counter(names.values())
    return {label: name if times[name] == 1 else f"{name} ({label})" for label, name in names.items()}


def _choose(names: Sequence[str], classes: Sequence[str] | None) -> Sequence[str]:
    chosen = names if classes is None else classes
    if len(chosen) < 2 or len(set(chosen)) < len(chosen):
        raise ValueError(f"data.classes are at least two different names; got {', '.join(chosen) or 'none'}.")
    unknown = [name for name in chosen if name not in names]
    if unknown:
        near = [match for name in unknown for match in get_close_matches(name, names, 1, 0.5)]
        more = f" and {len(names) - 20} more" if len(names) > 20 else ""
        raise ValueError(
            f"data.classes are classes of the data set: {', '.join(names[:20])}{more}; got {', '.join(unknown)}."
            + (f" Did you mean {', '.join(near)}?" if near else "")
        )
    return [check_token(name) for name in chosen]
