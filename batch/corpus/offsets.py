"""Entity offsets as integers, from columns of any numeric type and from digits in text."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pyarrow as pa

from batch.corpus.decode import decode_text
from schemas.printable import printable
from schemas.tables import is_text

SHOWN_CHARS = 40
WHOLE_NUMBER = re.compile(r"\s*([+-]?[0-9]{1,18})(\.0*)?\s*")


@dataclass(frozen=True)
class BadOffset:
    """A value that is not a whole number. reason: reason for quarantine."""

    reason: str


def read_offsets(column: pa.Array, name: str) -> list[int | BadOffset | None]:
    """Offsets of each row; None for null, and a BadOffset for a value that is not a whole number.

    pandas stores integers as doubles where one is missing; columns from CSV files have digits.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    values = decode_text(column) if is_text(column.type) else column.to_pylist()
    return [_offset(value, name) for value in values]


def _offset(value: object, name: str) -> int | BadOffset | None:
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, str):
        digits = WHOLE_NUMBER.fullmatch(value)
        if digits:
            return int(digits[1])
    else:
        try:
            whole = int(value)  # type: ignore[call-overload]  # a float or a Decimal
        except (ValueError, OverflowError):  # NaN, infinity
            pass
        else:
            if whole == value:
                return int(whole)
    shown = printable(str(value)[:SHOWN_CHARS])
    return BadOffset(f"entity offset `{name}` is {shown!r}, not a whole number")
