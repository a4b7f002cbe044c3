"""What a task that gives vectors promises: its column, and a config without labels."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError

from schemas.arrays import Float32Array
from schemas.kinds.embedding import EmbeddingDecision, EmbeddingKind, EmbeddingOptions, Vectors

KIND = EmbeddingKind()


def decided(*vectors: list[float]) -> Vectors:
    """Answers of some rows."""
    outputs: list[Float32Array] = [np.array(vector, np.float32) for vector in vectors]
    return KIND.decide(outputs, (), EmbeddingDecision(dimension=2), [])


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_the_column_has_the_type_that_fields_promise(rows: int) -> None:
    """A list of fixed size, whatever form probabilities have."""
    answers = decided(*[[1.0, 2.0]] * rows)
    (column,) = answers.columns(np.ones(rows, np.bool_), "none")
    (field,) = KIND.fields((), 2, "map")

    assert column.type == field.type == pa.list_(pa.float32(), 2)
    assert column.to_pylist() == [[1.0, 2.0]] * rows


def test_rows_without_an_answer_are_null() -> None:
    """Quarantined and empty rows have no vector; the others keep theirs."""
    taken = decided([1.0, 2.0], [3.0, 4.0]).take(np.array([1, -1, 0]))
    (column,) = taken.columns(np.array([True, False, True]), "map")

    assert column.to_pylist() == [[3.0, 4.0], None, [1.0, 2.0]]
    assert len(taken.followed_by([taken, taken])) == 9


def test_a_vector_is_the_answer() -> None:
    """It has no labels and no probabilities."""
    (answer,) = decided([1.0, 2.0]).answers()

    assert answer.labels == ()
    assert answer.probabilities is None
    assert answer.embedding is not None
    assert answer.embedding.tolist() == [1.0, 2.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "sum"}, "pooling"),
        ({"layers": 0}, "layers"),
        ({"dimension": 0}, "dimension"),
        ({"loss": {"name": "ce"}}, "loss"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, object], message: str) -> None:
    """The message has the key."""
    with pytest.raises(ValidationError, match=message):
        EmbeddingOptions.model_validate(options)
