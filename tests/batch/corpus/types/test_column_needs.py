"""Columns that a task needs: a bad value quarantines its row, unread columns are not checked."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batch.corpus.plan import make_plan
from batch.corpus.reader import ChunkReader
from batch.corpus.tasks import RunTasks
from schemas.errors import CorpusError
from schemas.text.model_text import TextSpec
from tests.batch.planning import SPEC, column, options, planned
from tests.label_tasks import KIND

Write = Callable[..., Path]

NS = pa.timestamp("ns")


def test_columns_that_are_not_copied_may_have_any_type(write: Write) -> None:
    """Calibration reads text and gold only, so no other column can cause a refusal."""
    columns = {"at": column([1], NS), "status": ["x"], "Text": ["y"]}
    tasks = RunTasks({"narrative": KIND}, {})
    corpus = write({"text": ["aid"], **columns})
    plan = make_plan(options(corpus), tasks, SPEC, keep_columns=False)

    assert plan.rows == 1
    assert plan.kept.names == []


def test_invalid_utf8_in_a_pass_through_column_quarantines_its_row(write: Write) -> None:
    """polars could not read the part; nested strings are checked, bytes are not."""
    bad = pa.array([b"a", b"\xff", b"c"])
    nested = pa.ListArray.from_arrays(
        [0, 1, 2, 3], pa.array([b"a", b"b", b"\xff"]).view(pa.string())
    )
    views = pa.array([b"a", b"\xff", b"c"], pa.binary_view()).view(pa.string_view())
    columns = {"author": bad.view(pa.string()), "views": views, "tags": nested, "raw": bad}
    corpus = write({"text": ["aid"] * 3, **columns})
    plan = planned(corpus)
    rows = ChunkReader(plan, options(corpus), SPEC, max_tokens=64).read(plan.chunks[0])

    assert [text is None for text in rows.texts] == [False, True, True]
    assert rows.reasons[0] is None
    assert "column 'author' is not UTF-8" in str(rows.reasons[1]) or "'views'" in str(
        rows.reasons[1]
    )
    assert rows.reasons[2] == "column 'tags' is not UTF-8"


def test_a_title_that_is_not_read_may_be_of_any_type(write: Write) -> None:
    """A task without titles ignores the column; one with titles reports the type."""
    corpus = write({"text": ["aid"], "title": [1]})

    assert planned(corpus, spec=TextSpec(title=False)).kept.names == ["title"]
    with pytest.raises(CorpusError, match="column 'title' is int64, not text"):
        planned(corpus)


def test_text_and_title_without_a_value_may_have_any_type(write: Write) -> None:
    """pandas stores a column as doubles if it is missing in every row of a day."""
    empty = column([None, None], pa.float64())
    corpus = write({"text": empty, "title": empty})

    assert planned(corpus).rows == 2


GOLD_TYPES = [
    pa.list_(pa.string()),
    pa.large_list(pa.large_string()),
    pa.list_view(pa.string()),
    pa.list_(pa.string_view()),
    pa.list_(pa.string(), 1),
    pa.list_(pa.dictionary(pa.int8(), pa.string())),
]


@pytest.mark.parametrize("kind", GOLD_TYPES, ids=str)
def test_gold_of_every_list_type_is_read(write: Write, kind: pa.DataType) -> None:
    """The labels do not depend on the Arrow type of the lists."""
    if "dictionary" in str(kind):
        gold: Any = pa.ListArray.from_arrays([0, 1, 2], pa.array(["a", "b"]).dictionary_encode())
    else:
        gold = pa.array([["a"], ["b"]], kind)
    corpus = write({"text": ["aid"] * 2, "gold": gold})

    assert read_gold(corpus) == [["a"], ["b"]]


def read_gold(*corpus: Path) -> list[list[str] | None]:
    plan = planned(*corpus, gold="gold")
    reader = ChunkReader(plan, options(*corpus), SPEC, max_tokens=64)
    return [names for chunk in plan.chunks for names in reader.read(chunk).gold["narrative"]]


def test_files_whose_gold_has_no_type_are_accepted(write: Write) -> None:
    """Empty lists, nulls and doubles that are all missing, beside files with labels."""
    columns = [[["a"], []], column([[], None], pa.list_(pa.null())), pa.nulls(2)]
    columns.append(column([None, None], pa.float64()))
    days = [
        write({"text": ["aid"] * 2, "gold": gold}, f"{day}.parquet")
        for day, gold in enumerate(columns)
    ]

    assert read_gold(*days) == [["a"], [], [], *[None] * 5]


OFFSETS: list[tuple[Any, str | None]] = [
    ([0.0, 0.0], None),
    ([Decimal("0.0")] * 2, None),
    (["0", " 0.0"], None),
    ([None, 0.0], "missing"),
    ([float("nan"), 0.0], "'nan', not a whole number"),
    ([0.5, 0.0], "'0.5', not a whole number"),
    ([float("inf"), 0.0], "'inf', not a whole number"),
    ([1e300, 0.0], "outside the text"),
    (["zero", "0"], "'zero', not a whole number"),
]


@pytest.mark.parametrize(("starts", "reason"), OFFSETS, ids=str)
def test_an_offset_that_is_not_an_integer_quarantines_its_row(
    write: Write, starts: Any, reason: str | None
) -> None:
    """Doubles, decimals and digits are accepted if they are integers; the next row is scored."""
    spec = TextSpec(title=False, entity_markers=True)
    end = [2e300 if starts[0] == 1e300 else 4.0, 4.0]
    corpus = write({"text": ["Hero saves"] * 2, "start": starts, "end": column(end, pa.float64())})
    plan = planned(corpus, spec=spec)
    rows = ChunkReader(plan, options(corpus), spec, max_tokens=64).read(plan.chunks[0])

    assert rows.reasons[1] is None
    if reason is None:
        assert rows.reasons[0] is None
    else:
        assert reason in str(rows.reasons[0])


def test_a_blank_text_is_empty_whatever_its_offsets(write: Write) -> None:
    """There is nothing to mark in it."""
    spec = TextSpec(title=False, entity_markers=True)
    corpus = write({"text": [" "], "start": [0.5], "end": [1.5]})
    plan = planned(corpus, spec=spec)

    assert ChunkReader(plan, options(corpus), spec, max_tokens=64).read(plan.chunks[0]).reasons == [
        None
    ]
