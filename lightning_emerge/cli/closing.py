"""What a fit leaves when it is over: lines that say how it went, and pictures of the whole run.

A module of its own, imported when it is needed, so that a fit begins without what it needs at its end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from lightning.pytorch import Trainer
from matplotlib.figure import Figure

from lightning_emerge.analysis.embedding import last_scores
from lightning_emerge.analysis.emergence import summarise_run
from lightning_emerge.analysis.timeline import FILE as EMERGENCE
from lightning_emerge.analysis.timeline import Event, draw_timeline, run_timeline, tell_tokens, write_timeline
from lightning_emerge.engine.bank import find_bank
from lightning_emerge.engine.pictures import keep_picture
from lightning_emerge.probe import probes_of
from lightning_emerge.probes.embedding import EmbeddingProbe
from lightning_emerge.sinks.tensorboard import TensorBoardSink, tensorboard_sinks
from lightning_emerge.store.places import is_url, to_local


def close_fit(trainer: Trainer, folder: str, seconds: float) -> None:
    """Says what came of a fit, and draws what its records say of the whole run.

    Args:
        trainer: of the fit, on process zero.
        folder: of the run.
        seconds: that training took.
    """
    accuracy = trainer.callback_metrics.get("val/accuracy")
    print(f"\nRun       {folder}")
    print(f"Trained   {trainer.global_step} optimizer steps in {seconds / 60:.1f} minutes", end="")
    print(f"; validation accuracy {float(accuracy):.3f}" if accuracy is not None else "")
    lines = _try("What the records show", "", lambda: _summarise(trainer, folder))
    if any(line.startswith("Records") for line in lines):
        lines += _try("The timeline", "; lightning_emerge.run_timeline tries again", lambda: _date(trainer, folder))
    points = any(isinstance(probe, EmbeddingProbe) and probe.failed_at is None for probe in probes_of(trainer))
    if points:
        lines += _try("The projector's points", "", lambda: _project(trainer, folder))
    for sink in tensorboard_sinks(trainer.loggers):
        lines += _try("The event file", "", lambda sink=sink: _close(sink))
    for line in [*_missing(folder), *lines, *_failures(trainer)]:
        print(line)
    print(f"Look      lightning board {folder}")
    if points:
        print(f"Embed     lightning embed {folder}")
    print(f"Report    lightning report {folder}")


def _try(what: str, again: str, make: Callable[[], list[str]]) -> list[str]:
    """Makes something of a run that is over, which is not lost if that cannot be made."""
    try:
        return make()
    except Exception as error:
        said = " ".join(str(error).split())
        return [f"Failed    {what} could not be made{again}. {type(error).__name__}: {said}"]


def _missing(folder: str) -> list[str]:
    if is_url(folder) or os.path.isdir(to_local(folder)):
        return []
    return [f"Missing   {folder} was renamed or removed while the run went on; what it had written went with it"]


def _summarise(trainer: Trainer, folder: str) -> list[str]:
    lines, picture = summarise_run(folder)
    if picture is not None:
        lines += _try("emergence.png", "", lambda: _show(trainer, folder, "emergence", picture))
    return lines


def _show(trainer: Trainer, folder: str, name: str, picture: Figure) -> list[str]:
    keep_picture(trainer, folder, name, picture)
    return [f"Picture   {folder}/{name}.png"]


def _close(sink: TensorBoardSink) -> list[str]:
    sink.close()
    return []


def _date(trainer: Trainer, folder: str) -> list[str]:
    """Finds when all that was looked at emerged."""
    events = run_timeline(folder)
    if not events:
        return []
    write_timeline(folder, events)
    tokens = tell_tokens(events)
    said = ["Tokens    at optimizer step (95% interval)", *(f"          {line}" for line in tokens)] if tokens else []
    return [*said, f"Emerged   {folder}/{EMERGENCE}", *_try("timeline.png", "", lambda: _draw(trainer, folder, events))]


def _draw(trainer: Trainer, folder: str, events: Sequence[Event]) -> list[str]:
    picture = draw_timeline(folder, events)
    return [] if picture is None else _show(trainer, folder, "timeline", picture)


def _project(trainer: Trainer, folder: str) -> list[str]:
    """Gives the points of the last look to TensorBoard's projector, each with its token and any image."""
    bank = find_bank(trainer, probes_of(trainer))
    assert bank is not None
    thumbnails = None
    if bank.pictured:
        images = bank.images.float().cpu()
        low, high = images.amin(), images.amax()
        thumbnails = ((images - low) / (high - low).clamp(min=1e-9)).numpy()
    tokens = [bank.tokens[label] for label in bank.labels.tolist()]
    layers = last_scores(folder)
    for sink in tensorboard_sinks(trainer.loggers):
        for layer, scores in layers.items():
            sink.write_points(trainer.global_step, layer, scores, tokens, thumbnails)
    return []


def _failures(trainer: Trainer) -> list[str]:
    failed = [probe for probe in probes_of(trainer) if probe.failed_at is not None]
    return [f"Failed    {type(probe).__name__} is off since step {probe.failed_at}" for probe in failed]
