"""What tests of whole runs share."""

from __future__ import annotations

import copy
import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import open_browser
from children import run_group

# The contrast of two colours (WCAG 2.2), of each text against what lies behind it; the least of all, with its words.
_LEAST_CONTRAST = """selectors => {
  const parts = colour => colour.match(/[0-9.]+/g).map(Number);
  const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = rgb => rgb.slice(0, 3).map(v => linear(v / 255))
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const behind = node => { for (; node; node = node.parentElement) {
    const rgb = parts(getComputedStyle(node).backgroundColor); if (rgb.length < 4 || rgb[3] > 0) return rgb; }
    return [255, 255, 255]; };
  let least = [99, ""];
  for (const node of document.body.querySelectorAll(selectors)) {
    const one = light(parts(getComputedStyle(node).color)), other = light(behind(node));
    const contrast = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    if (node.textContent.trim() && contrast < least[0]) least = [contrast, node.textContent.slice(0, 60)];
  }
  return least; }"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Headless Chromium, for the tests of a module."""
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run of configs/smoke.yaml and what it printed, for all tests of all workers; not to be written to."""
    own = tmp_path_factory.getbasetemp()
    home = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "smoke"
    home.mkdir(exist_ok=True)
    said = home / "said"
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            config = Path(__file__).parents[2] / "configs" / "smoke.yaml"
            command = [sys.executable, "-m", "lightning_emerge", "fit", "--config", config]
            ended = run_group(command, cwd=home, ready=True)
            assert ended.returncode == 0, ended.stderr
            said.write_text(ended.stdout)
    return home / "runs" / "smoke" / "version_0", said.read_text()


@pytest.fixture
def least_contrast() -> Callable[[Any, str], tuple[float, str]]:
    """The least contrast among the texts that selectors find in a page, with its words."""

    def find(frame: Any, selectors: str) -> tuple[float, str]:
        contrast, words = frame.locator("body").evaluate(f"(_, selectors) => ({_LEAST_CONTRAST})(selectors)", selectors)
        return contrast, words

    return find


def _probe(name: str) -> dict[str, Any]:
    looks = {"class_path": "lightning_emerge.EverySteps", "init_args": {"n": 4}}
    return {"class_path": f"lightning_emerge.{name}", "init_args": {"schedule": looks, "on_error": "raise"}}


CONFIGURATION: dict[str, Any] = {
    "seed_everything": 0,
    "model": {
        "class_path": "lightning_emerge.TokenClassifier",
        "init_args": {
            "network": {
                "class_path": "lightning_emerge.VGG",
                "init_args": {
                    "plan": [1, 1],
                    "width": 4,
                    "head": [8],
                    "image_size": 16,
                    "batch_norm": True,
                    "dropout": 0.5,
                },
            },
            "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 1e-3}},
            "scheduler": {
                "class_path": "torch.optim.lr_scheduler.CosineAnnealingLR",
                "init_args": {"T_max": 7},
            },
        },
    },
    "data": {
        "class_path": "lightning_emerge.TokenDataModule",
        "init_args": {"val_exemplars": 4, "test_exemplars": 4, "bank_exemplars": 4, "image_size": 16},
    },
    "trainer": {
        "accelerator": "cpu",
        "devices": 1,
        "num_sanity_val_steps": 0,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "logger": {
            "class_path": "lightning.pytorch.loggers.CSVLogger",
            "init_args": {"save_dir": "runs", "name": "killed"},
        },
        "callbacks": [
            {"class_path": "pace.Pace"},
            *map(_probe, ("CategoryProbe", "GradientProbe", "FilterProbe", "TopExemplarProbe")),
            *map(_probe, ("SimilarityProbe", "EmbeddingProbe")),
            {"class_path": "lightning_emerge.Checkpoints", "init_args": {"last_every": 6}},
        ],
    },
}


@pytest.fixture(scope="session")
def configuration() -> dict[str, Any]:
    """That of a small run with most probes, and with `pace.Pace`, which the test writes; not to change."""
    return CONFIGURATION


@pytest.fixture
def small_run(configuration: dict[str, Any]) -> dict[str, Any]:
    """The same, to change."""
    return copy.deepcopy(configuration)
