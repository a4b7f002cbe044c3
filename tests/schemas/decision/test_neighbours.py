"""What nearest reference texts promise: order, rows without any, and numbers that must be right."""

import numpy as np
import pyarrow as pa
import pytest

from schemas.decision.neighbours import NEIGHBOURS_TYPE, Neighbours, nearest_of_windows

IDS = pa.array(["a", "b", "c"])
OUTPUTS = np.array([[0.9, 0.5, 2, 0], [0.5, 0.5, 2, 1], [1.0000001, -0.25, 1, 0]], np.float32)


def test_equal_similarities_come_by_number() -> None:
    """The lower reference number is first; a cosine that rounding puts above 1 is 1."""
    neighbours = Neighbours.of_outputs(OUTPUTS, IDS)

    assert neighbours.answers() == [
        (("c", np.float32(0.9)), ("a", 0.5)),
        (("b", 0.5), ("c", 0.5)),
        (("b", 1.0), ("a", -0.25)),
    ]


def test_rows_that_were_not_scored_are_null() -> None:
    """Other rows keep their neighbours, in the order that they are taken in."""
    neighbours = Neighbours.of_outputs(OUTPUTS, IDS)
    taken = neighbours.take(np.array([2, -1, 0])).followed_by([neighbours.take(np.array([-1]))])
    column = taken.column(np.array([True, False, True, False]))
    column.validate(full=True)
    ids = [row and [one["id"] for one in row] for row in column.to_pylist()]

    assert column.type == NEIGHBOURS_TYPE
    assert ids == [["b", "a"], None, ["c", "a"], None]


def test_no_rows_are_an_empty_column() -> None:
    """The type is the same."""
    column = Neighbours.of_outputs(OUTPUTS[:0], IDS).column(np.zeros(0, np.bool_))

    assert column.type == NEIGHBOURS_TYPE
    assert len(column) == 0


@pytest.mark.parametrize("number", [3.0, -1.0, 0.5])
def test_what_is_not_the_number_of_a_reference_is_refused(number: float) -> None:
    """The message has the number, and how many there are."""
    with pytest.raises(ValueError, match=f"names the reference {number:g}; there are 3"):
        Neighbours.of_outputs(np.array([[0.9, number]], np.float32), IDS)


def test_neighbours_of_a_text_are_those_of_its_windows() -> None:
    """Each reference once, the nearest first, of equal ones the lower number."""
    windows = np.array([[0.5, 0.2, 7, 3], [0.5, 0.3, 4, 3]], np.float32)

    assert nearest_of_windows(windows).tolist() == [0.5, 0.5, 4, 7]
    assert nearest_of_windows(windows[1:]).tolist() == pytest.approx([0.5, 0.3, 4, 3])
