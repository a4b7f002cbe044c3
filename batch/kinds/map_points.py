"""Places of domains on the map of a report, in the units of its picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 720, 400
MARGIN = 30
SMALLEST, LARGEST = 3.0, 14.0
"""Radius of a domain by its rows: of the smallest, and of the largest one."""
LETTER, LINE = 6.4, 14.0
"""Width of a letter and height of a name, about."""
MOST_LETTERS = 40


@dataclass(frozen=True)
class MapPoint:
    """A domain. x, y: of its middle. name_x: where its name begins, or ends with `name_ends`; None
    where it would cover another name.
    """

    name: str
    rows: int
    x: float
    y: float
    radius: float
    name_x: float | None
    name_ends: bool

    @property
    def shown_name(self) -> str:
        """The name, cut where it is long."""
        return self.name if len(self.name) <= MOST_LETTERS else self.name[: MOST_LETTERS - 1] + "…"


def map_points(
    names: Sequence[str], places: Sequence[tuple[float, float]], rows: Sequence[int]
) -> list[MapPoint]:
    """Scale places into the picture, and name as many as fit, in the order given."""
    reach = max((abs(number) for place in places for number in place), default=0.0) or 1.0
    most = max(rows, default=1)
    taken: list[tuple[float, float, float, float]] = []
    points = []
    for name, (x, y), count in zip(names, places, rows, strict=True):
        at_x = WIDTH / 2 + x / reach * (WIDTH / 2 - MARGIN)
        at_y = HEIGHT / 2 - y / reach * (HEIGHT / 2 - MARGIN)
        radius = SMALLEST + (LARGEST - SMALLEST) * (count / most) ** 0.5
        point = MapPoint(name, count, at_x, at_y, radius, None, name_ends=False)
        length = LETTER * len(point.shown_name)
        ends = at_x + radius + length > WIDTH
        name_x = at_x - radius - 3 if ends else at_x + radius + 3
        left = name_x - length if ends else name_x
        box = (left, at_y - LINE / 2, left + length, at_y + LINE / 2)
        if left >= 0 and not any(_overlap(box, other) for other in taken):
            taken.append(box)
            point = MapPoint(name, count, at_x, at_y, radius, name_x, ends)
        points.append(point)
    return points


def _overlap(
    one: tuple[float, float, float, float], other: tuple[float, float, float, float]
) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
