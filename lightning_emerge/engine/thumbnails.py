"""What is kept of the stimulus bank's images beside the records: small pictures for those who look at them later."""

from __future__ import annotations

import json
from math import ceil, sqrt

import torch
from torch.nn.functional import interpolate

from lightning_emerge.figures.canvas import mosaic, to_rgb
from lightning_emerge.records import StimulusBank
from lightning_emerge.sinks.png import encode_png
from lightning_emerge.store.folder import Folder
from lightning_emerge.store.layout import THUMBNAIL_TABLE, THUMBNAILS

_SIDE = 64


def keep_thumbnails(folder: str, bank: StimulusBank) -> None:
    """Writes `stimuli.png` and then `stimuli.json`, which says how to read it, into a run's folder.

    Pictures lie in rows in the order of the bank, without gaps, on the range of each channel's values in the bank, and
    are scaled down to 64 pixels where they are larger. Images of neither 1 nor 3 channels are shown by their mean, and
    stimuli that are no images not at all.

    Args:
        folder: of the run, or an fsspec URL.
        bank: of the run.

    Raises:
        OSError: if the folder cannot be written.
    """
    if not bank.pictured:
        return
    images = bank.images.detach().float().cpu()
    if images.shape[1] not in (1, 3):
        images = images.mean(dim=1, keepdim=True)
    height, width = images.shape[2:]
    scale = min(1.0, _SIDE / max(height, width))
    if scale < 1:
        images = interpolate(images, (max(1, round(height * scale)), max(1, round(width * scale))), mode="area")
    low, high = (edge[:, None, None] for edge in images.transpose(0, 1).flatten(1).aminmax(dim=1))
    pictures = ((images - low) / (high - low).clamp(min=1e-9) * 255).round().nan_to_num(0).to(torch.uint8)
    tiles = to_rgb(pictures.permute(0, 2, 3, 1).numpy())
    columns = ceil(sqrt(len(tiles)))
    table = {"columns": columns, "width": tiles.shape[2], "height": tiles.shape[1], "stimuli": list(bank.ids)}
    Folder(folder).put(THUMBNAILS, encode_png(mosaic(tiles, columns, 0)[0]))
    Folder(folder).put(THUMBNAIL_TABLE, json.dumps(table).encode())
