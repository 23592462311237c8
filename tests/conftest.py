"""What several tests share: a small network, small data, a quiet trainer."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

# Small networks: threads cost more than they bring, most of all on a busy machine. Inherited by what tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Nothing that tests decode goes into the user's own cache.
os.environ["XDG_CACHE_HOME"] = str(Path(tempfile.gettempdir()) / "lightning_emerge_tests")

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import TensorBoardLogger

import lightning_emerge as le
from lightning_emerge.data.dataset import Exemplars

SIDE = 16


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
        of_parts = (le.PartProbe, le.AblationProbe)
        kinds = (le.CategoryProbe, le.GradientProbe, *of_layers, *of_parts, *of_loss)
        quick = le.MaximisationProbe(schedule, filters=2, iterations=2, on_error="raise")
        return [*(kind(schedule=schedule, on_error="raise") for kind in kinds), quick]

    return make
