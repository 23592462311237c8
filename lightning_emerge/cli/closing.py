"""What a fit leaves when it is over: lines that say how it went, and pictures of the whole run.

A module of its own, imported when it is needed, so that a fit begins without what it needs at its end.
"""

from __future__ import annotations

from collections.abc import Callable

from lightning.pytorch import Trainer
from matplotlib.figure import Figure

from lightning_emerge.analysis.embedding import last_scores
from lightning_emerge.analysis.emergence import summarise_run
from lightning_emerge.analysis.timeline import FILE as EMERGENCE
from lightning_emerge.analysis.timeline import draw_timeline, run_timeline, write_timeline
from lightning_emerge.engine.pictures import keep_picture
from lightning_emerge.probe import find_bank, probes_of
from lightning_emerge.probes.embedding import EmbeddingProbe
from lightning_emerge.sinks.tensorboard import tensorboard_sinks


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
    lines, picture = summarise_run(folder)
    if picture is not None:
        lines.append(_show(trainer, folder, "emergence", picture))
    if lines:
        lines += _afterwards(
            "The timeline", "; lightning_emerge.run_timeline tries again", lambda: _date(trainer, folder)
        )
    points = any(isinstance(probe, EmbeddingProbe) and probe.failed_at is None for probe in probes_of(trainer))
    if points:
        lines += _afterwards("The projector's points", "", lambda: _project(trainer, folder))
    for sink in tensorboard_sinks(trainer.loggers):
        sink.close()
    for line in [*lines, *_failures(trainer)]:
        print(line)
    print(f"Look      lightning board {folder}")
    if points:
        print(f"Embed     lightning embed {folder}")
    print(f"Report    lightning report {folder}")


def _show(trainer: Trainer, folder: str, name: str, picture: Figure) -> str:
    keep_picture(trainer, folder, name, picture)
    return f"Picture   {folder}/{name}.png"


def _afterwards(what: str, again: str, make: Callable[[], list[str]]) -> list[str]:
    """Makes something of the records of a run that is over, which is not lost if that cannot be made."""
    try:
        return make()
    except Exception as error:
        return [f"Failed    {what} could not be made{again}. {type(error).__name__}: {error}"]


def _date(trainer: Trainer, folder: str) -> list[str]:
    """Finds when all that was looked at emerged."""
    events = run_timeline(folder)
    picture = draw_timeline(folder, events)
    if picture is None:
        return []
    write_timeline(folder, events)
    return [f"Emerged   {folder}/{EMERGENCE}", _show(trainer, folder, "timeline", picture)]


def _project(trainer: Trainer, folder: str) -> list[str]:
    """Gives the points of the last look to TensorBoard's projector, each with its token and its image."""
    bank = find_bank(trainer, probes_of(trainer))
    assert bank is not None
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
