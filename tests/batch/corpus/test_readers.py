"""Predictions as polars, DuckDB and pandas read them; Spark has a file of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from click.testing import CliRunner

from batch.cli import main
from tests.batch.every_type import EVERY_TYPE, comparable, expected_rows, write_every_type

MAPS = {name for name, column in EVERY_TYPE.items() if pa.types.is_map(column.type)}
DURATIONS = {name for name, column in EVERY_TYPE.items() if pa.types.is_duration(column.type)}


@pytest.fixture(scope="module")
def predictions(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predictions for a corpus with a column of every type."""
    folder = tmp_path_factory.mktemp("readers")
    corpus = write_every_type(folder / "corpus")
    words = [str(corpus), "--task", "narrative", "--bundle", str(bundle), "--device", "cpu"]
    result = CliRunner().invoke(main, [*words, "--output", str(folder / "scored")])
    assert result.exit_code == 0, result.output
    return folder / "scored" / "predictions"


def test_the_values_are_those_of_the_corpus(predictions: Path) -> None:
    """pyarrow reads the values of the corpus, and nulls for the file without the columns."""
    rows = expected_rows(predictions)
    same = [
        name
        for name, column in EVERY_TYPE.items()
        if str(column.type) in ("double", "int64", "string", "list<item: int64>", "uint64")
        and name not in ("string", "int64")
    ]

    assert len(same) > 5
    for name in same:
        assert [row[name] for row in rows] == [*EVERY_TYPE[name].to_pylist(), *[None] * 3]
    assert [row["string"] for row in rows[3:]] == ["a", None, "b"]
    assert [row["int64"] for row in rows] == [1, None, -(2**63), None, 1, 2]


def test_pyarrow_reads_the_folder_as_one_data_set(predictions: Path) -> None:
    """Every part has the schema of the first."""
    assert ds.dataset(predictions).to_table().num_rows == 6


def test_polars_reads_every_column(predictions: Path) -> None:
    """The folder at once, with the values that pyarrow reads."""
    frame = pl.read_parquet(predictions / "*.parquet")
    rows = expected_rows(predictions)
    plain = [name for name in frame.columns if name not in MAPS | DURATIONS]

    assert frame.columns == list(rows[0])
    for name in plain:
        assert comparable(frame[name].to_list()) == [row[name] for row in rows], name


def test_duckdb_reads_every_column(predictions: Path) -> None:
    """Names and values; durations are numbers, because Parquet has no such type.

    DuckDB gives a column without a name one of its own.
    """
    relation = duckdb.sql(f"SET TimeZone='UTC'; FROM '{predictions}/*.parquet'")
    assert relation is not None
    rows = expected_rows(predictions)
    read = [
        dict(zip(relation.columns, map(comparable, row), strict=True))
        for row in relation.fetchall()
    ]

    assert [name for name in relation.columns if name in rows[0]] == [
        name for name in rows[0] if name
    ]
    assert [[*row.values()] for row in read] == [[*row.values()] for row in rows]


def test_pandas_reads_every_column(predictions: Path) -> None:
    """Names, rows and the nulls of every column."""
    frame = pd.read_parquet(predictions)
    rows = expected_rows(predictions)

    assert list(frame.columns) == list(rows[0])
    for name in frame.columns:
        assert frame[name].isna().tolist() == [row[name] is None for row in rows], name


WriteColumns = Callable[..., Path]


def test_two_nights_are_one_table(
    write: WriteColumns, batch_classify: Callable[..., Any], tmp_path: Path
) -> None:
    """A night on which a column had no value does not break the reading of all nights."""
    for night, values in (("one", ["x"]), ("two", pa.nulls(1))):
        corpus = write({"text": ["aid"], "desk": values}, f"{night}.parquet")
        result = batch_classify(corpus, output=tmp_path / night)
        assert result.exit_code == 0, result.output
    frame = pl.read_parquet([tmp_path / night / "predictions" for night in ("one", "two")])

    assert frame["desk"].to_list() == ["x", None]
