"""The biography of a filter, from records whose content is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lightning_emerge.analysis.biography import read_biography
from lightning_emerge.cli import main
from lightning_emerge.figures.biography import draw_biography
from lightning_emerge.records import Axis, Measurement
from lightning_emerge.store.write import ArraySink

LAYERS, TOKENS = ("conv1", "conv2"), ("dax", "wug")
STEPS = (0, 1, 2, 5, 10, 20, 50)
PICTURED = (0, 5, 50)
DEAD_AT = 5


def numbered(**sizes: int) -> tuple[Axis, ...]:
    return tuple(Axis(name, range(size)) for name, size in sizes.items())


def look(step: int) -> list[Measurement]:
    """Filter 1 of conv2 has a norm equal to the step, and top exemplars but at one look."""
    filters = (Axis("layer", LAYERS), *numbered(filter=3))
    norm = np.full((2, 3), np.nan)
    norm[0], norm[1, :2] = 7, step  # conv2 has two filters
    kernels = np.full((3, 1, 3, 3), 0.1 * step)
    found = [
        Measurement("filter_norm", norm, filters, step),
        Measurement("kernels", kernels, numbered(filter=3, channel=1, y=3, x=3), step, about="conv1"),
    ]
    if step in PICTURED:
        alive = step != DEAD_AT
        response = np.where(np.isnan(norm), np.nan, 0.5 if alive else 0.0)[:, :, None].repeat(2, axis=2)
        crops = np.full((2, 2, 1, 1, 4, 4), 0.25 if alive else np.nan, dtype=np.float16)
        labels = np.where(np.isnan(norm), np.nan, 1.0 if alive else np.nan)[:, :, None]
        ranks = Axis("exemplar", [1])
        shown = (filters[0], *numbered(filter=2), ranks, *numbered(channel=1, y=4, x=4))
        found += [
            Measurement("filter_response", response, (*filters, Axis("token", TOKENS)), step),
            Measurement("top_crop", crops, shown, step),
            Measurement("top_token", labels, (*filters, ranks), step),
        ]
    return found


@pytest.fixture
def run(tmp_path) -> Path:
    sink = ArraySink(tmp_path / "records.zarr", None)
    for step in STEPS:
        sink.write(step, look(step))
    sink.close()
    return tmp_path


def test_pictures_and_curves_are_those_of_the_filter(run):
    biography = read_biography(run, "conv2", 1)
    curves = {chart.title.replace("\n", " "): chart.curves for chart in biography.charts}
    assert curves["norm of weights"][0].line.values.tolist() == list(STEPS)
    by_token = curves["mean activation by token"]
    assert [curve.label for curve in by_token] == list(TOKENS)
    assert [list(curve.line.steps) for curve in by_token] == [list(PICTURED)] * 2
    assert by_token[1].line.values.tolist() == [0.5, 0.0, 0.5]
    assert biography.columns == list(PICTURED)
    assert [picture is None for picture in biography.strips["top\nexemplars"]] == [False, True, False]
    assert biography.dead == [DEAD_AT]
    assert "kernel" not in biography.strips  # the kernels are those of conv1
    middle = biography.strips["top\nexemplars"][0][4, 4]
    np.testing.assert_allclose(middle, 0.25, atol=1 / 255)


def test_a_first_layers_filter_has_its_kernel(run):
    kernels = read_biography(run, "conv1", 2).strips["kernel"]
    assert len(kernels) == len(PICTURED)
    assert kernels[0][0, 0, 0] == pytest.approx(0.5)  # a weight of zero is middle grey
    assert kernels[2][0, 0, 0] == 1


@pytest.mark.parametrize(
    ("layer", "number", "words"),
    [
        ("conv3", 0, "no layer 'conv3'. Did you mean 'conv"),
        ("conv2", 2, "by its number in conv2; none has at 2"),  # conv1 alone has three
        ("conv2", -1, "none has at -1"),
    ],
)
def test_a_filter_that_there_is_not_is_refused(run, layer, number, words):
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the words are looked at below
        read_biography(run, layer, number)
    assert words in str(refused.value)


def test_it_is_drawn_with_every_step_on_one_axis(run):
    figure = draw_biography(read_biography(run, "conv2", 1))
    strip, response, norm = figure.axes
    assert [text.get_text() for text in strip.texts] == ["dead"]
    assert [text.get_text() for text in norm.get_xticklabels()] == ["0", "5", "50"]
    at = dict(zip(STEPS, norm.get_lines()[0].get_xdata(), strict=True))
    assert (at[0], at[5], at[50]) == (0, 1, 2)
    assert at[1] == pytest.approx(0.2)
    assert [text.get_text() for text in response.get_legend().get_texts()] == list(TOKENS)


def test_a_curve_ends_where_the_range_of_its_record_does(tmp_path):
    filters = (Axis("layer", LAYERS), *numbered(filter=3))
    sink = ArraySink(tmp_path / "records.zarr", None)
    for step in (0, 5):
        cosine, norm = (np.full((2, 3), value) for value in (-0.1, 4.0))
        ranged = Measurement("filter_cosine_start", cosine, filters, step, range=(-0.5, 0.75))
        sink.write(step, [ranged, Measurement("filter_norm", norm, filters, step, range=(2, None))])
    sink.close()
    norm, cosine = read_biography(tmp_path, "conv1", 1).charts
    assert (norm.span, cosine.span) == ((2, None), (-0.5, 0.75))


def test_the_command_writes_the_picture_and_says_where(run, capfd):
    main(["biography", str(run), "--layer", "conv2", "--filter", "1"])
    path = run / "conv2_1.png"
    assert capfd.readouterr().out.strip() == str(path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_link_in_the_runs_folder_is_not_written_through(run, tmp_path, capfd):
    precious = tmp_path / "precious"
    precious.write_text("mine")
    path = run / "conv2_0.png"
    path.unlink(missing_ok=True)
    path.symlink_to(precious)
    main(["biography", str(run), "--layer", "conv2", "--filter", "0"])
    assert precious.read_text() == "mine"
    assert path.read_bytes().startswith(b"\x89PNG")


def test_paths_that_no_terminal_can_show_are_said_all_the_same(run, tmp_path, capfd):
    out = tmp_path / "caf\udce9.png"
    main(["biography", str(run), "--layer", "conv2", "--filter", "1", "--out", str(out)])
    assert "caf\\udce9.png" in capfd.readouterr().out
    assert out.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--layer", "conv9", "--filter", "0"], "Did you mean"),
        (["--layer", "conv2"], "`lightning biography RUN --layer NAME --filter N`"),
    ],
)
def test_a_mistake_is_one_line(run, arguments, words, capfd):
    with pytest.raises(SystemExit) as ended:
        main(["biography", str(run), *arguments])
    assert ended.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert words in line
    assert not list(run.glob("*.png"))
