"""What several tests share: a small network, small data, a quiet trainer."""

from __future__ import annotations

import gc
import json
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from itertools import pairwise
from pathlib import Path
from typing import Any

# Small networks: threads cost more than they bring, most of all on a busy machine. Inherited by what tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Nothing that tests decode goes into the user's own cache.
os.environ["XDG_CACHE_HOME"] = str(Path(tempfile.gettempdir()) / "lightning_emerge_tests")
gc.disable()  # until all is imported and collected

import numpy as np
import pytest
import torch
from children import end_ready
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image

import lightning_emerge as le
from lightning_emerge.data.dataset import Exemplars
from lightning_emerge.records.names import join_pair
from lightning_emerge.store.write import ArraySink

SIDE = 16


def pytest_collection_finish(session: pytest.Session) -> None:
    """Looks for garbage from here on, more seldom, and not in what was imported: that took a fifth of a second."""
    gc.freeze()
    gc.set_threshold(10_000)
    gc.enable()


def pytest_unconfigure(config: pytest.Config) -> None:
    end_ready()
    gc.unfreeze()  # or what was imported is called leaked at the end


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("browser") and shutil.which("chromium") is None:
        if os.environ.get("CI"):
            pytest.fail("Tests in a browser run where changes are judged; `chromium` is not found. Install it.")
        pytest.skip("Chromium is not installed")


@cache
def _small_splits() -> Mapping[str, Exemplars]:
    """Rendered once for all tests."""
    return le.TokenDataModule(val_exemplars=4, test_exemplars=4, bank_exemplars=3, image_size=SIDE).load()


@pytest.fixture
def make_data() -> Callable[..., le.TokenDataModule]:
    def make(**changes: Any) -> le.TokenDataModule:
        settings = {"val_exemplars": 4, "test_exemplars": 4, "bank_exemplars": 3, "image_size": SIDE, "batch_size": 20}
        data = le.TokenDataModule(**{**settings, **changes})
        if not changes:
            data._splits = _small_splits()
        return data

    return make


@pytest.fixture
def make_photographs(tmp_path: Path) -> Callable[..., le.FolderDataModule]:
    """Makes photographs that differ from each other, in a folder for each name."""

    def make(*tokens: str, each: int = 14, **changes: Any) -> le.FolderDataModule:
        random = np.random.default_rng(0)
        for token in tokens:
            folder = tmp_path / "photographs" / token
            folder.mkdir(parents=True)
            for number in range(each):
                Image.fromarray(random.integers(0, 255, (SIDE, SIDE, 3), np.uint8)).save(folder / f"{number}.png")
        settings = {"image_size": SIDE, "batch_size": 4, "min_exemplars": 2, "bank_exemplars": 2, "cache": None}
        return le.FolderDataModule(str(tmp_path / "photographs"), **{**settings, **changes})

    return make


@pytest.fixture
def make_model() -> Callable[..., le.TokenClassifier]:
    def make(seed: int = 0, **changes: Any) -> le.TokenClassifier:
        seed_everything(seed, verbose=False)
        settings = {"plan": [1, 1], "width": 4, "head": [8], "image_size": SIDE, "batch_norm": True, "dropout": 0.5}
        return le.TokenClassifier(le.VGG(**{**settings, **changes}), lambda p: torch.optim.Adam(p, lr=1e-3))

    return make


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    def make(callbacks: list[Any], **changes: Any) -> Trainer:
        settings: dict[str, Any] = {
            "accelerator": "cpu",
            "devices": 1,
            "max_steps": 5,
            "limit_val_batches": 0,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
            "logger": TensorBoardLogger(tmp_path, name="", version="run"),
        }
        return Trainer(callbacks=callbacks, **{**settings, **changes})

    return make


class _Said(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What Lightning's loggers say; pytest does not hear them if they were imported before it listened."""
    logger, handler = logging.getLogger("lightning.pytorch"), _Said()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler.messages
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture
def all_probes() -> Callable[[le.Schedule], list[le.Probe]]:
    def make(schedule: le.Schedule) -> list[le.Probe]:
        of_loss = (le.TokenGradientProbe, le.GradientNoiseProbe, le.CurvatureProbe)
        of_layers = (le.FilterProbe, le.TopExemplarProbe, le.SimilarityProbe, le.EmbeddingProbe, le.CouplingProbe)
        of_parts = (le.PartProbe, le.AblationProbe, le.RegimeProbe)
        kinds = (le.CategoryProbe, le.GradientProbe, *of_layers, *of_parts, *of_loss)
        quick = le.MaximisationProbe(schedule, filters=2, iterations=2, on_error="raise")
        return [*(kind(schedule=schedule, on_error="raise") for kind in kinds), quick]

    return make


@pytest.fixture(scope="session")
def tab_env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which a TensorBoard finds the Emerge tab, also where the installation is older than that.

    Two entry points of one name would keep TensorBoard from starting, so that none is added where there is one.
    """
    paths = [str(Path(le.__file__).parents[1])]
    if "emerge" not in entry_points(group="tensorboard_plugins").names:
        about = tmp_path_factory.mktemp("entry") / "emerge_entry-0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text("Metadata-Version: 2.1\nName: emerge-entry\nVersion: 0\n")
        target = "lightning_emerge.board.loader:EmergeLoader"
        (about / "entry_points.txt").write_text(f"[tensorboard_plugins]\nemerge = {target}\n")
        paths.append(str(about.parent))
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])}


RUN_STEPS = (0, 1, 3, 10, 20, 50)
RISES = (10, 20)
"""The look from which on the first and the second token are known in a made-up run."""


@cache
def declared_records() -> Mapping[str, le.Record]:
    """What the package's probes record by default, by name."""
    kinds = [kind for name in le.__all__ if name.endswith("Probe") and (kind := getattr(le, name)) is not le.Probe]
    records = [record for kind in kinds for record in kind.records]
    return {record.name: record for record in reversed(records)}  # of several by arguments, the first


def _made_up_records(
    step: int, tokens: tuple[str, ...], layers: tuple[str, ...], random: np.random.Generator
) -> Iterator[le.Measurement]:
    """What probes would record of a network of which some numbers are planted and the others are noise."""
    stimuli, filters, count = 3 * len(tokens), 4, len(layers)
    notes = {"token": [token for token in tokens for _ in range(3)]}
    ids = [f"bank/{k}" for k in range(stimuli)]
    layer, token, filter_ = le.Axis("layer", layers), le.Axis("token", tokens), le.Axis("filter", range(filters))
    pair = (le.Axis("stimulus", ids, notes=notes), le.Axis("stimulus_b", ids))
    couples = le.Axis("pair", [join_pair(*pair) for pair in pairwise(layers)])
    own = {"kind": ["part", "part", "pair"], "tokens": [tokens[0], tokens[1], tokens[1]]}
    feature = le.Axis("feature", ["disk", "bar", "disk+bar"], notes=own)
    part = le.Axis("part", feature.labels[:2], notes={name: note[:2] for name, note in own.items()})
    rises = [RISES[k % 2] for k in range(len(tokens))]
    known = np.array([0.9 if step >= rise else 0.1 for rise in rises])
    points = random.normal(size=(count, stimuli, 5))
    distances = np.linalg.norm(points[:, :, None] - points[:, None], axis=-1)
    sides = tuple(le.Axis(name, range(3)) for name in ("channel", "y", "x"))
    crops = (layer, le.Axis("filter", range(2)), le.Axis("exemplar", [1]), *sides)
    kernels = (le.Axis("layer", layers[:1]), le.Axis("filter", range(4)), *sides)
    tops = (layer, filter_, le.Axis("exemplar", [1]))
    selectivity = np.full((count, filters), 0.3)
    response = np.full((count, filters, len(tokens)), 0.1)
    selectivity[0, 0], response[0, 0] = 0.99, [0.01, *[0.0] * (len(tokens) - 1)]  # nearly silent
    for k in range(len(tokens)):  # the last layer's filter k is that of token k
        response[-1, k % 2, k] = 0.9
        selectivity[-1, k % 2] = 0.8
    selective = selectivity >= 0.5
    if count > 1:  # a filter that no more than chance makes look selective
        selectivity[0, 1], response[0, 1, 0], selective[0, 1] = 0.95, 0.95, False
    found: dict[str, tuple[Any, tuple[le.Axis, ...]]] = {
        "bank_accuracy": (known, (token,)),
        "bank_accuracy_mean": (known.mean(), ()),
        "bank_confidence": (known, (token,)),
        "rdm": (2 * distances / distances.max(), (layer, *pair)),
        "distances": (distances, (layer, *pair)),
        "variance_share": (np.full((count, 2), 0.5), (layer, le.Axis("component", [1, 2]))),
        "model_fit": (random.uniform(size=(count, 2)), (layer, le.Axis("model", ["token", "pixels"]))),
        "kernels": (random.normal(size=(1, 4, 3, 3, 3)) / 4, kernels),
        "selective_share": (random.uniform(size=(count, len(tokens))), (layer, token)),
        "class_selectivity": (selectivity, (layer, filter_)),
        "filter_selective": (selective, (layer, filter_)),
        "filter_response": (response, (layer, filter_, token)),
        "top_token": (np.zeros((count, filters, 1)), tops),
        "top_crop": (random.uniform(size=(count, 2, 1, 3, 3, 3)), crops),
        "coupling_edges": (
            random.uniform(size=(count - 1, 2)),
            (couples, le.Axis("kind", ["weight", "effective"])),
        ),
        "coupling_effective": (
            random.normal(size=(count - 1, filters, filters)),
            (couples, *(le.Axis(f"filter_{end}", range(filters)) for end in ("out", "in"))),
        ),
        "filter_part_auc": (random.uniform(0.5, 1, (count, filters, 3)), (layer, filter_, feature)),
        "ablation_drop": (random.uniform(size=(count, 2, len(tokens))), (layer, part, token)),
        "ablation_control": (np.zeros((count, 2, len(tokens))), (layer, le.Axis("draw", [0, 1]), token)),
    }
    features = (layer, feature)
    found |= {
        name: (random.uniform(0.5, 1, (count, 3)), features)
        for name in ("part_auc", "part_filter_auc", "part_transfer")
    }
    for name in (
        *("ridge_accuracy", "nearest_mean_accuracy", "silhouette", "participation_ratio", "distance_ratio"),
        *("collapse_variability", "collapse_norms", "collapse_angles", "collapse_disagreement"),
        *("gradient_norm", "update_ratio", "start_distance", "dead_share"),
        *("kernel_alignment", "kernel_token_alignment", "start_cka", "turned_share"),
    ):
        found[name] = (random.uniform(0.1, 1, count) + (name == "participation_ratio"), (layer,))
    # Planted: half of the first kernel is left, and a quarter of the filters have turned, at the end.
    found |= {
        f"{name}_total": (1 + (end - 1) * step / RUN_STEPS[-1] if name == "kernel_alignment" else end, ())
        for name, end in (("kernel_alignment", 0.5), ("kernel_token_alignment", 0.4), ("turned_share", 0.25))
    }
    for name, (values, axes) in found.items():
        yield declared_records()[name].of(np.asarray(values, dtype=np.float32), *axes)


def _make_up_run(
    folder: Path,
    tokens: tuple[str, ...],
    layers: tuple[str, ...],
    seed: int,
    without: tuple[str, ...],
    steps: tuple[int, ...],
    exemplars: int,
) -> None:
    random = np.random.default_rng(seed)
    sink = ArraySink(folder / "records.zarr", None)
    for step in steps:
        records = _made_up_records(step, tokens, layers, random)
        sink.write(step, [record for record in records if record.name not in without])
    sink.close()
    (folder / "config.yaml").write_text(
        f"# lightning.pytorch==2.6.6\nseed_everything: {seed}\ntrainer: {{max_epochs: 2}}\nmodel:\n"
        "  class_path: lightning_emerge.TokenClassifier\n  init_args:\n    network:\n"
        "      class_path: lightning_emerge.VGG\n      init_args: {plan: vgg11, width: 4}\n"
        f"data: {{class_path: lightning_emerge.TokenDataModule, init_args: {{seed: 7, exemplars: {exemplars}}}}}\n"
    )
    rows = {"CategoryProbe": {"looks": 6, "seconds": 2.0, "beside": 1.0}}
    fit = {"began": 0, "step": steps[-1], "seconds": 40.0, "rows": rows, "weights": 1234567, "device": "cpu"}
    fit |= {"metrics": {"val/accuracy": 0.75}, "versions": {"torch": "2.15.0"}}
    (folder / "fit.json").write_text(json.dumps(fit))


@pytest.fixture(scope="session")
def _made_up_runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Each made once for all tests."""

    @cache
    def make(*what: Any) -> Path:
        folder = tmp_path_factory.mktemp("made_up")
        _make_up_run(folder, *what)
        return folder

    return make


@pytest.fixture
def make_run(_made_up_runs: Callable[..., Path]) -> Callable[..., Path]:
    """Makes the folder of a run without training one."""

    def make(
        folder: Path,
        *,
        tokens: tuple[str, ...] = ("dax", "wug"),
        layers: tuple[str, ...] = ("conv1", "conv2", "fc"),
        seed: int = 0,
        without: tuple[str, ...] = (),
        steps: tuple[int, ...] = RUN_STEPS,
        exemplars: int = 500,
        ended: bool = True,
    ) -> Path:
        shutil.copytree(_made_up_runs(tokens, layers, seed, without, steps, exemplars), folder)
        if not ended:
            (folder / "fit.json").unlink()
        return folder

    return make


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield disk
    subprocess.run(["umount", disk], check=True)
