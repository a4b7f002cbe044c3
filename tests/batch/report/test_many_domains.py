"""What a run promises of a corpus with more domains than a report describes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from batch.cli import main
from batch.counting import domains
from batch.counting.domains import DomainRanking
from batch.kinds.multilabel import LabelTaskReport
from batch.report.stats import ChunkStats, RunStats
from batch.report.totals import merge_stats
from tests.batch.report.test_report import of_domains

Command = Callable[..., Result]


@pytest.fixture
def corpus(sample: pa.Table, write: Callable[..., Path]) -> Path:
    """48 articles with gold labels from twelve domains, the later ones more often."""
    names = [f"site-{min(row % 12, row % 7)}" if row % 9 else None for row in range(48)]
    table = sample.set_column(
        sample.column_names.index("domain"), "domain", pa.array(names, pa.string())
    )
    return write(table)


def test_shards_and_whole_run_give_the_same_report(
    batch_classify: Command, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which domains are the largest, and the sums of the others, do not depend on shards."""
    monkeypatch.setattr(domains, "MOST_DOMAINS", 3)
    options: dict[str, Any] = {"chunk_rows": 7, "gold_column": "narratives"}
    whole, merged = tmp_path / "whole", tmp_path / "merged"
    assert batch_classify(corpus, output=whole, **options).exit_code == 0
    shards = [tmp_path / "shard-1", tmp_path / "shard-2"]
    for number, shard in enumerate(shards, start=1):
        done = batch_classify(corpus, output=shard, shard=f"{number}/2", **options)
        assert done.exit_code == 0
    words = ["merge", *map(str, shards), "--output", str(merged)]
    assert CliRunner().invoke(main, words).exit_code == 0
    report = LabelTaskReport.model_validate_json((whole / "report.json").read_bytes())

    for name in ("report.json", "report.html"):
        assert (merged / name).read_bytes() == (whole / name).read_bytes()
    assert len(report.domains) == 4
    assert report.others is not None
    described = sum(section.rows for section in report.domains.values())
    assert described + report.others.rows == report.overall.rows == 48


def test_sums_are_exact_beyond_what_is_ranked_exactly() -> None:
    """Where names are forgotten while ranking, rows of the described domains are still exact."""
    names = [name for n in range(300) for name in (f"rare-{n}", f"big-{n % 3}")]
    chunks = [
        RunStats({"topics": of_domains(names[first : first + 50], seed=first)})
        for first in range(0, len(names), 50)
    ]
    one = merge_stats(lambda: chunks, DomainRanking(60)).tasks["topics"]
    again = merge_stats(lambda: iter(chunks), DomainRanking(60)).tasks["topics"]

    assert {name: one.domains[name].rows.rows for name in ("big-0", "big-1", "big-2")} == {
        "big-0": 100,
        "big-1": 100,
        "big-2": 100,
    }
    assert one.others is not None
    assert not one.others.is_exact
    assert (
        sum(stats.rows.rows for stats in one.domains.values()) + one.others.stats.rows.rows == 600
    )
    assert list(one.domains) == list(again.domains)


def counted(rows: int, labels: int) -> ChunkStats:
    """A chunk where every row has a domain of its own."""
    return of_domains([f"https://news{row}.example/path" for row in range(rows)], labels=labels)


def test_marker_of_a_chunk_is_bounded_by_its_rows() -> None:
    """With a domain a row, the statistics take a few bytes for each row and label."""
    written = RunStats({"topics": counted(1000, 100)}).to_json()
    columns = {name: column for name, column in written["topics"].items() if name != "names"}
    size = sum(len(str(column)) for column in columns.values())

    assert size < 12 * 1000 * 100


def test_count_rows_takes_no_rows() -> None:
    """A chunk without rows has no domains."""
    assert counted(0, 3).names == ()
