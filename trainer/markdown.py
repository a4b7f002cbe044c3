"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def markdown_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers, ending in a line break."""
    lines = [heading, ["---", *["---:"] * (len(heading) - 1)], *rows]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def score_text(value: float | None, digits: int = 3) -> str:
    """A score in [0, 1]; a dash where it is not defined."""
    return "–" if value is None else f"{value:.{digits}f}"


def percent(share: float) -> str:
    """A share as a whole number of percent, or with the digits it needs."""
    return f"{100 * share:g} %"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
