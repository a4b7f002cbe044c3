"""What messages promise."""

import pytest

from schemas.errors import DataError, listing, nearest


def test_hint_follows_the_message() -> None:
    """An error shows its message and, on a line of its own, its hint."""
    error = DataError("a.parquet: no rows", hint="check the path")

    assert str(error) == "a.parquet: no rows\nhint: check the path"


def test_error_without_hint_is_its_message() -> None:
    """No empty hint is shown."""
    assert str(DataError("a.parquet: no rows")) == "a.parquet: no rows"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("narative", "narrative"), ("NARRATIVE", "narrative"), ("zzz", None), ("", None)],
)
def test_nearest_name_is_suggested(wanted: str, found: str | None) -> None:
    """A misspelt name finds its neighbour in any case; a strange one finds nothing."""
    assert nearest(wanted, ["narrative", "topics"]) == found


def test_long_listing_is_cut_and_counted() -> None:
    """A message names a dozen names and says how many are left."""
    shown = listing([f"l{number}" for number in range(15)])

    assert shown.count("'l") == 12
    assert shown.endswith(" and 3 more")


def test_listing_of_nothing_says_so() -> None:
    """No names read as the word none."""
    assert listing([]) == "none"
