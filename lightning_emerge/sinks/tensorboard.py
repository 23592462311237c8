"""TensorBoard: scalars, histograms and pictures of measurements, each at its optimizer step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata  # pyright: ignore[reportAttributeAccessIssue]
from torch.utils.tensorboard.writer import SummaryWriter

from lightning_emerge.records import Axis, FloatArray, Measurement, Picture
from lightning_emerge.sinks.layout import BOARD


def tensorboard_sinks(loggers: Iterable[Logger]) -> list[TensorBoardSink]:
    """Makes a sink for each of the loggers that write to TensorBoard."""
    return [TensorBoardSink(logger.experiment) for logger in loggers if isinstance(logger, TensorBoardLogger)]


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

    def write(self, step: int, measurements: Sequence[Measurement], pictures: Mapping[str, Picture]) -> None:
        """Writes what was measured and drawn at one step."""
        known = len(self._charts)
        for measurement in measurements:
            if len(measurement.axes) <= 1:
                self._write_scalars(step, measurement)
            elif len(measurement.axes) == 2:
                self._write_histograms(step, measurement)
        if len(self._charts) > known:
            # One chart with all layers or tokens in it, beside the chart for each that TensorBoard makes by itself.
            layout = {name: ["Multiline", tags] for name, tags in self._charts.items()}
            self._writer.add_custom_scalars({"Probes": layout})
        for tag, pixels in pictures.items():
            self._writer.add_image(tag, pixels, step, dataformats="HWC")
        self._writer.flush()

    def write_points(
        self, step: int, tag: str, points: FloatArray, tokens: Sequence[str], thumbnails: npt.NDArray[np.float32]
    ) -> None:
        """Writes points to TensorBoard's projector, with the token and a picture of each.

        Args:
            step: optimizer steps taken.
            tag: the name of the points.
            points: (point, dimension), finite.
            tokens: of each point.
            thumbnails: (point, channel, y, x), 0 to 1.
        """
        pictures = torch.from_numpy(thumbnails)
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

    def _write_scalars(self, step: int, measurement: Measurement) -> None:
        if not measurement.axes:
            if not np.isnan(measurement.values):
                self._writer.add_scalar(measurement.name, float(measurement.values), step)
            return
        tags = _tags(measurement)
        self._charts.setdefault(measurement.name, tags)
        for tag, value in zip(tags, measurement.values.tolist(), strict=True):
            if not np.isnan(value):
                self._writer.add_scalar(tag, value, step)

    def _write_histograms(self, step: int, measurement: Measurement) -> None:
        binned = measurement.axes[1].name == "bin"
        for tag, row in zip(_tags(measurement), measurement.values, strict=True):
            values = row[np.isfinite(row)]
            if binned and len(values) == len(row):
                self._write_counts(step, tag, measurement.axes[1], row)
            elif not binned and len(values):
                self._writer.add_histogram(tag, values, step)

    def _write_counts(self, step: int, tag: str, axis: Axis, counts: npt.NDArray[np.floating]) -> None:
        left = np.asarray(axis.labels, dtype=np.float64)
        width = left[1] - left[0]
        middle = left + width / 2
        self._writer.add_histogram_raw(
            tag,
            min=float(left[0]),
            max=float(left[-1] + width),
            num=int(counts.sum()),
            sum=float(counts @ middle),
            sum_squares=float(counts @ middle**2),
            bucket_limits=(left + width).tolist(),
            bucket_counts=counts.tolist(),
            global_step=step,
        )


def _tags(measurement: Measurement) -> list[str]:
    return [f"{measurement.name}/{label}" for label in measurement.axes[0].labels]
