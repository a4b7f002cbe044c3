"""What the statistics of a chunk promise."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from batch.counting import labels as label_counting
from batch.counting.domains import NO_DOMAIN
from batch.report.stats import SCORED, STATUSES, ChunkStats, RunStats
from batch.report.totals import merge_stats
from schemas.arrays import BoolArray, Float32Array, Int64Array
from schemas.decision.metrics import Hits
from tests.batch.report.label_stats import (
    FlatStats,
    FlatTask,
    added,
    count_labels,
    flat_task,
)


@dataclass(frozen=True)
class Rows:
    """Scored rows as `count_labels` takes them."""

    domains: Sequence[str | None]
    statuses: list[str]
    tokens: Int64Array
    probabilities: Float32Array
    gold: BoolArray | None
    has_gold: BoolArray | None

    def count(self, start: int = 0, end: int | None = None) -> ChunkStats:
        """Statistics of the rows from `start` to `end`; 0.5 is every label's threshold."""
        part = slice(start, end)
        return count_labels(
            domains=self.domains[part],
            statuses=self.statuses[part],
            tokens=self.tokens[part],
            probabilities=self.probabilities[part],
            decided=self.probabilities[part] >= np.float32(0.5),
            gold=None if self.gold is None else self.gold[part],
            has_gold=None if self.has_gold is None else self.has_gold[part],
        )


def merged(*chunks: ChunkStats) -> FlatTask:
    """The statistics of chunks added up."""
    return flat_task(added(*chunks))


def by_hand(rows: Rows) -> dict[str, dict[str, object]]:
    """What is counted of each domain, row by row in plain Python."""
    counted: dict[str, dict[str, object]] = {}
    for domain in {name if name and name.strip() else NO_DOMAIN for name in rows.domains}:
        numbers = [
            row
            for row, name in enumerate(rows.domains)
            if (name if name and name.strip() else NO_DOMAIN) == domain
        ]
        scored = [row for row in numbers if rows.statuses[row] in SCORED]
        chances = rows.probabilities[scored].astype(np.float64)
        counted[domain] = {
            **{status: sum(rows.statuses[row] == status for row in numbers) for status in STATUSES},
            "rows": len(numbers),
            "tokens": sum(int(rows.tokens[row]) for row in scored),
            "label_counts": (chances >= 0.5).sum(axis=0).tolist(),
            "probability_sum": np.rint(chances * 1e6).sum(axis=0).astype(int).tolist(),
            "probability_histogram": [
                np.histogram(np.minimum(np.floor(column * 20), 19), np.arange(21))[0].tolist()
                for column in chances.T
            ],
        }
    return counted


@st.composite
def tables(draw: st.DrawFn) -> Rows:
    """Up to 30 rows of up to 4 labels in a few domains, with gold or without."""
    rows, labels = draw(st.integers(0, 30)), draw(st.integers(1, 4))
    domain = st.sampled_from([None, "", "a.example", "b.example", "<b>"])
    chances = st.floats(0, 1, width=32)
    with_gold = draw(st.booleans())
    return Rows(
        domains=draw(st.lists(domain, min_size=rows, max_size=rows)),
        statuses=draw(st.lists(st.sampled_from(STATUSES), min_size=rows, max_size=rows)),
        tokens=draw(hnp.arrays(np.int64, rows, elements=st.integers(0, 1000))),
        probabilities=draw(hnp.arrays(np.float32, (rows, labels), elements=chances)),
        gold=draw(hnp.arrays(np.bool_, (rows, labels))) if with_gold else None,
        has_gold=draw(hnp.arrays(np.bool_, rows)) if with_gold else None,
    )


def plain(stats: FlatStats) -> dict[str, object]:
    """Statistics as lists; the one float sum rounded: its last bits depend on the order."""
    counts = as_lists(stats)
    counts["hits"] = None
    if stats.hits is not None:
        counts["hits"] = as_lists(
            replace(stats.hits, samples_f1_sum=round(stats.hits.samples_f1_sum, 9))
        )
    return counts


def as_lists(stats: FlatStats | Hits) -> dict[str, object]:
    """Fields with arrays as lists."""
    values = {field.name: getattr(stats, field.name) for field in fields(stats)}
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in values.items()
    }


def comparable(stats: FlatTask) -> dict[str, object]:
    """Statistics of the total and of every domain."""
    return {
        "total": plain(stats.total),
        **{f"domain {name}": plain(counts) for name, counts in stats.domains.items()},
    }


@given(tables(), st.lists(st.integers(0, 30), max_size=4))
@settings(max_examples=60, deadline=None)
def test_chunks_add_up_however_they_are_cut(rows: Rows, cuts: list[int]) -> None:
    """Counting parts and adding them, forwards or backwards, equals counting once."""
    edges = [0, *sorted(min(cut, len(rows.domains)) for cut in cuts), len(rows.domains)]
    parts = [rows.count(start, end) for start, end in pairwise(edges)]

    assert comparable(merged(*parts)) == comparable(merged(rows.count()))
    assert comparable(merged(*reversed(parts))) == comparable(merged(rows.count()))


@given(tables())
@settings(max_examples=60, deadline=None)
def test_columns_hold_what_is_counted_row_by_row(rows: Rows) -> None:
    """Counting by columns gives what a loop over the rows of each domain gives."""
    stats = merged(rows.count())
    counted = {name: plain(counts) for name, counts in stats.domains.items()}
    expected = by_hand(rows)

    assert counted.keys() == expected.keys()
    for name, counts in expected.items():
        assert {key: counted[name][key] for key in counts} == counts


@given(rows=tables())
@settings(max_examples=40, deadline=None)
def test_small_blocks_change_no_count(rows: Rows) -> None:
    """Labels counted a block at a time, as in wide tasks, give the counts of all at once."""
    at_once = RunStats({"topics": rows.count()}).to_json()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(label_counting, "BLOCK_VALUES", 2)

        assert RunStats({"topics": rows.count()}).to_json() == at_once


@given(tables())
@settings(max_examples=40, deadline=None)
def test_statistics_survive_json(rows: Rows) -> None:
    """What a marker contains comes back with every count, and is written the same again."""
    written = json.dumps(RunStats({"topics": rows.count()}).to_json())
    read = RunStats.from_json(json.loads(written))

    assert json.dumps(read.to_json()) == written
    assert comparable(merged(read.tasks["topics"])) == comparable(merged(rows.count()))


@given(tables())
@settings(max_examples=40, deadline=None)
def test_every_row_is_counted_once(rows: Rows) -> None:
    """Rows add up over domains and statuses, scored rows over each label's histogram."""
    stats = merged(rows.count()).domains.values()

    assert sum(counts.rows for counts in stats) == len(rows.domains)
    for counts in stats:
        assert counts.rows == counts.scored + counts.empty + counts.quarantined
        assert set(counts.probability_histogram.sum(axis=1).tolist()) == {counts.scored}
        assert counts.labels_a_row.sum() == counts.token_histogram.sum() == counts.scored


def tiny(
    *,
    domains: Sequence[str | None],
    statuses: list[str] | None = None,
    tokens: list[int] | None = None,
    chances: list[list[float]] | None = None,
    gold: list[list[bool]] | None = None,
) -> ChunkStats:
    """Count a table written out in a test; two labels, threshold 0.5."""
    rows = len(domains)
    return Rows(
        domains=domains,
        statuses=statuses or ["ok"] * rows,
        tokens=np.asarray(tokens or [10] * rows, dtype=np.int64),
        probabilities=np.asarray(chances or [[0.9, 0.1]] * rows, dtype=np.float32),
        gold=None if gold is None else np.asarray(gold, dtype=np.bool_),
        has_gold=None,
    ).count()


def test_order_of_rows_does_not_change_what_is_stored() -> None:
    """Markers list domains by name, whichever came first in the corpus."""
    one, two = (tiny(domains=names) for names in (["b", "a"], ["a", "b"]))

    assert RunStats({"topics": one}).to_json() == RunStats({"topics": two}).to_json()


def test_counts_by_hand() -> None:
    """A table of four rows gives the counts that a reader of it would write down."""
    stats = merged(
        tiny(
            domains=["a", "a", "a", "b"],
            statuses=["ok", "truncated", "windowed", "ok"],
            tokens=[16, 512, 17, 600],
            chances=[[0.5, 0.25], [1.0, 0.75], [0.0, 0.25], [0.1, 0.2]],
            gold=[[True, False], [True, False], [False, True], [False, False]],
        )
    )

    assert plain(stats.domains["a"]) == {
        "rows": 3,
        "ok": 1,
        "windowed": 1,
        "truncated": 1,
        "empty": 0,
        "quarantined": 0,
        "tokens": 545,
        "token_histogram": [1, 1, 0, 0, 0, 0, 0, 1, 0],
        "label_counts": [2, 1],
        "probability_histogram": [
            [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            [0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0],
        ],
        "probability_sum": [1_500_000, 1_250_000],
        "labels_a_row": [1, 1, 1, 0, 0, 0],
        "hits": {
            "true_positives": [2, 0],
            "false_positives": [0, 1],
            "false_negatives": [0, 1],
            "rows": 3,
            "exact_rows": 1,
            "samples_f1_sum": pytest.approx(1 + 2 / 3),
            "levels": None,
        },
    }
    assert stats.domains["b"].token_histogram.tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 1]


def test_empty_rows_miss_their_gold_labels() -> None:
    """An empty row has no labels and no probabilities, but its gold labels count as missed."""
    stats = merged(tiny(domains=["a"], statuses=["empty"], gold=[[True, False]])).domains["a"]

    assert stats.label_counts.tolist() == [0, 0]
    assert stats.probability_histogram.sum() == stats.tokens == 0
    assert stats.hits is not None
    assert stats.hits.false_negatives.tolist() == [1, 0]
    assert stats.hits.true_positives.tolist() == [0, 0]


def test_quarantined_rows_count_nowhere_else() -> None:
    """A quarantined row is in rows and quarantined, whatever its other columns hold."""
    stats = merged(
        tiny(
            domains=["a"],
            statuses=["quarantined"],
            chances=[[float("nan"), float("nan")]],
            gold=[[True, True]],
        )
    ).domains["a"]

    assert (stats.rows, stats.quarantined, stats.scored, stats.tokens) == (1, 1, 0, 0)
    assert not stats.probability_sum.any()
    assert not stats.probability_histogram.any()
    assert stats.hits is not None
    assert stats.hits.rows == 0
    assert not stats.hits.false_negatives.any()


def test_rows_without_gold_are_not_compared() -> None:
    """In a run with gold, rows whose gold is unknown stay out of the hits."""
    stats = Rows(
        domains=["a", "a"],
        statuses=["ok", "ok"],
        tokens=np.asarray([1, 1], dtype=np.int64),
        probabilities=np.array([[0.9], [0.9]], dtype=np.float32),
        gold=np.array([[True], [False]]),
        has_gold=np.array([True, False]),
    ).count()
    hits = merged(stats).domains["a"].hits

    assert hits is not None
    assert (hits.rows, hits.false_positives.tolist()) == (1, [0])


def test_rows_without_domain_have_a_name() -> None:
    """Null and blank domains are counted together under one name."""
    stats = tiny(domains=[None, "", "  ", "a"])

    assert dict(zip(stats.names, stats.rows, strict=True)) == {NO_DOMAIN: 3, "a": 1}


def test_chunk_without_gold_adds_no_hits() -> None:
    """Where only some chunks have gold labels, adding the others, first or last, changes no hit."""
    compared = tiny(domains=["a"], gold=[[True, True]])
    others = tiny(domains=["a", "a"])
    hits = plain(merged(compared).domains["a"])["hits"]

    assert plain(merged(compared, others).domains["a"])["hits"] == hits
    assert plain(merged(others, compared).domains["a"])["hits"] == hits
    assert merged(others, compared).domains["a"].rows == 3


def test_unknown_status_is_refused() -> None:
    """A status that is none of the four would be lost from the counts."""
    with pytest.raises(ValueError, match="'fine'"):
        tiny(domains=["a"], statuses=["fine"])


@given(tables(), tables(), st.integers(0, 30))
@settings(max_examples=20, deadline=None)
def test_statistics_of_tasks_add_up_each_for_itself(one: Rows, other: Rows, cut: int) -> None:
    """Chunks are added task by task, also after a round trip by JSON."""
    tasks = {"topics": one, "roles": other}
    chunks = [
        RunStats.from_json(
            json.loads(
                json.dumps(
                    RunStats({name: rows.count(*part) for name, rows in tasks.items()}).to_json()
                )
            )
        )
        for part in ((0, cut), (cut, None))
    ]
    sums = merge_stats(lambda: chunks).tasks

    assert list(sums) == ["topics", "roles"]
    for task, rows in tasks.items():
        assert plain(flat_task(sums[task]).total) == plain(merged(rows.count()).total)
