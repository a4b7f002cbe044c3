"""What the page is made of: sections with tables and pictures."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from trainer.evaluation.pictures import save_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Table:
    """Rows of text; the first column is a name, the others are numbers or more text."""

    heading: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A PNG. caption: what is to be seen in it, for those who cannot see it too."""

    caption: str
    png: bytes

    @classmethod
    def of(cls, figure: Figure, caption: str) -> Picture:
        """Draw a figure, and close it."""
        from matplotlib import pyplot

        buffer = BytesIO()
        save_picture(figure, buffer)
        pyplot.close(figure)
        return cls(caption, buffer.getvalue())

    @property
    def data_url(self) -> str:
        """The picture inside a page."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode('ascii')}"


@dataclass(frozen=True)
class Section:
    """One question about the corpus, and its answer."""

    title: str
    text: str
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()


def percent_of(part: int, whole: int) -> str:
    """A share of rows in percent."""
    return f"{100 * part / max(whole, 1):.1f} %"
