"""What TensorBoard reads back from the event file: steps, values, counts, pixels, charts."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from torch.utils.tensorboard.writer import SummaryWriter

from lightning_emerge.records import Axis, Measurement
from lightning_emerge.sinks.png import encode_png
from lightning_emerge.sinks.tensorboard import TensorBoardSink

NAN, INF = float("nan"), float("inf")
LAYER = Axis("layer", ["conv1_1", "fc1"])
TOKEN = Axis("token", ["dax", "wug", "fep"])


def make(name: str, values: object, *axes: Axis) -> Measurement:
    return Measurement(name, np.asarray(values, dtype=np.float64), axes, 0)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[SummaryWriter]:
    with SummaryWriter(str(tmp_path)) as writer:
        yield writer


def read(writer: SummaryWriter) -> EventAccumulator:
    writer.flush()  # what the writer itself is given waits in a queue
    events = EventAccumulator(writer.log_dir, {"scalars": 0, "images": 0, "histograms": 0, "tensors": 0})
    events.Reload()
    return events


def scalars(events: EventAccumulator) -> Mapping[str, list[tuple[int, float]]]:
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_scalars_have_a_tag_for_each_position_and_their_optimizer_step(writer):
    sink = TensorBoardSink(writer)
    sink.write(0, [make("ratio", [0.5, 0.25], LAYER), make("mean", 2)], {})
    sink.write(1000, [make("ratio", [1, -3], LAYER), make("mean", 8)], {})
    assert scalars(read(writer)) == {
        "ratio/conv1_1": [(0, 0.5), (1000, 1)],
        "ratio/fc1": [(0, 0.25), (1000, -3)],
        "mean": [(0, 2), (1000, 8)],
    }


def test_what_was_not_measurable_is_left_out(writer):
    sink = TensorBoardSink(writer)
    for step, value in enumerate((NAN, 1, NAN, 2)):
        sink.write(step, [make("ratio", [value, step], LAYER)], {})
    found = scalars(read(writer))
    assert found == {"ratio/conv1_1": [(1, 1), (3, 2)], "ratio/fc1": [(0, 0), (1, 1), (2, 2), (3, 3)]}


def test_a_number_that_was_not_measurable_is_left_out(writer):
    sink = TensorBoardSink(writer)
    for step, value in enumerate((NAN, 1, NAN, 2)):
        sink.write(step, [make("mean", value)], {})
    assert scalars(read(writer)) == {"mean": [(1, 1), (3, 2)]}


def test_a_label_that_is_no_text_is_escaped_and_costs_nothing_else(writer):
    odd = make("ratio", [0.5], Axis("layer", ["caf\udce9"]))
    TensorBoardSink(writer).write(0, [odd, make("mean", 2)], {"a\udce9": np.zeros((2, 2, 3), np.uint8)})
    events = read(writer)
    assert scalars(events) == {"ratio/caf\\udce9": [(0, 0.5)], "mean": [(0, 2)]}
    assert events.Tags()["images"] == ["a\\udce9"]


def test_one_write_can_be_read_at_once(writer):
    TensorBoardSink(writer).write(3, [make("mean", 2)], {"rdm": np.zeros((2, 2, 3), np.uint8)})
    events = read(writer)
    assert scalars(events) == {"mean": [(3, 2)]}
    assert [event.step for event in events.Images("rdm")] == [3]


def test_two_axes_are_a_histogram_of_each_row(writer):
    values = np.random.default_rng(0).normal(size=(2, 100))
    values[1, 60:] = NAN
    sink = TensorBoardSink(writer)
    for step in (0, 7):
        sink.write(step, [make("filter_norm", values * (step + 1), LAYER, Axis("filter", range(100)))], {})
    events = read(writer)
    assert set(events.Tags()["histograms"]) == {"filter_norm/conv1_1", "filter_norm/fc1"}
    for tag, row in (("filter_norm/conv1_1", values[0]), ("filter_norm/fc1", values[1, :60])):
        assert [event.step for event in events.Histograms(tag)] == [0, 7]
        for event, given in zip(events.Histograms(tag), (row, 8 * row), strict=True):
            found = event.histogram_value
            assert (found.min, found.max, found.num) == pytest.approx((given.min(), given.max(), len(given)))
            assert (found.sum, found.sum_squares) == pytest.approx((given.sum(), (given**2).sum()))
            inside = np.histogram(given, [-INF, *found.bucket_limit])[0]
            np.testing.assert_array_equal(found.bucket, inside)


def test_bins_are_written_as_the_counts_that_they_are(writer):
    left = [-2.0, -1.5, -1.0, -0.5]
    counts = [[5, 0, 2, 1], [0, 0, 0, 9]]
    TensorBoardSink(writer).write(4, [make("magnitude", counts, LAYER, Axis("bin", left))], {})
    events = read(writer)
    for tag, row in zip(("magnitude/conv1_1", "magnitude/fc1"), counts, strict=True):
        (event,) = events.Histograms(tag)
        found = event.histogram_value
        held = [(limit, count) for limit, count in zip(found.bucket_limit, found.bucket, strict=True) if count]
        assert held == [(edge + 0.5, count) for edge, count in zip(left, row, strict=True) if count]
        assert event.step == 4
        assert found.num == sum(row)
        assert (found.min, found.max) == (-2, 0)
        middles = np.repeat(np.array(left) + 0.25, row)
        assert found.sum == pytest.approx(middles.sum())
        assert found.sum_squares == pytest.approx((middles**2).sum())


@pytest.mark.parametrize(
    ("second", "row"),
    [
        ("filter", [NAN, NAN, NAN]),
        ("filter", [1, INF, 2]),
        ("filter", [INF, INF, INF]),
        ("filter", [0, 0, 0]),
        ("bin", [NAN, NAN, NAN]),
        ("bin", [0, 0, 0]),
    ],
)
def test_a_row_that_cannot_be_a_histogram_does_not_cost_the_others(writer, second, row):
    sink = TensorBoardSink(writer)
    sink.write(0, [make("norm", [row, [1, 2, 3]], LAYER, Axis(second, range(3))), make("mean", 1)], {})
    events = read(writer)
    assert events.Histograms("norm/fc1")[0].histogram_value.num == (3 if second == "filter" else 6)
    assert scalars(events) == {"mean": [(0, 1)]}


def test_pictures_are_kept_at_every_step_pixel_by_pixel(writer):
    random = np.random.default_rng(0)
    given = {step: random.integers(0, 256, (4, 6, 3), dtype=np.uint8) for step in range(0, 300, 10)}
    sink = TensorBoardSink(writer)
    for step, pixels in given.items():
        sink.write(step, [], {"rdm": pixels, "kernels": pixels[::-1]})
    events = read(writer)
    assert [event.step for event in events.Images("kernels")] == list(given)
    for event in events.Images("rdm"):
        assert (event.width, event.height) == (6, 4)
        found = np.asarray(Image.open(BytesIO(event.encoded_image_string)))
        np.testing.assert_array_equal(found, given[event.step])


def test_checksums_are_tensorboards_own(writer):
    TensorBoardSink(writer).write(3, [make("mean", 2)], {"rdm": np.zeros((50, 70, 3), np.uint8)})
    assert writer.file_writer is not None
    # If this fails, TensorBoard has changed inside: pictures are still right, and cost 110 ms a megabyte more.
    assert "write" in vars(writer.file_writer.event_writer._async_writer._writer)
    writer.add_scalar("of another", 5, 3)
    writer.flush()
    (path,) = Path(writer.log_dir).glob("events*")
    content, place, records = path.read_bytes(), 0, 0
    while place < len(content):
        (length,) = struct.unpack("<Q", content[place : place + 8])
        data = content[place + 12 : place + 12 + length]
        for covered, at in ((content[place : place + 8], place + 8), (data, place + 12 + length)):
            assert struct.unpack("<I", content[at : at + 4]) == (masked_crc32c(covered),)
        place, records = place + 16 + length, records + 1
    assert records == 3  # version, values, another's


def test_a_writer_that_was_closed_opens_another_file(writer):
    sink = TensorBoardSink(writer)
    for step in range(2):
        sink.write(step, [make("mean", step)], {})
        sink.close()
    # Two files of one second are read in the order of their names.
    assert {name: sorted(found) for name, found in scalars(read(writer)).items()} == {"mean": [(0, 0), (1, 1)]}


@pytest.mark.parametrize("shape", [(1, 1, 3), (7, 300, 3), (300, 5, 3)])
def test_a_png_has_each_pixel(shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for given in (pixels, pixels[::-1], np.full_like(pixels, 255)):
        image = Image.open(BytesIO(encode_png(given)))
        image.verify()
        np.testing.assert_array_equal(np.asarray(Image.open(BytesIO(encode_png(given)))), given)


def test_histograms_are_those_that_tensorboard_makes(writer):
    values = np.concatenate([np.random.default_rng(0).normal(size=200) * 10.0 ** np.arange(-9, 11).repeat(10), [0, 1]])
    TensorBoardSink(writer).write(0, [make("ours", values[None], Axis("layer", ["a"]), Axis("b", range(202)))], {})
    writer.add_histogram("theirs", values, 0)
    events = read(writer)
    ours, theirs = (events.Histograms(tag)[0].histogram_value for tag in ("ours/a", "theirs"))
    assert ours.bucket == theirs.bucket
    assert ours.bucket_limit == pytest.approx(theirs.bucket_limit)
    assert (ours.min, ours.max, ours.num, ours.sum) == pytest.approx((theirs.min, theirs.max, theirs.num, theirs.sum))


def test_more_than_two_axes_are_only_a_picture(writer):
    TensorBoardSink(writer).write(0, [make("rdm", np.zeros((2, 3, 3)), LAYER, TOKEN, Axis("b", range(3)))], {})
    tags = read(writer).Tags()
    assert not any(tags[kind] for kind in ("scalars", "histograms", "images", "tensors"))


def test_each_measure_has_one_chart_with_all_of_its_positions(writer):
    sink = TensorBoardSink(writer)
    sink.write(0, [make("ratio", [0, 0], LAYER), make("mean", 2)], {})
    sink.write(1, [make("ratio", [1, 1], LAYER), make("accuracy", [0, 1, NAN], TOKEN)], {})
    sink.write(2, [make("ratio", [1, 1], LAYER), make("accuracy", [0, 1, NAN], TOKEN)], {})
    events = read(writer).Tensors("custom_scalars__config__")
    assert len(events) == 2
    layout = Layout.FromString(events[-1].tensor_proto.string_val[0])
    assert [category.title for category in layout.category] == ["Probes"]
    charts = {chart.title: list(chart.multiline.tag) for chart in layout.category[0].chart}
    assert charts == {
        "ratio": ["ratio/conv1_1", "ratio/fc1"],
        "accuracy": ["accuracy/dax", "accuracy/wug", "accuracy/fep"],
    }


def test_points_go_to_the_projector_with_their_tokens_and_images(writer):
    points = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    images = np.zeros((6, 3, 8, 8), dtype=np.float32)
    images[4, 0] = 1
    sink = TensorBoardSink(writer)
    sink.write_points(12, "fc1", points, list("aabbcc"), images)
    folder = Path(writer.log_dir)
    home = next(folder.glob("00012/*"))
    assert 'tensor_name: "fc1:00012"' in (folder / "projector_config.pbtxt").read_text()
    np.testing.assert_allclose(np.loadtxt(home / "tensors.tsv"), points, rtol=1e-5)
    assert (home / "metadata.tsv").read_text().split() == list("aabbcc")
    sprite = np.asarray(Image.open(home / "sprite.png"))
    # Three images a row: the fifth is the second of the second row, and red.
    assert sprite[12, 12].tolist()[:3] == [255, 0, 0]
    assert sprite[4, 4].tolist()[:3] == [0, 0, 0]
