"""Markdown pages: tables, and text from outside (labels, names, paths) that must stay text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from schemas.printable import printable

MOST_CELL_CHARACTERS = 300
"""Of a text from outside on a page; a longer one is cut."""

_ACTIVE = re.compile(
    r"[\\`*\[\]|~$@&!]"  # emphasis, code, links, tables, entities, mathematics, mentions
    r"|<(?=[a-z/!?])"  # HTML
    r"|(?<![^\W_])_|_(?![^\W_])"  # an underscore inside a word is only that
    r"|:(?=//)|(?<=www)\."  # addresses become links by themselves
    r"|^>|^[#+-](?=[\s#]|$)|^\d+(?=[.)](?:\s|$))",
    re.IGNORECASE,
)


class Markdown(str):
    """Text that is Markdown already, which `markdown_table` leaves as it is."""

    __slots__ = ()


def markdown_text(text: str) -> str:
    """Text from outside on one line, shown as it is by every reader of Markdown."""
    shown = printable(text)
    if len(shown) > MOST_CELL_CHARACTERS:
        shown = shown[: MOST_CELL_CHARACTERS - 1] + "…"
    return _ACTIVE.sub(_escaped, shown)


def markdown_code(text: str) -> str:
    """Text from outside as code, on one line; not for a table, where `|` would end the cell."""
    shown = printable(text) or " "
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    pad = " " if "`" in (shown[0], shown[-1]) else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def markdown_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers, ending in a line break."""
    lines = [heading, [Markdown("---"), *[Markdown("---:")] * (len(heading) - 1)], *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def score_text(value: float | None, digits: int = 3) -> str:
    """A score in [0, 1]; a dash where it is not defined."""
    return "–" if value is None else f"{value:.{digits}f}"


def percent(share: float) -> str:
    """A share as a whole number of percent, or with the digits it needs."""
    return f"{100 * share:g} %"


def _cell(text: str) -> str:
    return text if isinstance(text, Markdown) else markdown_text(text)


def _escaped(match: re.Match[str]) -> str:
    active = match[0]
    return f"{active}\\" if active.isdecimal() else f"\\{active}"
