"""A run in a notebook: what it is, and the pictures that lie in its folder."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from lightning_emerge.store.folder import Folder
from lightning_emerge.store.regular import read_within

if TYPE_CHECKING:
    from lightning_emerge.store.read import Run

_FIRST = ("emergence.png", "timeline.png", "exemplars.png", "embedding.png")
"""Pictures that come before the others."""
_MOST, _PICTURES, _SIGNATURE = 1 << 24, 30, b"\x89PNG\r\n\x1a\n"


def show_run(run: Run) -> None:
    """Shows what a run is, and its pictures, below the cell that runs.

    Raises:
        ImportError: if IPython is not installed.
    """
    try:
        from IPython.display import HTML, Image, display
    except ImportError as error:
        raise ImportError(
            "A run is shown in a notebook, and none is installed. Install lightning_emerge[notebook], or write a page: "
            f"lightning report {run}"
        ) from error
    display(HTML(to_html(run)))
    for name in list_pictures(run):
        content = _read(run, name)
        if content is not None:
            display(Image(content, format="png", alt=name))


def list_pictures(run: Run) -> list[str]:
    """Names of the pictures in a run's folder, those of the whole run first."""
    names = [name for name in Folder(run.folder).names() if name.endswith(".png")]
    return sorted(names, key=lambda name: (name not in _FIRST, _FIRST.index(name) if name in _FIRST else 0, name))[
        :_PICTURES
    ]


def to_html(run: Run) -> str:
    """A table of what a run is; what lies in its folder may be a stranger's, and is shown as text."""
    steps, records = run.steps, sorted(map(str, run.records.data_vars))
    rows = {
        "Run": run.name,
        "Looks": f"{len(steps)}, steps {min(steps)} to {max(steps)}" if steps else "none",
        "Tokens": ", ".join(run.tokens),
        "Records": f"{len(records)}: {', '.join(records)}",
        "Pictures": ", ".join(list_pictures(run)),
        "Trouble": " ".join(run.trouble),
    }
    cells = "".join(
        f'<tr><th style="text-align:left;vertical-align:top">{key}</th>'
        f'<td style="text-align:left">{escape(value)}</td></tr>'
        for key, value in rows.items()
        if value
    )
    return f"<table>{cells}</table>"


def _read(run: Run, name: str) -> bytes | None:
    """A picture; None, which is said, if it is none that is safe to show."""
    try:
        content = read_within(run.folder, name, _MOST)
    except OSError as error:
        run.say(f"{name} of {run.name} cannot be read: {error}.")
    except ValueError as error:
        run.say(f"{name} of {run.name} cannot be read: it {error}.")
    else:
        if content.startswith(_SIGNATURE):
            return content
        run.say(f"{name} of {run.name} is no picture.")
    return None
