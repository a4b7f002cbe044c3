"""Column names that are unique for readers of predictions; corpora of many columns."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.errors import CorpusError
from tests.batch.planning import planned

Write = Callable[..., Path]


@pytest.mark.parametrize("name", ["Labels", "STATUS", "Source_File", "status"])
def test_a_reserved_name_in_other_case_is_refused(write: Write, name: str) -> None:
    """Spark and DuckDB ignore case."""
    with pytest.raises(CorpusError, match=f"predictions add themselves: '{name}'") as error:
        planned(write({"text": ["aid"], name: ["x"]}))
    assert f"rename them, for example '{name}' to 'input_{name}'" in str(error.value)


def test_names_that_differ_only_in_case_are_refused(write: Write, tmp_path: Path) -> None:
    """In one file, in two files, as a hive key and a column, and as fields of a struct."""
    pair = write({"text": ["aid"], "domain": ["a"], "Domain": ["b"]}, "pair.parquet")
    one = write({"text": ["aid"], "Domain": ["a"]}, "one/a.parquet")
    other = write({"text": ["aid"], "domain": ["a"]}, "one/b.parquet")
    key = write({"text": ["aid"], "domain": ["a"]}, "keys/Domain=x/a.parquet")
    fields = write({"text": ["aid"], "s": [[{"a": 1, "A": 2}]]}, "fields.parquet")

    for corpus, where in (
        (pair, pair),
        (one.parent, f"{one}, {other}"),
        (tmp_path / "keys", key),
    ):
        with pytest.raises(CorpusError, match=f"^{where}: .*differ only in case"):
            planned(corpus)
    with pytest.raises(CorpusError, match="column 's' has the fields 'a' and 'A'"):
        planned(fields)


def test_a_text_column_that_is_dropped_may_have_any_name(write: Write) -> None:
    """A text column `Status` is not copied to predictions, so it causes no conflict."""
    corpus = write({"Status": ["aid"], "n": [1]})

    assert planned(corpus, text_column="Status").kept.names == ["n"]
    with pytest.raises(CorpusError, match="predictions add themselves"):
        planned(corpus, text_column="Status", keep_text=True)


def test_gold_called_labels_in_other_case_is_renamed(write: Write) -> None:
    """`Labels` becomes `gold_Labels`, as `labels` becomes `gold_labels`."""
    corpus = write({"text": ["aid"], "Labels": [["Other"]]})

    assert planned(corpus, gold="Labels").kept.names == ["gold_Labels"]


def test_twenty_thousand_columns_take_seconds(write: Write) -> None:
    """Time grows linearly with the number of columns."""
    values = pa.array([1, None])
    wide = pa.table({"text": ["aid", "war"], **{f"column {n}": values for n in range(20_000)}})
    corpus = write(wide)
    started = time.process_time()
    plan = planned(corpus)

    assert len(plan.kept) == 20_000
    assert time.process_time() - started < 15


def test_names_in_messages_are_escaped(write: Write) -> None:
    """The name of a column or a file cannot forge a log line."""
    corpus = write({"text": [1], "n": [1]}, "odd\x1b[2J.parquet")

    with pytest.raises(CorpusError) as error:
        planned(corpus)
    assert "\x1b" not in str(error.value)
    assert pq.read_schema(corpus).names == ["text", "n"]
