"""docs/add-a-probe.md: its code, run as a reader would run it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from children import run_group
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import lightning_emerge as le
from lightning_emerge.capture import needs
from lightning_emerge.figures.canvas import to_pixels
from lightning_emerge.figures.frames import give_back

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "add-a-probe.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def _run(folder: Path, *command: str) -> str:
    ended = run_group([sys.executable, *command], cwd=folder, ready=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the page says to save, and the run that it says to make."""
    folder = tmp_path_factory.mktemp("reader")
    (folder / "my_probes.py").write_text(_blocks("python")[0])
    (folder / "my_probe.yaml").write_text(_blocks("yaml")[0])
    (folder / "configs").symlink_to(ROOT / "configs")
    _run(folder, "-m", "lightning_emerge", *_words(_blocks("sh")[0]))
    return folder


def _words(command: str) -> list[str]:
    return command.replace("\\\n", " ").split()[1:]


def test_the_cheap_picture_is_drawn_anew_on_the_same_figure():
    names: dict[str, Any] = {}
    exec(_blocks("python")[-1], names)
    layers, drawn = le.Axis("layer", ["conv1", "fc"]), []
    for step, values in enumerate(np.array([[0.1, 0.9], [0.7, 0.2]])):
        figure = names["draw_silence"](le.Measurement("silence", values, (layers,), step))
        drawn.append((figure, to_pixels(figure)))
        give_back(figure)
    assert drawn[0][0] is drawn[1][0]
    assert (drawn[0][1] != drawn[1][1]).any()


def test_the_table_names_every_need_and_what_it_finds():
    named = dict(re.findall(r"^\| `(\w+)\(\)` \| (.*) \|$", PAGE, re.MULTILINE))
    shipped = {name: getattr(needs, name) for name in needs.__all__ if name not in ("Need", "Rows", "Sums")}
    assert named.keys() == shipped.keys()
    for name, need in shipped.items():
        assert all(f"`{found}`" in named[name] for found in need.finds), name
        assert ("`bank`" in named[name]) == need.bank or name == "Latents", name


def test_a_need_of_ones_own_is_looked_for(make_data, make_model, make_trainer, tmp_path):
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(_blocks("python")[5], names)
    probe = names["LoudnessProbe"](le.At([0]), ["conv1_1"], on_error="raise")
    model, data = make_model(), make_data()
    data.setup("fit")
    with torch.no_grad():
        rows = model.eval().network.conv1_1(data.stimulus_bank().images).flatten(1)
    make_trainer([probe], max_steps=1).fit(model.train(), datamodule=data)
    found = le.open_run(tmp_path / "run").loudness.isel(step=0)
    np.testing.assert_allclose(found, [rows.sort(dim=1).values[:, -5:].mean()], rtol=1e-5)


@pytest.mark.slow
def test_the_probe_is_recorded_and_drawn(home):
    run = home / "runs" / "smoke" / "version_0"
    silence = le.open_run(run).silence
    assert silence.shape == (8, 8)
    assert 0 < float(silence.mean()) < 1
    events = EventAccumulator(str(run), {"images": 0, "scalars": 0})
    events.Reload()
    assert len(events.Images("silence")) == 8
    assert len(events.Scalars("silence/conv1_1")) == 8


@pytest.mark.slow
def test_replay_gives_what_it_gave_live(home):
    said = _run(home, "-m", "lightning_emerge", *_words(_blocks("sh")[1]))
    assert "GradientProbe, which needs the training batch" in said
    run = home / "runs" / "smoke" / "version_0"
    live, replayed = le.open_run(run).load(), le.open_run(run / "replay_0").load()
    common = np.intersect1d(live.step, replayed.step)
    assert common.tolist()[:2] == [0, 1]
    assert common.tolist()[-1] == 20
    np.testing.assert_array_equal(replayed.silence.sel(step=common), live.silence.sel(step=common))


@pytest.mark.slow
def test_a_plain_trainer_and_a_resnet(home):
    printed = _run(home, "-c", _blocks("python")[2])
    assert re.search(r"\[0?\.\d+ ", printed)
    said = _run(home, "-c", _blocks("python")[3])
    assert re.search(r"layer\S*\s+conv1\s+layer1\s+layer2\s+layer3\s+layer4", said)
    assert "NaN" not in said
