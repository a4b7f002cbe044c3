"""Predictions as a real Spark reads them; needs the extra `spark` and Java 17."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner

from batch.cli import main
from tests.batch.every_type import EVERY_TYPE, comparable, expected_rows, write_every_type

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

INSTANTS = {
    name
    for name, column in EVERY_TYPE.items()
    if pa.types.is_timestamp(column.type) and column.type.tz is not None
}


@pytest.fixture(scope="module")
def spark() -> Iterator[Any]:
    """A Spark session in this process; imported here, because only `-m slow` needs it."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    session = builder.config("spark.sql.session.timeZone", "UTC").getOrCreate()
    yield session
    session.stop()


def test_spark_reads_every_column(spark: Any, bundle: Path, tmp_path: Path) -> None:
    """All parts at once, names and values; durations are numbers, timestamps are in UTC."""
    corpus, output = write_every_type(tmp_path / "corpus"), tmp_path / "scored"
    words = [str(corpus), "--task", "narrative", "--bundle", str(bundle), "--device", "cpu"]
    result = CliRunner().invoke(main, [*words, "--output", str(output)])
    assert result.exit_code == 0, result.output
    frame = spark.read.parquet(str(output / "predictions"))
    expected = expected_rows(output / "predictions")
    read = sorted(frame.collect(), key=lambda row: (row["source_file"], row["source_row"]))

    assert frame.columns == list(expected[0])
    for row, ours in zip(read, expected, strict=True):
        assert {name: _value(name, value) for name, value in row.asDict(True).items()} == ours


def _value(name: str, value: Any) -> Any:
    """Spark returns timestamps in the time zone of this process, without its name."""
    if isinstance(value, dt.datetime) and name in INSTANTS:
        return value.astimezone(dt.UTC)
    return comparable(value)
