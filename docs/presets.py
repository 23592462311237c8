"""Measures what the tokens ask of a learner: what a linear classifier gets, and when the VGG gets there.

make presets

Trains configs/regimes/lazy.yaml for 8 epochs with each preset of nuisances and each of three seeds, without probes, and
draws docs/pictures/presets.png. The table it prints is the one in docs/tokens.md.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import lightning_emerge as le
from lightning_emerge.data.grammar.shapes import SHAPES
from lightning_emerge.figures.canvas import TOKEN_COLOURS, new_figure

PICTURE = Path(__file__).parent / "pictures" / "presets.png"
PRESETS, SEEDS = ("easy", "default", "hard"), (0, 1, 2)
STRENGTHS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
VISIBLE = 4.0  # pixels of a part that must be seen
Curve = tuple[list[int], list[float]]


def linear(features: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> float:
    """Test accuracy of a logistic regression, as strong a penalty as is best in validation."""
    best = (-1.0, 0.0)
    for strength in STRENGTHS:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300))
        model.fit(features["train"], labels["train"])
        best = max(best, (model.score(features["val"], labels["val"]), model.score(features["test"], labels["test"])))
    return best[1]


def pixels(data: le.TokenDataModule, split: str) -> np.ndarray:
    images = [data.images(split, token, range(data.counts[split])) for token in data.tokens]
    return np.concatenate(images).reshape(sum(map(len, images)), -1).astype(np.float32)


def bag(data: le.TokenDataModule, split: str) -> np.ndarray:
    """Which shapes are seen among a token's parts: 0 or 1 (exemplar, shape)."""
    rows: list[np.ndarray] = []
    for token in data.tokens:
        table = data.latents(split, token, range(data.counts[split]))
        seen = np.zeros((len(table), len(SHAPES)))
        for part in range(data.grammar.arity):
            shown = table[f"part{part}_area"].to_numpy() >= VISIBLE
            shapes = table[f"part{part}_shape"].map(list(SHAPES).index)
            seen[np.flatnonzero(shown), shapes[shown]] = 1
        rows.append(seen)
    return np.concatenate(rows)


def train(folder: Path, preset: str, seed: int) -> Curve:
    """Validation accuracy over optimizer steps of one run."""
    command = [sys.executable, "-m", "lightning_emerge", "fit", "--config", "configs/vgg5.yaml"]
    command += ["--config", "configs/regimes/lazy.yaml", "--trainer.max_epochs", "8"]
    command += ["--model.scheduler.init_args.T_max", "8"]
    command += ["--seed_everything", str(seed), "--data.seed", str(seed), "--data.nuisances.preset", preset]
    command += ["--trainer.callbacks", "null", "--trainer.val_check_interval", "13"]
    command += ["--trainer.enable_progress_bar", "false", "--trainer.enable_checkpointing", "false"]
    command += ["--trainer.logger", "lightning.pytorch.loggers.CSVLogger", "--trainer.logger.save_dir", str(folder)]
    command += ["--trainer.logger.name", preset, "--trainer.logger.version", str(seed)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with (folder / preset / f"version_{seed}" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["val/accuracy"]]
    return [int(row["step"]) + 1 for row in rows], [float(row["val/accuracy"]) for row in rows]


def draw(curves: dict[tuple[str, int], Curve]) -> None:
    figure = new_figure(7.2, 3.6)
    axes = figure.subplots()
    for (preset, seed), (steps, accuracy) in curves.items():
        number = PRESETS.index(preset)
        label = preset if seed == SEEDS[0] else None
        axes.plot(steps, accuracy, color=TOKEN_COLOURS[number], linestyle=("-", "--", "-.")[number], label=label)
    axes.axhline(0.5, color="0.5", linewidth=0.8)
    axes.axhline(0.2, color="0.5", linewidth=0.8, linestyle=":")
    axes.text(axes.get_xlim()[1], 0.2, " chance", va="center", fontsize=8)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("optimizer steps")
    axes.set_ylabel("validation accuracy")
    axes.set_title("Three presets of nuisances, three seeds each", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(PICTURE, dpi=110)


def main() -> None:
    data = le.TokenDataModule()
    labels = {split: np.repeat(np.arange(len(data.tokens)), count) for split, count in data.counts.items()}
    splits = ("train", "val", "test")
    for name, features in (("bag of parts", bag), ("pixels", pixels)):
        print(f"linear on {name}: {linear({s: features(data, s) for s in splits}, labels):.3f}", flush=True)
    wanted = list(product(PRESETS, SEEDS))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        runs = pool.map(lambda one: train(Path(folder), *one), wanted)
        curves = dict(zip(wanted, runs, strict=True))
    draw(curves)
    print("| preset | seed | first validation above 0.5, step | accuracy at the end |\n|---|---|---|---|")
    for (preset, seed), (steps, accuracy) in curves.items():
        passed = next((step for step, value in zip(steps, accuracy, strict=True) if value > 0.5), None)
        print(f"| {preset} | {seed} | {passed} | {accuracy[-1]:.3f} |")


if __name__ == "__main__":
    main()
