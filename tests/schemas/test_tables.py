"""What the Arrow schemas promise."""

import pyarrow as pa
import pytest

from schemas.tables import is_text


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (pa.string(), True),
        (pa.large_string(), True),
        (pa.string_view(), True),
        (pa.binary(), True),
        (pa.large_binary(), True),
        (pa.binary_view(), True),
        (pa.dictionary(pa.int32(), pa.string()), True),
        (pa.dictionary(pa.int8(), pa.int64()), False),
        (pa.list_(pa.string()), False),
        (pa.int64(), False),
        (pa.null(), False),
    ],
)
def test_every_arrow_string_type_is_text(kind: pa.DataType, text: bool) -> None:
    """Strings, bytes that may hold them, and dictionaries of either; nothing else."""
    assert is_text(kind) is text
