"""Event files, written with less work: TensorBoard computes checksums in Python, 110 ms a megabyte.

What event writers have no public name for stands here alone: the file of a writer that may have been closed, which each
of its `add_...` finds in this way, and what an event is written to below it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from google_crc32c import value as crc32c
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from torch.utils.tensorboard.writer import SummaryWriter


def write_values(writer: SummaryWriter, step: int, values: Sequence[Any]) -> None:
    """Writes a step's `Summary.Value`s as one event; a writer that was closed opens another file."""
    file = writer._get_file_writer()
    _hasten(file)
    file.add_summary(Summary(value=values), step)


def _hasten(file: Any) -> None:
    """Has records written with checksums computed in C; another version of TensorBoard computes them itself."""
    with suppress(AttributeError):
        records = file.event_writer._async_writer._writer
        records.write = partial(_write_record, records._writer)


def _write_record(file: Any, data: bytes) -> None:
    """Writes a record as TensorFlow defines it: length, its checksum, data, their checksum."""
    length = struct.pack("<Q", len(data))
    file.write(length + _checksum(length) + data + _checksum(data))


def _checksum(data: bytes) -> bytes:
    found = crc32c(data)
    return struct.pack("<I", ((found >> 15 | found << 17) + 0xA282EAD8) & 0xFFFFFFFF)
