"""`replay`: probes at a series of checkpoints, anyone's, as if they had been in the run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn
from torch import nn

from lightning_emerge.capture import is_process_zero
from lightning_emerge.capture.needs.base import complete
from lightning_emerge.engine import replay as engine
from lightning_emerge.engine.bars import tqdm
from lightning_emerge.engine.opening import leave_thumbnails, open_sinks
from lightning_emerge.engine.session import refuse_sharding
from lightning_emerge.engine.weight_files import Checkpoints, list_checkpoints
from lightning_emerge.engine.wrapped import unwrap
from lightning_emerge.loops.closing import conclude
from lightning_emerge.loops.parts import check_probes, find_stimuli, shown_in
from lightning_emerge.probe import Probe
from lightning_emerge.store.read import Run


def replay(
    network: nn.Module,
    checkpoints: Checkpoints,
    probes: Sequence[Probe],
    stimuli: Any,
    folder: str | Path,
    *,
    prefix: str = "",
    loggers: Any = (),
) -> Run:
    """Looks with probes at a series of checkpoints, which thereby is a run.

    ::

        run = le.replay(network, "others/checkpoints", [le.SimilarityProbe()], (images, labels), "runs/others")
        run.show()

    Probes that need the training batch are left out, and that is said. Files are read as tensors and plain values
    alone: nothing in them is run.

    Args:
        network: what the checkpoints are of, on the device and with the precision that it had in training. It is left
            with the weights of the last.
        checkpoints: a folder of `.pt`, `.pth`, `.ckpt` or `.safetensors` files, or of folders that Hugging Face's
            Trainer saves; several such files or folders; or a mapping of steps to them. Otherwise the step is the
            `global_step` in a file or folder, or else the last number of its name.
        probes: what looks, at each checkpoint, whatever their schedules say.
        stimuli: as for `watch`.
        folder: of the run, or an fsspec URL, in which there are no records yet.
        prefix: what names of weights begin with in the checkpoints and not in the network; other weights are left out.
            One that all names share, such as `module.`, need not be given.
        loggers: as for `watch`.

    Returns:
        The run, in process zero and all others.

    Raises:
        FileNotFoundError: if there is no checkpoint.
        ValueError: if a checkpoint is none, does not fit the network or has no step or that of another; if a probe or
            the stimuli do not fit; or if the folder has records.
    """
    looking, network = _choose(check_probes(probes)), unwrap(network)
    refuse_sharding(type(part).__name__ for part in network.modules())
    found = list_checkpoints(checkpoints)
    bank = find_stimuli(stimuli, looking)
    step, first = next(iter(found.items()))
    engine.load_weights(network, first, prefix)  # before anything is written
    for probe in looking:
        probe.check(network)
        probe.forget_notes()
    shown = shown_in(loggers)
    sinks = open_sinks(str(folder), shown, step, network, new=True)
    leave_thumbnails(str(folder), bank)
    with tqdm(total=len(found), unit="checkpoint", disable=not is_process_zero()) as bar:
        conductor = engine.replay(network, looking, bank, found, sinks, bar.update, prefix)
    rank_zero_info("\n".join(["What the probes cost:", *conductor.costs.table()]))
    if is_process_zero():
        conclude(str(folder), shown)
    return Run(folder)


def _choose(probes: Sequence[Probe]) -> list[Probe]:
    """Leaves out what looks at training batches, of which checkpoints have none."""
    training = [probe for probe in probes if any(need.training for need in complete(probe.needs))]
    names = ", ".join(type(probe).__name__ for probe in training)
    if len(training) == len(probes):
        raise ValueError(f"A replay looks with probes that do not need the training batch; there is only {names}.")
    if training:
        rank_zero_warn(f"Left out of the replay: {names}, as it needs the training batch.")
    return [probe for probe in probes if probe not in training]
