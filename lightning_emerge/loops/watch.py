"""`watch`: probes in a training loop of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

from torch import nn

from lightning_emerge.engine.loop import Loop
from lightning_emerge.loops.closing import conclude
from lightning_emerge.loops.parts import check_probes, find_stimuli, shown_in
from lightning_emerge.probe import Probe


def watch(
    network: nn.Module,
    probes: Sequence[Probe],
    stimuli: Any,
    folder: str | Path,
    optimizers: Any = (),
    *,
    steps_per_epoch: float | None = None,
    loggers: Any = (),
) -> Loop:
    """Watches a network in a training loop of one's own, plain or Fabric's.

    ::

        with le.watch(network, [le.CategoryProbe()], (images, labels), "runs/plain", optimizer) as watch:
            for images, labels in batches:
                optimizer.zero_grad()
                cross_entropy(network(images), labels).backward()
                optimizer.step()
                watch.step()

    Weights, optimizer and random numbers are the same, bit by bit, as without it. The network is looked at when the
    block begins, after the steps that schedules name, and when it ends; the folder then has what a fit leaves: records,
    `fit.json`, `emergence.json`, pictures. A block that an error or Ctrl-C ends leaves what was found before.

    Args:
        network: what is trained, with its weights where they are going to be.
        probes: what looks.
        stimuli: what they look at: a `StimulusBank`; a `Stimuli`, or what it takes first, such as a tensor or a folder;
            or a pair of that and labels. None if no probe looks at any.
        folder: of the run, or an fsspec URL. It has no records yet, unless the run resumes.
        optimizers: that train the network, one or several. Their steps are then counted, so that those that a gradient
            scaler leaves out are not, and probes can look at updates; otherwise each call of `step` is a step.
        steps_per_epoch: optimizer steps, for schedules in epochs.
        loggers: where findings go besides: a `SummaryWriter`, a logger of Lightning or Fabric, or several.

    Raises:
        ValueError: if a probe, the stimuli or an optimizer does not fit the network.
    """
    looking = check_probes(probes)
    loop = Loop(
        network,
        looking,
        find_stimuli(stimuli, looking),
        str(folder),
        optimizers=optimizers if isinstance(optimizers, Sequence) else [optimizers],
        shown=shown_in(loggers),
        steps_per_epoch=inf if steps_per_epoch is None else steps_per_epoch,
        conclude=partial(conclude, str(folder)),
    )
    for probe in looking:
        probe.forget_notes()
    return loop
