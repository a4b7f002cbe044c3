"""What the Arrow schemas promise."""

import pyarrow as pa
import pytest

from schemas.tables import RESERVED, is_text, prediction_fields


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


def test_predictions_have_one_probability_a_label_in_order() -> None:
    """Added columns are those that a corpus may not have, labels in the order of the task."""
    fields = prediction_fields(("oil", "grain"))
    probabilities = next(field.type for field in fields if field.name == "probabilities")

    assert {field.name for field in fields} == set(RESERVED)
    assert [(one.name, one.type) for one in probabilities] == [
        ("oil", pa.float32()),
        ("grain", pa.float32()),
    ]
