"""What labels and their columns promise."""

import pytest
from pydantic import TypeAdapter, ValidationError

from schemas.errors import DataError
from schemas.tasks.task import LabelNames, label_matrix

LABELS = ("grain", "wheat", "oil")


def test_columns_follow_the_label_order() -> None:
    """Column i is label i, and a label named twice counts once."""
    matrix = label_matrix([["oil"], [], ["wheat", "grain", "wheat"]], LABELS, source="a")

    assert matrix.tolist() == [[False, False, True], [False] * 3, [True, True, False]]


def test_unknown_label_names_file_row_and_nearest_label() -> None:
    """An unknown label is reported with its file, its row and the nearest label."""
    with pytest.raises(DataError, match=r"a\.parquet, row 1: unknown label 'whaet'") as caught:
        label_matrix([["oil"], ["whaet"]], LABELS, source="a.parquet")

    assert caught.value.hint == "did you mean 'wheat'?"


def test_strange_label_is_answered_with_the_known_ones() -> None:
    """A label close to nothing is answered with the list of labels."""
    with pytest.raises(DataError) as caught:
        label_matrix([["zzzzzz"]], LABELS, source="a")

    assert caught.value.hint == "known labels: 'grain', 'wheat', 'oil'"


def test_unknown_label_can_be_ignored() -> None:
    """On request an unknown label is left out and the rest of the row stays."""
    matrix = label_matrix([["oil", "gold"]], LABELS, source="a", ignore_unknown=True)

    assert matrix.tolist() == [[False, False, True]]


def test_no_rows_give_no_rows() -> None:
    """An empty list still has one column a label."""
    assert label_matrix([], LABELS, source="a").shape == (0, 3)


def test_a_label_that_is_no_text_is_refused() -> None:
    """Half of a surrogate pair, which JSON can spell, fits into no table."""
    with pytest.raises(ValidationError, match="cannot be written as UTF-8"):
        TypeAdapter(LabelNames).validate_python(("war", "\ud800"))
