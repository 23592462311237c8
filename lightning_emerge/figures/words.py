"""Words in pictures: text from data is drawn letter by letter, and never read as a formula."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any
from unicodedata import category

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter

NAME, _LINE = 40, 120
"""Characters of a name along an axis or in a legend, and of any other line, that are drawn at most."""

_UNDRAWABLE = {"Cc", "Cs", "Zl", "Zp"}  # control characters, halves of surrogate pairs, ends of lines and paragraphs

# A script that the font lacks is drawn as boxes, and a name that is too long all the same: nobody can mend that here.
for _said in (r"Glyph \d+ ", "constrained_layout not applied"):
    warnings.filterwarnings("ignore", _said, UserWarning, module=r"lightning_emerge\.")


def printable(text: str, most: int = _LINE) -> str:
    """Makes text of any origin drawable: what has no letter is escaped, and long lines lose their middle.

    Args:
        text: of one line or several.
        most: characters of a line.
    """
    if len(text) <= most and text.isprintable():
        return text
    written = "".join(_escape(letter) for letter in text)
    return "\n".join(_shorten(line, most) for line in written.split("\n"))


def _escape(letter: str) -> str:
    if letter == "\n" or category(letter) not in _UNDRAWABLE:
        return letter
    return letter.encode("unicode_escape").decode()


def _shorten(line: str, most: int) -> str:
    head, tail = most // 2, most - most // 2 - 1
    return line if len(line) <= most else f"{line[:head]}…{line[-tail:]}"


class PlainFigure(Figure):
    """A figure that takes its words literally, whichever way it is drawn or saved."""

    def draw(self, renderer: Any) -> None:
        take_literally(self)
        super().draw(renderer)


def take_literally(figure: Figure) -> None:
    """Makes all words of a figure printable, and no formulas; numbers on axes stay matplotlib's own."""
    numbers = {id(text) for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for text in _numbers(axis)}
    names = {id(text) for legend in figure.findobj(Legend) for text in _texts(legend)}
    for text in figure.findobj(Text):
        if isinstance(text, Text) and id(text) not in numbers:
            take_text(text, NAME if id(text) in names else _LINE)


def take_text(text: Text, most: int = _LINE) -> None:
    """Makes one text printable, and no formula."""
    text.set_parse_math(False)
    if text.get_usetex():
        text.set_usetex(False)
    plain = printable(text.get_text(), most)
    if plain != text.get_text():
        text.set_text(plain)


def _texts(legend: Any) -> Iterator[Text]:
    yield from legend.get_texts()


class _Names(FuncFormatter):
    """What another formatter gives, printable."""

    def __init__(self, given: FuncFormatter) -> None:
        super().__init__(lambda value, position: printable(str(given(value, position)), NAME))


def _numbers(axis: Axis) -> Iterator[Text]:
    """The texts of an axis that matplotlib writes by itself; names along an axis become printable instead."""
    yield axis.offsetText
    formatter = axis.get_major_formatter()
    if isinstance(formatter, FuncFormatter):
        if not isinstance(formatter, _Names):
            axis.set_major_formatter(_Names(formatter))
        return
    for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks()):
        yield from (tick.label1, tick.label2)
