"""Replay: probes look at the checkpoints that a run has left, as they would have looked at the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import nn

from lightning_emerge.engine.checkpoint_files import find_mismatch, read_checkpoint
from lightning_emerge.engine.conductor import LAYERS, PAST, Conductor
from lightning_emerge.engine.members import Looker
from lightning_emerge.engine.reporting import Sinks
from lightning_emerge.records import StimulusBank


def list_checkpoints(folder: Path) -> dict[int, Path]:
    """Finds the checkpoints in a folder, by their optimizer step, in its order; one of each step.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if a file is no checkpoint of Lightning's.
    """
    files = sorted(path for path in folder.glob("*.ckpt") if not path.name.startswith("."))
    if not files:
        raise FileNotFoundError(
            f"--checkpoints is a folder of .ckpt files, which lightning_emerge.Checkpoints saves; {folder} has none."
        )
    steps = {int(read_checkpoint(path)["global_step"]): path for path in files}
    return dict(sorted(steps.items()))


def replay(
    module: nn.Module,
    probes: Sequence[Looker],
    bank: StimulusBank | None,
    checkpoints: Mapping[int, Path],
    sinks: Sinks,
    advance: Callable[[], object],
) -> Conductor:
    """Looks with every probe at every checkpoint, whatever their schedules say.

    Args:
        module: what the checkpoints are of; it is left with the last one's weights.
        probes: none of which needs the training batch.
        bank: what they look at.
        checkpoints: as `list_checkpoints` gives them.
        sinks: where findings go; they are closed at the end.
        advance: called after each checkpoint.

    Returns:
        The conductor, for what the looks cost.

    Raises:
        ValueError: if a checkpoint does not fit the module.
    """
    step, first = next(iter(checkpoints.items()))
    layers = read_checkpoint(first).get(PAST, {}).get(LAYERS, {})
    conductor = Conductor(module, probes, bank, sinks, step=step, past={LAYERS: layers})
    try:
        for step, path in checkpoints.items():
            load_weights(module, path)
            conductor.look(step, last=True)
            advance()
        conductor.settle(show=True)
    finally:
        conductor.close()
    return conductor


def load_weights(module: nn.Module, path: Path) -> None:
    """Gives a module the weights of a checkpoint.

    Raises:
        ValueError: if they do not fit.
    """
    checkpoint = read_checkpoint(path)["state_dict"]
    try:
        module.load_state_dict(checkpoint)
    except RuntimeError as error:
        wrong = find_mismatch(module, checkpoint) or str(error).strip().splitlines()[-1].strip()
        raise ValueError(
            f"A checkpoint is of the network that the configuration makes; {path} is not: {wrong}."
        ) from None
