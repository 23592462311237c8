"""What a report is made of: plain data, which the page lays out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A picture of a section.

    Attributes:
        name: of its files, without an ending; unique in the report.
        figure: what is drawn.
        alt: what it shows, in words, for who cannot see it.
        caption: how to read it: what the axes are, their units and ranges.
    """

    name: str
    figure: Figure
    alt: str
    caption: str


@dataclass(frozen=True)
class Table:
    """A table of a section.

    Attributes:
        caption: what its numbers are, with the unit.
        head: names of the columns.
        rows: cells; the first of each row names it.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Fold:
    """A text that is shown when it is asked for.

    Attributes:
        title: what it is.
        text: its lines.
    """

    title: str
    text: str


@dataclass
class Section:
    """One section of a report.

    Attributes:
        says: sentences that say what is seen, with units and ranges.
        pictures: its pictures.
        tables: its tables.
        folds: long texts.
        missing: sentences that name what is not there, and what would record it.
    """

    says: list[str] = field(default_factory=list[str])
    pictures: list[Picture] = field(default_factory=list[Picture])
    tables: list[Table] = field(default_factory=list[Table])
    folds: list[Fold] = field(default_factory=list[Fold])
    missing: list[str] = field(default_factory=list[str])


@dataclass(frozen=True)
class Chapter:
    """A section with its place in the report.

    Attributes:
        id: for links to it; a word.
        heading: its title.
        section: its content.
    """

    id: str
    heading: str
    section: Section


@dataclass(frozen=True)
class Report:
    """What a page says.

    Attributes:
        title: of the page.
        about: sentences under the title.
        chapters: the sections, in their order.
    """

    title: str
    about: Sequence[str]
    chapters: Sequence[Chapter]

    @property
    def missing(self) -> list[str]:
        """All that is not there."""
        return [sentence for chapter in self.chapters for sentence in chapter.section.missing]
