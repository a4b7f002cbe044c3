"""Pictures of training and calibration, in which names from outside are plain text."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from schemas.printable import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CHARACTERS = 60


def picture_text(text: str) -> str:
    """A name as matplotlib shows it literally, cut where it would not fit.

    Otherwise two dollar signs start a formula, which fails to draw where it is not one.
    """
    shown = printable(text)
    if len(shown) > MOST_CHARACTERS:
        shown = shown[: MOST_CHARACTERS - 1] + "…"
    return shown.replace("$", r"\$")


def save_picture(figure: Figure, path: Path | BinaryIO) -> None:
    """Write a figure as PNG; letters that its font lacks are drawn as boxes, without a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(path, dpi=130, format="png")
