"""TensorBoard: scalars, histograms and pictures of measurements, each at its optimizer step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isnan
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning.fabric.loggers.tensorboard import TensorBoardLogger as FabricLogger
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.summary_pb2 import (
    HistogramProto,  # pyright: ignore[reportAttributeAccessIssue]
    Summary,  # pyright: ignore[reportAttributeAccessIssue]
    SummaryMetadata,  # pyright: ignore[reportAttributeAccessIssue]
)
from torch.utils.tensorboard.writer import SummaryWriter

from lightning_emerge.records import Axis, FloatArray, Measurement, Pixels
from lightning_emerge.sinks.events import write_values
from lightning_emerge.sinks.names import BOARD
from lightning_emerge.sinks.png import encode_png
from lightning_emerge.sinks.scalars import tags, text

_POSITIVE = 1e-12 * 1.1 ** np.arange(774)
_EDGES = np.concatenate([-_POSITIVE[::-1], [0.0], _POSITIVE])
"""Between buckets of histograms: each a tenth wider than the one before, as TensorBoard's own."""


def tensorboard_sinks(loggers: Iterable[Logger]) -> list[TensorBoardSink]:
    """Makes a sink for each of the loggers that write to TensorBoard."""
    return [TensorBoardSink(logger.experiment) for logger in loggers if isinstance(logger, TensorBoardLogger)]


def writer_sinks(given: Iterable[SummaryWriter | FabricLogger]) -> list[TensorBoardSink]:
    """Makes a sink for each writer of event files, or logger of Lightning or Fabric that has one."""
    return [TensorBoardSink(one.experiment if isinstance(one, FabricLogger) else one) for one in given]


class TensorBoardSink:
    """Writes measurements to a run's event file.

    A measurement with no axis or one is written as scalars, one with two axes as a histogram for each position of its
    first axis (counts if the second axis is called "bin"), one with more only as the picture that its probe draws.

    Args:
        writer: of the run.
    """

    def __init__(self, writer: SummaryWriter) -> None:
        self._writer = writer
        self._charts: dict[str, list[str]] = {}

    def write(self, step: int, measurements: Sequence[Measurement], pictures: Mapping[str, Pixels]) -> None:
        """Writes what was measured and drawn at one step."""
        known = len(self._charts)
        values: list[Any] = []
        for measurement in measurements:
            if len(measurement.axes) <= 1:
                values += self._scalars(measurement)
            elif len(measurement.axes) == 2:
                values += _histograms(measurement)
        values += [Summary.Value(tag=text(tag), image=_image(pixels)) for tag, pixels in pictures.items()]
        write_values(self._writer, step, values)
        if len(self._charts) > known:
            # One chart with all layers or tokens in it, beside the chart for each that TensorBoard makes by itself.
            layout = {name: ["Multiline", tags] for name, tags in self._charts.items()}
            self._writer.add_custom_scalars({"Probes": layout})
        self._writer.flush()

    def write_points(
        self, step: int, tag: str, points: FloatArray, tokens: Sequence[str], thumbnails: npt.NDArray[np.float32] | None
    ) -> None:
        """Writes points to TensorBoard's projector, with the token and a picture of each.

        Args:
            step: optimizer steps taken.
            tag: the name of the points.
            points: (point, dimension), finite.
            tokens: of each point.
            thumbnails: (point, channel, y, x), 0 to 1; None for points without pictures.
        """
        pictures = None if thumbnails is None else torch.from_numpy(thumbnails)
        self._writer.add_embedding(torch.from_numpy(points), list(tokens), pictures, global_step=step, tag=tag)

    def go_on(self, step: int) -> None:
        """Tells TensorBoard to forget what an earlier process wrote beyond a step that the run goes on from."""
        if step > 0 and self._writer.file_writer is not None:
            start = SessionLog(status=SessionLog.START)
            self._writer.file_writer.add_event(Event(session_log=start), step + 1)

    def announce(self, step: int) -> None:
        """Tells TensorBoard that the run has records, so that it shows the Emerge tab without looking for them."""
        if self._writer.file_writer is not None:
            metadata = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=BOARD))
            value = Summary.Value(tag=BOARD, metadata=metadata, simple_value=1.0)
            self._writer.file_writer.add_summary(Summary(value=[value]), step)

    def close(self) -> None:
        """Closes the event file; a later write opens another."""
        self._writer.close()

    def _scalars(self, measurement: Measurement) -> list[Any]:
        names = tags(measurement)
        if measurement.axes:
            self._charts.setdefault(measurement.name, names)
        found = zip(names, measurement.values.ravel().tolist(), strict=True)
        return [Summary.Value(tag=tag, simple_value=value) for tag, value in found if not isnan(value)]


def _histograms(measurement: Measurement) -> list[Any]:
    axis, found = measurement.axes[1], []
    for tag, row in zip(tags(measurement), measurement.values.astype(np.float64), strict=True):
        values = row[np.isfinite(row)]
        if axis.name != "bin" and len(values):
            found.append(Summary.Value(tag=tag, histo=_count(values)))
        elif axis.name == "bin" and len(values) == len(row):
            found.append(Summary.Value(tag=tag, histo=_give_counts(axis, row)))
    return found


def _count(values: npt.NDArray[np.float64]) -> HistogramProto:
    places = np.searchsorted(_EDGES, values, side="right").clip(1, len(_EDGES) - 1)
    first = int(places.min())
    counts = np.bincount(places - first)
    return HistogramProto(
        min=values.min(),
        max=values.max(),
        num=len(values),
        sum=values.sum(),
        sum_squares=values @ values,
        bucket_limit=_EDGES[first - 1 : first + len(counts)],  # the first bucket is empty, to say where the next begins
        bucket=[0, *counts],
    )


def _give_counts(axis: Axis, counts: npt.NDArray[np.float64]) -> HistogramProto:
    left = np.asarray(axis.labels, dtype=np.float64)
    width = left[1] - left[0]
    middle = left + width / 2
    return HistogramProto(
        min=left[0],
        max=left[-1] + width,
        num=int(counts.sum()),
        sum=counts @ middle,
        sum_squares=counts @ middle**2,
        bucket_limit=left + width,
        bucket=counts,
    )


def _image(pixels: Pixels) -> Any:
    height, width = pixels.shape[:2]
    return Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=encode_png(pixels))
