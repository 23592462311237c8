"""Promise 10: nothing that is not ours is touched, by any command, wherever a link leads."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from subprocess import STDOUT
from typing import Any

import pytest
import yaml
from children import run_group

RUN = "runs/own/version_0"


def _probe(name: str, **init: Any) -> dict[str, Any]:
    looks = {"class_path": "lightning_emerge.EverySteps", "init_args": {"n": 2}}
    return {"class_path": f"lightning_emerge.{name}", "init_args": {"schedule": looks, **init}}


def _configuration(save_dir: str = "runs", name: str = "own", steps: int = 4) -> str:
    network = {"plan": [1, 1], "width": 4, "head": [8], "image_size": 16}
    content = {
        "seed_everything": 0,
        "model": {
            "class_path": "lightning_emerge.TokenClassifier",
            "init_args": {
                "network": {"class_path": "lightning_emerge.VGG", "init_args": network},
                "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-3}},
            },
        },
        "data": {
            "class_path": "lightning_emerge.TokenDataModule",
            "init_args": {"val_exemplars": 4, "test_exemplars": 4, "bank_exemplars": 4, "image_size": 16},
        },
        "trainer": {
            "max_steps": steps,
            "accelerator": "cpu",
            "devices": 1,
            "num_sanity_val_steps": 0,
            "limit_val_batches": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "logger": {
                "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
                "init_args": {"save_dir": save_dir, "name": name},
            },
            "callbacks": [
                *map(_probe, ("CategoryProbe", "GradientProbe", "FilterProbe", "SimilarityProbe", "EmbeddingProbe")),
                {"class_path": "lightning_emerge.Checkpoints", "init_args": {"last_every": 2}},
            ],
        },
    }
    return yaml.safe_dump(content)


def run(folder: Path, *commands: list[str]) -> list[tuple[int, str]]:
    """Gives commands in a folder, one after the other; gives their status and what they said."""
    program = [sys.executable, "-m", "lightning_emerge"]
    ended = [run_group([*program, *words], cwd=folder, ready=True, stderr=STDOUT) for words in commands]
    return [(one.returncode, one.stdout) for one in ended]


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


FIT = ["fit", "--config", "run.yaml"]
RESUME = [*FIT, "--trainer.max_steps", "8", "--ckpt_path", f"{RUN}/checkpoints/last.ckpt"]
AGAIN = [*RESUME, "--trainer.logger.init_args.version", "0"]
EMBED, REPORT = ["embed", RUN, "--looks", "2"], ["report", RUN]
REPLAY = ["replay", "--config", f"{RUN}/config.yaml", "--checkpoints", f"{RUN}/checkpoints", "--out", f"{RUN}/again"]
BIOGRAPHY = ["biography", RUN, "--layer", "conv1_1", "--filter", "0"]
COMMANDS = (EMBED, REPORT, REPLAY, BIOGRAPHY, AGAIN)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    (folder / "run.yaml").write_text(_configuration())
    for status, said in run(folder, FIT, EMBED):
        assert status == 0, said
    return folder


FILES = (".png", ".json", ".new", ".part", ".lock")
PLACES = {
    "the store": ["records.zarr"],
    "what is in the store": [
        "records.zarr/layer",
        "records.zarr/rdm",
        "records.zarr/half",
        "records.zarr/.zarr.json.new",
    ],
    "what comes of the records": ["embedding/records.zarr", "report", ".records.zarr.lock", "embedding.png"],
    "folders and files": [
        *("embedding", "again"),
        *("checkpoints/.last.ckpt.part", ".embedding.png.new", ".emergence.json.new", ".fit.json.new"),
        *(".stimuli.png.new", "emergence.json", "fit.json", "stimuli.png"),
    ],
}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", PLACES)
def test_what_is_behind_a_link_keeps_its_bytes_through_all_commands(trained, tmp_path, kind):
    home, canary = tmp_path / "home", tmp_path / "thesis"
    shutil.copytree(trained, home)
    canary.mkdir()
    for name, content in {"chapter.txt": "precious", "c.0": "a chunk?", "zarr.json": '{"attributes": {}}'}.items():
        (canary / name).write_text(content)
    before = everything(canary)
    for place in PLACES[kind]:
        link = home / RUN / place
        link.parent.mkdir(exist_ok=True)
        if link.is_dir():
            shutil.rmtree(link)
        link.unlink(missing_ok=True)
        link.symlink_to(canary / "chapter.txt" if link.suffix in FILES else canary)
    for words, (status, said) in zip(COMMANDS, run(home, *COMMANDS), strict=True):
        assert status in (0, 2), f"{words}: {said}"
        assert "Traceback" not in said
    left = everything(canary)
    # In a folder that the user has linked to, something new may be made.
    assert (left if kind != "folders and files" else {name: left[name] for name in before if name in left}) == before


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_run_of_any_name_is_in_the_folder_of_that_name_and_touches_no_other(tmp_path):
    """fsspec would take what is before `::`, and clear it."""
    for precious in ("exp", "vgg5", "runs/vgg5", "x", "b", "q/exp"):
        (tmp_path / precious).mkdir(parents=True)
        (tmp_path / precious / "notes.txt").write_text("precious")
    places = {
        "exp::lr0.1/own": ("exp::lr0.1", "own"),
        "runs/vgg5::lr0.1": ("runs", "vgg5::lr0.1"),
        "q/a:b/own": (f"{tmp_path}/q/a:b", "own"),
    }
    for number, given in enumerate(places.values()):
        (tmp_path / f"{number}.yaml").write_text(_configuration(*given))
    fits = [["fit", "--config", f"{number}.yaml"] for number in range(len(places))]
    for words, (status, said) in zip(fits, run(tmp_path, *fits), strict=True):
        assert status == 0, f"{words}: {said}"
    for place in places:
        left = {path.name for path in (tmp_path / place / "version_0").iterdir()}
        assert {"records.zarr", "checkpoints", "config.yaml", "emergence.json", "fit.json"} <= left
        assert (tmp_path / place / "version_0/checkpoints/last.ckpt").is_file()
    for precious in ("exp", "vgg5", "runs/vgg5", "x", "b", "q/exp"):
        assert {path.name for path in (tmp_path / precious).iterdir()} == {"notes.txt"}
    made = {path.name for path in tmp_path.iterdir() if path.suffix != ".yaml"}
    assert made == {"exp::lr0.1", "exp", "vgg5", "runs", "x", "b", "q"}
    run_folder = "exp::lr0.1/own/version_0"
    more = [
        ["embed", run_folder, "--looks", "2"],
        ["report", run_folder],
        ["biography", run_folder, "--layer", "conv1_1", "--filter", "0"],
        ["fit", "--config", "0.yaml", "--ckpt_path", "last", "--trainer.max_steps", "6"],
    ]
    for words, (status, said) in zip(more, run(tmp_path, *more), strict=True):
        assert status == 0, f"{words}: {said}"
    assert (tmp_path / run_folder / "embedding/records.zarr/zarr.json").is_file()
    assert {path.name for path in (tmp_path / "exp").iterdir()} == {"notes.txt"}
