"""`look`: one look at a network, without training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from torch import nn

from lightning_emerge.capture import is_process_zero
from lightning_emerge.capture.needs.base import complete
from lightning_emerge.capture.processes import place
from lightning_emerge.engine.conductor import Conductor
from lightning_emerge.engine.opening import closed_on_error
from lightning_emerge.engine.reporting import Sinks
from lightning_emerge.engine.session import check_budget, refuse_sharding
from lightning_emerge.engine.wrapped import unwrap
from lightning_emerge.loops.parts import check_probes, find_stimuli
from lightning_emerge.probe import Probe
from lightning_emerge.store.layout import STORE
from lightning_emerge.store.read import open_run
from lightning_emerge.store.write import ArraySink

if TYPE_CHECKING:
    import xarray as xr


def look(network: nn.Module, stimuli: Any, probes: Sequence[Probe]) -> xr.Dataset:
    """Looks at a network once, as it is.

    ::

        found = le.look(network, (images, labels), [le.SimilarityProbe(), le.CategoryProbe()])
        found.rdm.sel(layer="conv1").plot()

    Nothing of the network is changed, no random number is drawn, and nothing is kept on disk.

    Args:
        network: what is looked at.
        stimuli: as for `watch`.
        probes: what looks, whatever their schedules say.

    Returns:
        The records in memory, as `open_run` gives those of a run, but for the axis `step`: names, axes, units, ranges.
        In processes other than zero it is empty; every process calls this.

    Raises:
        ValueError: if a probe or the stimuli do not fit the network, or a look needs more memory than there is.
        Exception: what a probe raises.
    """
    import xarray as xr

    looking, network = check_probes(probes), unwrap(network)
    _refuse_training(looking)
    refuse_sharding(type(part).__name__ for part in network.modules())
    bank = find_stimuli(stimuli, looking)
    with TemporaryDirectory(prefix="lightning_emerge_") as folder, _raising(looking):
        sinks = Sinks([ArraySink(f"{folder}/{STORE}", None)]) if is_process_zero() else Sinks()
        with closed_on_error(sinks):
            conductor = Conductor(network, looking, bank, sinks, step=0)
        try:
            check_budget(conductor, place()[1])
            conductor.look(0, last=True)
            conductor.settle()
        finally:
            conductor.close()
        if conductor.writer is None:
            return xr.Dataset()
        with open_run(folder) as records:
            return records.load().isel(step=0, drop=True)


def _refuse_training(probes: Sequence[Probe]) -> None:
    for probe in probes:
        if any(need.training for need in complete(probe.needs)):
            raise ValueError(
                f"{type(probe).__name__} looks at the update that a training batch leads to; one look has none. Leave "
                "it out, or use lightning_emerge.watch."
            )


@contextmanager
def _raising(probes: Sequence[Probe]) -> Iterator[None]:
    """Has what probes raise raised: there is no training that is to go on."""
    with ExitStack() as stack:
        for probe in probes:
            stack.callback(setattr, probe, "on_error", probe.on_error)
            probe.on_error = "raise"
            probe.forget_notes()
        yield
