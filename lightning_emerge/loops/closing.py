"""What a loop leaves when it has ended: when things emerged, pictures of the whole run, a line on how to open it."""

from __future__ import annotations

from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn
from matplotlib.figure import Figure

from lightning_emerge.engine.pictures import leave_picture, show_in
from lightning_emerge.engine.reporting import Sinks
from lightning_emerge.store.read import Run


def conclude(folder: str, shown: Sinks) -> None:
    """Leaves what a fit leaves, on process zero. What fails is said, and costs nothing else.

    Args:
        folder: of the run, or an fsspec URL.
        shown: where pictures go besides.
    """
    try:
        run = Run(folder)
    except FileNotFoundError:  # no probe has looked
        return
    except Exception as error:
        rank_zero_warn(f"The records of the run could not be read again. {type(error).__name__}: {error}")
        return
    step = max(run.steps, default=0)
    for name, make in (("emergence", _emergence), ("timeline", _timeline)):
        try:
            picture = make(run)
            if picture is not None:
                show_in(shown.boards, shown.loggers, step, name, leave_picture(folder, name, picture))
        except Exception as error:  # the run is over, and its records are there
            rank_zero_warn(f"{name}.png could not be made. {type(error).__name__}: {error}")
    rank_zero_info(
        f"Open the run with `lightning board {folder}`, `lightning report {folder}` or "
        f"lightning_emerge.open_run({folder!r})."
    )


def _emergence(run: Run) -> Figure | None:
    from lightning_emerge.analysis.emergence import summarise_run

    return summarise_run(run)[1]


def _timeline(run: Run) -> Figure | None:
    from lightning_emerge.analysis.timeline import draw_timeline, run_timeline, write_timeline

    events = run_timeline(run)
    if events:
        write_timeline(run.folder, events)
    return draw_timeline(run, events)
