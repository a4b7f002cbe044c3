"""What the Arrow schemas promise."""

import pyarrow as pa
import pytest

from schemas.tables import is_text, prediction_fields, reserved_columns


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


def test_the_schema_of_predictions_does_not_depend_on_the_labels() -> None:
    """Added columns are those that a corpus may not have, of the same types for every model."""
    fields = prediction_fields({"topics": ("oil", "grain")})

    assert {field.name for field in fields} == set(reserved_columns(["topics"]))
    assert fields == prediction_fields({"topics": ("gold",)})


def test_a_struct_has_one_field_a_label_in_order() -> None:
    """On request; and probabilities can be left out."""
    labels = {"topics": ("oil", "grain")}
    struct = pa.struct([("oil", pa.float32()), ("grain", pa.float32())])
    (kind,) = (one.type for one in prediction_fields(labels, "struct") if "prob" in one.name)

    assert kind == struct
    assert not [one for one in prediction_fields(labels, "none") if "prob" in one.name]


def test_predictions_of_several_tasks_have_their_names() -> None:
    """Each task has columns of its own, in order, before those that all rows have."""
    labels = {"topics": ("oil",), "roles": ("hero", "victim")}

    assert [(field.name, str(field.type)) for field in prediction_fields(labels)][:4] == [
        ("topics_labels", "list<item: string>"),
        ("topics_probabilities", "map<string, float>"),
        ("roles_labels", "list<item: string>"),
        ("roles_probabilities", "map<string, float>"),
    ]
    assert reserved_columns(list(labels)) == tuple(one.name for one in prediction_fields(labels))
