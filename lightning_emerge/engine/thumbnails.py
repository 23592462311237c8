"""What is kept of the stimulus bank beside the records: small pictures for those who look at them later."""

from __future__ import annotations

import json
from math import ceil, sqrt
from typing import Any

import torch
from torch.nn.functional import interpolate

from lightning_emerge.figures.canvas import mosaic, to_rgb
from lightning_emerge.figures.stimuli import SIDE, curve_tiles, text_tiles
from lightning_emerge.records import Pixels, StimulusBank
from lightning_emerge.records.structures import is_real, leaves
from lightning_emerge.sinks.png import encode_png
from lightning_emerge.store.folder import Folder
from lightning_emerge.store.layout import THUMBNAIL_TABLE, THUMBNAILS

_MOST_TEXTS = 1000
"""Texts that are drawn; more take longer than a look."""


def keep_thumbnails(folder: str, bank: StimulusBank) -> None:
    """Writes `stimuli.png` and then `stimuli.json`, which says how to read it, into a run's folder.

    Pictures lie in rows in the order of the bank, without gaps. Images are on the range of each channel's values in the
    bank, and are scaled down to 64 pixels where they are larger; those of neither 1 nor 3 channels are shown by their
    mean. Rows of numbers and series are curves, and other stimuli with texts are these; what is neither is not shown.

    Args:
        folder: of the run, or an fsspec URL.
        bank: of the run.

    Raises:
        OSError: if the folder cannot be written.
    """
    tiles = _draw(bank)
    if tiles is None:
        return
    columns = ceil(sqrt(len(tiles)))
    table: dict[str, Any] = {"columns": columns, "width": tiles.shape[2], "height": tiles.shape[1]}
    table["stimuli"] = list(bank.ids)
    if bank.texts is not None:
        table["texts"] = list(bank.texts)
    Folder(folder).put(THUMBNAILS, encode_png(mosaic(to_rgb(tiles), columns, 0)[0]))
    Folder(folder).put(THUMBNAIL_TABLE, json.dumps(table).encode())


def _draw(bank: StimulusBank) -> Pixels | None:
    """Pictures (stimulus, y, x, channel) of the stimuli; None if there is nothing to draw."""
    if bank.pictured:
        return _shrink(bank.images.detach().float().cpu())
    if bank.texts is not None:
        return text_tiles(bank.texts) if len(bank) <= _MOST_TEXTS else None
    numbers = [tensor for tensor in leaves(bank.inputs).values() if is_real(tensor) and tensor.dim() in (2, 3)]
    if len(numbers) != 1:
        return None
    rows = numbers[0].detach().float().cpu().numpy()
    return curve_tiles(rows if rows.ndim == 3 else rows[:, None])


def _shrink(images: torch.Tensor) -> Pixels:
    if images.shape[1] not in (1, 3):
        images = images.mean(dim=1, keepdim=True)
    height, width = images.shape[2:]
    scale = min(1.0, SIDE / max(height, width))
    if scale < 1:
        images = interpolate(images, (max(1, round(height * scale)), max(1, round(width * scale))), mode="area")
    low, high = (edge[:, None, None] for edge in images.transpose(0, 1).flatten(1).aminmax(dim=1))
    pictures = ((images - low) / (high - low).clamp(min=1e-9) * 255).round().nan_to_num(0).to(torch.uint8)
    return pictures.permute(0, 2, 3, 1).numpy()
