"""Checkpoint files: written whole or not at all, and read as tensors and plain values."""

from __future__ import annotations

import io
import os
import re
import secrets
import shutil
import stat
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from errno import EINVAL
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Trainer
from torch import nn

from lightning_emerge.engine.endings import saving
from lightning_emerge.store.places import is_url, open_place, to_local

_PART = re.compile(r"\.[^/]+\.ckpt\.[0-9a-f]{16}\.part")
"""What a checkpoint is called until it is whole: a name that nobody can know in advance."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a checkpoint of Lightning's onto the CPU. Nothing that could run is read.

    Raises:
        ValueError: if it is none, is damaged, or holds other things than tensors and plain values.
        OSError: if it cannot be opened.
    """
    checkpoint = _load(path, "cpu")
    if not isinstance(checkpoint, dict) or not {"global_step", "state_dict"} <= checkpoint.keys():
        raise ValueError(f"A checkpoint is a file of Lightning's; {path} has no global_step and state_dict.")
    return checkpoint


def read_tensors(path: str | Path) -> Any:
    """Reads what anyone has saved with torch onto the CPU: tensors and plain values. Nothing that could run is read.

    Raises:
        ValueError: if it is damaged, or holds other things.
        OSError: if it cannot be opened.
    """
    return _load(path, "cpu", anyones=True)


def check_plain(path: str | Path) -> None:
    """Refuses what is no plain file; a pipe would be waited for without end.

    Raises:
        ValueError: if it is none.
        OSError: if it is not there.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError(f"A checkpoint is a file of Lightning's; {path} is none.")


class LiteralCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoint files, to the letter of a path without `://`, and read only if no bit of them has changed.

    Lightning itself cuts a path at `::`, for which fsspec has another use, and reads a damaged file as other numbers.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        if storage_options is not None or is_url(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        # In memory first, as torch has no way back from a disk that is full.
        content = io.BytesIO()
        with saving():
            torch.save(checkpoint, content)
            _put(Path(to_local(path)), content.getbuffer())

    def load_checkpoint(self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None) -> Any:
        if weights_only is False or str(path).startswith(("http://", "https://")):
            return super().load_checkpoint(path, map_location, weights_only)
        return _load(path, map_location)

    def remove_checkpoint(self, path: str | Path) -> None:
        if is_url(path):
            super().remove_checkpoint(path)
            return
        local = Path(to_local(path))
        if local.is_dir() and not local.is_symlink():
            shutil.rmtree(local)
        else:
            local.unlink(missing_ok=True)


def take_literally(trainer: Trainer) -> None:
    """Gives a trainer `LiteralCheckpointIO` in place of Lightning's own; what a user has chosen stays."""
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = LiteralCheckpointIO()


def sweep_checkpoints(folder: Path) -> None:
    """Removes what saves that were killed have left in a folder."""
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            if _PART.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                os.unlink(entry.path)


def find_mismatch(module: nn.Module, weights: Mapping[str, Any]) -> str | None:
    """Says the first difference between a module's weights and those of a checkpoint, by name and shape."""
    own = module.state_dict()
    for name in [*own, *weights]:
        if name not in weights:
            return f"it has no {name}, which the network has"
        if name not in own:
            return f"it has {name}, which the network has not"
        shapes = [tuple(getattr(found[name], "shape", ())) for found in (weights, own)]
        if shapes[0] != shapes[1]:
            return f"its {name} has shape {shapes[0]}, the network's {shapes[1]}"
    return None


def _load(path: str | Path, map_location: Any, *, anyones: bool = False) -> Any:
    files, place = open_place(path)
    if not is_url(path):
        check_plain(place)
    with files.open(place, "rb") as file:
        try:
            if not anyones or file.read(2) == b"PK":  # what torch saved before 1.6 has no sums
                _check_bits(file)
            file.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns of some files before it refuses them
                return torch.load(file, map_location=map_location, weights_only=True)
        except Exception as error:  # what a damaged file raises is not known; torch advises to read it unsafely
            if isinstance(error, OSError) and error.errno != EINVAL:  # of a place that the file has not
                raise
            whose = "file" if anyones else "file of Lightning's"
            raise ValueError(
                f"A checkpoint is a {whose} that holds tensors and plain values alone; {path} is damaged "
                f"or holds other things, and was not loaded ({_what(error)})."
            ) from None


def _what(error: Exception) -> str:
    """The kind of an error, and the first name that a file asks for which is none of tensors' and plain values'."""
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    return f"{type(error).__name__}{f': it asks for {named[1]}' if named else ''}"


def _check_bits(file: Any) -> None:
    """Compares every part of a checkpoint with the sum that was saved with it; torch does not."""
    with zipfile.ZipFile(file) as archive:
        # Of the bits without a sum, only these change what torch reads: it takes such a part for a folder.
        if archive.testzip() is not None or any(part.external_attr for part in archive.infolist()):
            raise zipfile.BadZipFile


def _put(path: Path, content: memoryview) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name.removesuffix('.ckpt')}.ckpt.{secrets.token_hex(8)}.part")
    # Exclusive, and not through a link that somebody has put there.
    opened = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    try:
        with open(opened, "wb") as file:
            file.write(content)
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
