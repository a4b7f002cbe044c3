"""Text of errors."""

import pytest

from schemas.errors import DataError, listing, nearest


def test_hint_follows_the_message() -> None:
    """An error shows its message and, on a separate line, its hint."""
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
    """A misspelled name has a suggestion whatever its case; an unrelated name has none."""
    assert nearest(wanted, ["narrative", "topics"]) == found


def test_long_listing_is_cut_and_counted() -> None:
    """A message lists a dozen names and the number of all others."""
    shown = listing([f"l{number}" for number in range(15)])

    assert shown.count("'l") == 12
    assert shown.endswith(" and 3 more")


def test_empty_listing_is_none() -> None:
    """An empty listing is the word none."""
    assert listing([]) == "none"
