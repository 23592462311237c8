"""Exemplars out of the framework: an image folder with its latents and its grammar."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from secrets import token_hex
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

from lightning_emerge.data.grammar.files import write_grammar
from lightning_emerge.data.synthetic import TokenDataModule

_BLOCK = 256
_UNFINISHED = ".unfinished"
_LEFT = re.compile(rf"\..+\.[0-9a-f]{{16}}{re.escape(_UNFINISHED)}")


def claim(data: TokenDataModule, folder: Path) -> None:
    """Makes a folder and writes down what it will hold, or compares that with what is written there.

    Raises:
        ValueError: if the folder holds something else.
    """
    texts = {"grammar.yaml": write_grammar(data.grammar), "data.yaml": _describe(data)}
    there = [path.name for path in folder.iterdir() if not path.name.endswith(_UNFINISHED)] if folder.is_dir() else []
    # data.yaml is written before anything else, so a folder without it is somebody else's.
    if there and "data.yaml" not in there:
        raise ValueError(f"--out is a new folder, or one that `lightning data` wrote; {folder} is neither.")
    for name in texts.keys() & set(there):
        if (folder / name).read_text(encoding="utf-8") != texts[name]:
            raise ValueError(
                "--out is a new folder, or one that holds the same exemplars; "
                f"{folder / name} says that it holds others. Name another folder, or remove it."
            )
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("data.yaml", "grammar.yaml"):
        if not (folder / name).exists():
            _replace(folder / name, lambda file, text=texts[name]: file.write(text.encode()))


def export(data: TokenDataModule, folder: Path, advance: Callable[[int], object]) -> int:
    """Writes all exemplars as `<folder>/<split>/<token>/<index>.png`.

    Beside them lie `grammar.yaml`, `data.yaml` (what the exemplars were made with) and, written last,
    `latents.parquet` (see `lightning_emerge.data.rendering.latents.latents_table`). Files appear whole or not at all. A
    folder that an earlier, interrupted call left is completed; what is there is not written again.

    Args:
        data: what to write.
        folder: where, after `claim`.
        advance: called with the number of exemplars dealt with since the last call.

    Returns:
        How many images were written.
    """
    _sweep(folder)
    table = folder / "latents.parquet"
    written = 0
    with nullcontext() if table.exists() else _TableWriter(table) as writer:
        for split, token, indices in _blocks(data):
            home = folder / split / token
            home.mkdir(parents=True, exist_ok=True)
            if not indices.start:
                _sweep(home)
            written += _write_images(data, home, split, token, indices)
            if writer is not None:
                writer.write(data, split, token, indices)
            advance(len(indices))
    return written


def _describe(data: TokenDataModule) -> str:
    counts = {split: int(count) for split, count in data.counts.items()}
    nuisances: dict[str, Any] = {**data.nuisances.values(), "scale": list(data.nuisances.scale)}
    content = {"exemplars": counts, "image_size": data.image_size, "seed": data.seed, "nuisances": nuisances}
    return yaml.safe_dump(content, sort_keys=False, default_flow_style=None)


def _blocks(data: TokenDataModule) -> Iterator[tuple[str, str, range]]:
    for split, count in data.counts.items():
        for token in data.tokens:
            for start in range(0, count, _BLOCK):
                yield split, token, range(start, min(start + _BLOCK, count))


def _write_images(data: TokenDataModule, home: Path, split: str, token: str, indices: range) -> int:
    missing = [index for index in indices if not (home / f"{index:06d}.png").exists()]
    if missing:
        for index, image in zip(missing, data.images(split, token, missing), strict=True):
            picture = Image.fromarray(image.transpose(1, 2, 0).copy())
            _replace(home / f"{index:06d}.png", lambda file, picture=picture: picture.save(file, "png"))
    return len(missing)


def _replace(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Writes a file under another name first, so that whoever finds it finds it whole."""
    with _appearing(path) as file:
        write(file)


@contextmanager
def _appearing(path: Path) -> Iterator[IO[bytes]]:
    """A new file that gets its name when the block is over, or is removed if that fails."""
    unfinished = _beside(path)
    with unfinished.open("xb") as file:  # nothing that is there is opened
        try:
            yield file
            file.close()
            os.replace(unfinished, path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise


def _beside(path: Path) -> Path:
    """A name at which nobody can have put a link before."""
    return path.with_name(f".{path.name}.{token_hex(8)}{_UNFINISHED}")


def _sweep(home: Path) -> None:
    """Removes what a call that was killed has left."""
    for path in home.glob(f".*{_UNFINISHED}"):
        if _LEFT.fullmatch(path.name):
            path.unlink(missing_ok=True)


class _TableWriter(ExitStack):
    """Writes the latents block by block, so that memory does not grow with their number."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = self.enter_context(_appearing(path))
        self._writer: pq.ParquetWriter | None = None

    def write(self, data: TokenDataModule, split: str, token: str, indices: range) -> None:
        table = pa.Table.from_pandas(data.latents(split, token, indices), preserve_index=False)
        if self._writer is None:
            self._writer = self.enter_context(pq.ParquetWriter(self._file, table.schema, compression="zstd"))
        self._writer.write_table(table.cast(self._writer.schema))
