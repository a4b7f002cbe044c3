"""Parsing of JSON that may be damaged or hostile."""

from __future__ import annotations

import json

import pytest

from schemas.io.json_values import MAX_DEPTH, parse_json


@pytest.mark.parametrize("depth", [1, MAX_DEPTH])
def test_ordinary_nesting_is_parsed(depth: int) -> None:
    """Lists and objects count as levels, and values inside them do not."""
    text = '{"a":' + "[" * (depth - 1) + "1" + "]" * (depth - 1) + "}"

    assert parse_json(text) == json.loads(text)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 400, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_deep_nesting_is_refused(depth: int, opening: str, closing: str) -> None:
    """With a ValueError, below and above the limit of the parser itself."""
    with pytest.raises(ValueError, match="nested more than 50 levels deep"):
        parse_json(opening * depth + "1" + closing * depth)


def test_text_that_is_not_json_is_refused() -> None:
    """With the ValueError of the parser."""
    with pytest.raises(ValueError, match="Expecting"):
        parse_json("{")
