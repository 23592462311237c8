"""How well tokens are classified in the end, from records."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lightning_emerge.analysis.emergence import draw_emergence, summarise_run
from lightning_emerge.records import Axis, Measurement
from lightning_emerge.store.write import ArraySink

NAN = float("nan")


def write(folder: Path, steps: list[int], accuracy: object, confidence: object) -> None:
    """Records of a run with two tokens."""
    tokens = Axis("token", ["dax", "wug"])
    sink = ArraySink(folder / "records.zarr", None)
    for step, *rows in zip(steps, accuracy, confidence, strict=True):
        names = zip(("bank_accuracy", "bank_confidence"), rows, strict=True)
        found = [Measurement(name, np.asarray(row, dtype=np.float32), (tokens,), step) for name, row in names]
        sink.write(step, [*found, Measurement("gradient_norm", np.ones(()), (), step)])
    sink.close()


ACCURACY = [[0, 0], [0.5, 0], [1, 0], [1, 0.5]]
CONFIDENCE = [[0.1, 0.2], [0.6, 0.2], [0.7, 0.4], [0.9, 0.3]]


def test_a_run_is_summed_up_and_drawn(tmp_path):
    write(tmp_path, [0, 10, 20, 35], ACCURACY, CONFIDENCE)
    (records, bank), picture = summarise_run(tmp_path)
    assert "4 looks, 3 measures" in records
    assert str(tmp_path / "records.zarr") in records
    assert bank == "Bank      accuracy 0.750 (chance 0.500)"
    upper = {line.get_label(): line for line in picture.axes[0].get_lines()}
    np.testing.assert_allclose(upper["wug"].get_ydata(), [0, 0, 0, 0.5])


@pytest.mark.parametrize(
    ("steps", "line"), [([5, 9], ["Regime    kernel alignment with step 5: 0.25 (1 is lazy)"]), ([5], [])]
)
def test_what_is_left_of_the_kernel_is_summed_up(steps, line, tmp_path):
    sink = ArraySink(tmp_path / "records.zarr", None)
    for step, value in zip(steps, (1.0, 0.25), strict=False):
        sink.write(step, [Measurement("kernel_alignment_total", np.array(value), (), step)])
    sink.close()
    lines, picture = summarise_run(tmp_path)
    assert lines[1:] == line
    assert picture is None


def test_steps_at_which_the_bank_was_not_looked_at_do_not_count(tmp_path):
    gap = [NAN, NAN]
    accuracy, confidence = ([first, gap, *rest, gap] for first, *rest in (ACCURACY, CONFIDENCE))
    write(tmp_path, [0, 5, 10, 20, 35, 40], accuracy, confidence)
    (_, bank), picture = summarise_run(str(tmp_path))
    assert "accuracy 0.750" in bank
    assert picture.axes[0].get_lines()[0].get_xdata().tolist() == [0, 10, 20, 35]


def test_a_run_that_diverged_tells_nothing_right_for_sure(tmp_path):
    # All logits are NaN at the last look: some label is still the largest, but no probability is a number.
    write(tmp_path, [0, 10, 20], [[0, 0], [1, 1], [1, 0]], [[0.1, 0.1], [0.9, 0.9], [NAN, NAN]])
    (_, bank), _ = summarise_run(tmp_path)
    assert "accuracy 0.500" in bank


def test_a_token_without_stimuli_does_not_cost_the_summary(tmp_path):
    write(tmp_path, [0, 10], [[0, NAN], [1, NAN]], [[0.1, NAN], [0.9, NAN]])
    (_, bank), picture = summarise_run(tmp_path)
    assert "accuracy 1.000" in bank
    curves = [line.get_ydata() for line in picture.axes[0].get_lines()[:2]]
    np.testing.assert_allclose(curves, [[0, 1], [NAN, NAN]])


def test_a_run_without_records_has_nothing_to_say(tmp_path):
    assert summarise_run(tmp_path) == ([], None)


def test_a_run_without_a_look_at_the_tokens_says_what_there_is(tmp_path):
    sink = ArraySink(tmp_path / "records.zarr", None)
    for step in range(3):
        sink.write(step, [Measurement("gradient_norm", np.ones(()), (), step)])
    sink.close()
    (line,), picture = summarise_run(tmp_path)
    assert "3 looks, 1 measures" in line
    assert picture is None


def test_a_run_that_ended_before_its_first_look_can_be_summed_up(tmp_path):
    ArraySink(tmp_path / "records.zarr", 0)
    _, picture = summarise_run(tmp_path)
    assert picture is None


@pytest.mark.parametrize(("steps", "tokens"), [([0, 3, 10, 200], 4), ([0], 5), ([7], 1), ([0, 5, 20, 50_000], 12)])
def test_each_token_has_its_curve_and_chance_is_one_over_the_tokens(steps, tokens):
    accuracy, confidence = np.random.default_rng(0).uniform(size=(2, len(steps), tokens))
    names = [f"token{k}" for k in range(tokens)]
    figure = draw_emergence(steps, accuracy, confidence, names)
    for axes, values in zip(figure.axes, (accuracy, confidence), strict=True):
        drawn = {str(line.get_label()): line for line in axes.get_lines()}
        assert list(drawn) == [*names, "mean", "chance"]
        for k, name in enumerate(names):
            np.testing.assert_array_equal(drawn[name].get_xdata(), steps)
            np.testing.assert_array_equal(drawn[name].get_ydata(), values[:, k])
        np.testing.assert_allclose(drawn["mean"].get_ydata(), [np.mean(row) for row in values])
        assert list(drawn["chance"].get_ydata()) == [1 / tokens] * 2
        (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
        assert left < 0 <= max(steps) < right
        assert low < 0
        assert high > 1
    upper, lower = figure.axes
    assert upper.get_ylabel() == "share of stimuli classified correctly"
    assert lower.get_ylabel() == "probability of the right token"
    assert "optimizer steps" in lower.get_xlabel()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [*names, "mean", "chance"]


def test_the_mean_is_of_the_tokens_that_were_measured():
    values = np.array([[NAN, NAN], [0.5, NAN], [1, 0.5]])
    (upper, _) = draw_emergence([0, 1, 2], values, values, ["a", "b"]).axes
    mean = next(line for line in upper.get_lines() if line.get_label() == "mean")
    np.testing.assert_array_equal(mean.get_ydata(), [NAN, 0.5, 0.75])
