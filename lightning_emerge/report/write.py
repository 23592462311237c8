"""Writes a report: one page that needs no network and no script, and its pictures beside it."""

from __future__ import annotations

import base64
import os
import re
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from lightning_emerge.figures.canvas import to_files
from lightning_emerge.report.content import Picture, Report

PAGE, PICTURES = "report.html", "pictures"
_MOST = 9_000_000  # bytes of pictures in a page, which stays below 10 MB with its text
_LEAST = 560  # pixels below which a picture is not shrunk, but scrolls in its box


@dataclass(frozen=True)
class _Shown:
    """A picture as the page has it; without data it is only linked."""

    picture: Picture
    data: str
    width: int
    height: int

    @property
    def least(self) -> int:
        return min(self.width, _LEAST)


def check_folder(folder: str | Path) -> None:
    """Looks whether a report may go into a folder, and writes nothing.

    Args:
        folder: a new one, an empty one, or that of an earlier report.

    Raises:
        ValueError: if something else lies there, which the report would take away.
    """
    home = Path(folder)
    if not home.exists():
        _check_writable(home)
        return
    others = [] if home.is_dir() else [home.name]
    for path in home.rglob("*") if home.is_dir() else ():
        name = path.relative_to(home)
        if str(name) not in (PAGE, PICTURES) and not (name.parts[0] == PICTURES and path.suffix in (".png", ".svg")):
            others.append(str(name))
    if others:
        raise ValueError(
            f"A report takes the place of an earlier report only; {home} holds {sorted(others)[0]}. "
            "Name another folder, or move that away."
        )


def _check_writable(home: Path) -> None:
    parent = next(path for path in home.absolute().parents if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise OSError(f"A report is written to a new folder; {home} cannot be made in {parent}. Name another place.")


def write_report(report: Report, folder: str | Path) -> Path:
    """Writes a report's page, `report.html`, and its pictures as PNG and SVG files in `pictures/`.

    All of it is written beside the folder first and then takes its place, so that there is a whole report or none. The
    page holds its pictures: of each the smaller of its two files. Beyond 9 MB they are linked only, and named.

    Args:
        report: what `make_report` gives.
        folder: where it goes, in place of an earlier report.

    Returns:
        The path of the page.

    Raises:
        ValueError: if something that is no report lies there.
        OSError: if the folder cannot be written.
    """
    check_folder(folder)
    home = Path(folder).absolute()
    home.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{home.name}.", dir=home.parent))
    try:
        new.chmod(0o755)
        (new / PICTURES).mkdir()
        (new / PAGE).write_text(_page(report, new / PICTURES), encoding="utf-8")
        _take_place(new, home)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return Path(folder) / PAGE


def _take_place(new: Path, home: Path) -> None:
    """Puts a folder in the place of another, which comes back if that fails."""
    if not home.exists():
        new.rename(home)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{home.name}.old.", dir=home.parent))
    home.rename(old)  # onto an empty folder
    try:
        new.rename(home)
    except OSError:
        old.rename(home)
        raise
    shutil.rmtree(old)


def _page(report: Report, pictures: Path) -> str:
    shown: dict[str, list[_Shown]] = {}
    unseen: dict[str, list[str]] = {}
    room = _MOST
    for chapter in report.chapters:
        shown[chapter.id], unseen[chapter.id] = [], []
        for picture in chapter.section.pictures:
            try:
                made = _draw(picture, pictures, room)
            except Exception as error:  # a name that matplotlib cannot draw costs that picture alone
                unseen[chapter.id].append(f"{picture.name} could not be drawn: {type(error).__name__}: {error}")
                continue
            room -= len(made.data)
            shown[chapter.id].append(made)
            if not made.data:
                about = f"{picture.name} is beside the page and not in it, which stays below 10 MB so."
                unseen[chapter.id].append(about)
    generator = f"lightning_emerge {version('lightning_emerge')}"
    return _template().render(report=report, pictures=shown, unseen=unseen, generator=generator)


def _draw(picture: Picture, folder: Path, room: int) -> _Shown:
    with warnings.catch_warnings():
        # Names that are too long for a small picture are drawn all the same.
        warnings.filterwarnings("ignore", "constrained_layout not applied")
        png, svg = to_files(picture.figure)
    (folder / f"{picture.name}.png").write_bytes(png)
    (folder / f"{picture.name}.svg").write_bytes(svg)
    kind, content = ("svg+xml", svg) if len(svg) < len(png) else ("png", png)
    data = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    width, height = (round(inches * 100) for inches in picture.figure.get_size_inches())
    return _Shown(picture, data if len(data) <= room else "", width, height)


@cache
def _template() -> Template:
    loader = PackageLoader("lightning_emerge.report", "")
    page = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page.filters["code"] = _code
    return page.get_template("page.html")


def _code(sentence: str) -> Markup:
    """Escapes a sentence and sets what stands between backquotes as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(sentence))))
