"""What the statistics of a chunk promise."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from batch.stats import NO_DOMAIN, STATUSES, ChunkStats, DomainStats, RunStats, count_rows
from schemas.decision import FloatArray
from schemas.metrics import CountArray
from schemas.tasks import BoolArray


@dataclass(frozen=True)
class Rows:
    """Scored rows as `count_rows` takes them."""

    domains: Sequence[str | None]
    statuses: list[str]
    tokens: CountArray
    probabilities: FloatArray
    gold: BoolArray | None
    has_gold: BoolArray | None

    def count(self, start: int = 0, end: int | None = None) -> ChunkStats:
        """Statistics of the rows from `start` to `end`; 0.5 is every label's threshold."""
        part = slice(start, end)
        return count_rows(
            domains=self.domains[part],
            statuses=self.statuses[part],
            tokens=self.tokens[part],
            probabilities=self.probabilities[part],
            decided=self.probabilities[part] >= np.float32(0.5),
            gold=None if self.gold is None else self.gold[part],
            has_gold=None if self.has_gold is None else self.has_gold[part],
        )


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


def comparable(stats: ChunkStats) -> dict[str, Any]:
    """Stored form, with the one float sum rounded: its last bits depend on the order of adding."""
    stored = stats.to_json()
    for counts in stored.values():
        if counts["hits"] is not None:
            counts["hits"]["samples_f1_sum"] = round(counts["hits"]["samples_f1_sum"], 9)
    return stored


@given(tables(), st.lists(st.integers(0, 30), max_size=4))
@settings(max_examples=60, deadline=None)
def test_chunks_add_up_however_they_are_cut(rows: Rows, cuts: list[int]) -> None:
    """Counting parts and adding them, from the left or from the right, equals counting once."""
    edges = [0, *sorted(min(cut, len(rows.domains)) for cut in cuts), len(rows.domains)]
    parts = [rows.count(start, end) for start, end in pairwise(edges)]
    from_left, from_right = ChunkStats({}), ChunkStats({})
    for part in parts:
        from_left = from_left + part
    for part in reversed(parts):
        from_right = part + from_right

    assert comparable(from_left) == comparable(from_right) == comparable(rows.count())


@given(tables())
@settings(max_examples=40, deadline=None)
def test_statistics_survive_json(rows: Rows) -> None:
    """What a marker stores comes back with every count, shape and dtype, and stores the same."""
    stats = rows.count()
    stored = json.dumps(stats.to_json())
    read = ChunkStats.from_json(json.loads(stored))

    assert json.dumps(read.to_json()) == stored
    for name, counts in stats.domains.items():
        np.testing.assert_array_equal(
            read.domains[name].probability_histogram, counts.probability_histogram, strict=True
        )
        np.testing.assert_array_equal(
            read.domains[name].token_histogram, counts.token_histogram, strict=True
        )


@given(tables())
@settings(max_examples=40, deadline=None)
def test_every_row_is_counted_once(rows: Rows) -> None:
    """Rows add up over domains and statuses, scored rows over each label's histogram."""
    stats = rows.count().domains.values()

    assert sum(counts.rows for counts in stats) == len(rows.domains)
    for counts in stats:
        assert counts.rows == counts.scored + counts.empty + counts.quarantined
        assert set(counts.probability_histogram.sum(axis=1).tolist()) == {counts.scored}
        assert counts.labels_a_row.sum() == counts.token_histogram.sum() == counts.scored


def test_order_of_domains_does_not_change_what_is_stored() -> None:
    """Markers and reports list domains by name, whichever came first in the corpus."""
    one, two = (tiny(domains=names) for names in (["b", "a"], ["a", "b"]))

    assert json.dumps((one + two).to_json()) == json.dumps((two + one).to_json())


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


def test_counts_by_hand() -> None:
    """A table of four rows gives the counts that a reader of it would write down."""
    stats = tiny(
        domains=["a", "a", "a", "b"],
        statuses=["ok", "truncated", "ok", "ok"],
        tokens=[16, 512, 17, 600],
        chances=[[0.5, 0.25], [1.0, 0.75], [0.0, 0.25], [0.1, 0.2]],
        gold=[[True, False], [True, False], [False, True], [False, False]],
    )

    assert stats.domains["a"].to_json() == {
        "rows": 3,
        "ok": 2,
        "truncated": 1,
        "empty": 0,
        "quarantined": 0,
        "tokens": 545,
        "token_histogram": [1, 1, 0, 0, 0, 0, 0, 1, 0],
        "label_counts": [2, 1],
        "probability_histogram": [
            [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            [0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
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
        },
    }
    assert stats.domains["b"].token_histogram.tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 1]


def test_empty_rows_miss_their_gold_labels() -> None:
    """An empty row has no labels and no probabilities, but its gold labels count as missed."""
    stats = tiny(domains=["a"], statuses=["empty"], gold=[[True, False]]).domains["a"]

    assert stats.label_counts.tolist() == [0, 0]
    assert stats.probability_histogram.sum() == stats.tokens == 0
    assert stats.hits is not None
    assert stats.hits.false_negatives.tolist() == [1, 0]
    assert stats.hits.true_positives.tolist() == [0, 0]


def test_quarantined_rows_count_nowhere_else() -> None:
    """A quarantined row is in rows and quarantined, whatever its other columns hold."""
    stats = tiny(
        domains=["a"],
        statuses=["quarantined"],
        chances=[[float("nan"), float("nan")]],
        gold=[[True, True]],
    )
    expected = DomainStats.zero(2, gold=True).to_json() | {"rows": 1, "quarantined": 1}

    assert stats.to_json() == {"a": expected}


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
    hits = stats.domains["a"].hits

    assert hits is not None
    assert (hits.rows, hits.false_positives.tolist()) == (1, [0])


def test_rows_without_domain_have_a_name() -> None:
    """Null and blank domains are counted together under one name."""
    stats = tiny(domains=[None, "", "  ", "a"])

    assert {name: counts.rows for name, counts in stats.domains.items()} == {NO_DOMAIN: 3, "a": 1}


def test_chunk_without_gold_adds_no_hits() -> None:
    """Where only some chunks have gold labels, adding the others, first or last, changes no hit."""
    compared = tiny(domains=["a"], gold=[[True, True]])
    plain = tiny(domains=["a", "a"])
    hits = compared.to_json()["a"]["hits"]

    assert (compared + plain).to_json()["a"]["hits"] == hits
    assert (plain + compared).to_json()["a"]["hits"] == hits
    assert (plain + compared).domains["a"].rows == 3


def test_unknown_status_is_refused() -> None:
    """A status that is none of the four would be lost from the counts."""
    with pytest.raises(ValueError, match="'fine'"):
        tiny(domains=["a"], statuses=["fine"])


@given(tables(), tables(), st.integers(0, 30))
@settings(max_examples=20, deadline=None)
def test_statistics_of_tasks_add_up_each_for_itself(one: Rows, other: Rows, cut: int) -> None:
    """Chunks are added task by task, also after a round trip by JSON."""
    tasks = {"topics": one, "roles": other}
    added = RunStats({})
    for start, end in ((0, cut), (cut, None)):
        chunk = RunStats({task: rows.count(start, end) for task, rows in tasks.items()})
        added = added + RunStats.from_json(json.loads(json.dumps(chunk.to_json())))

    assert list(added.tasks) == ["topics", "roles"]
    for task, rows in tasks.items():
        assert comparable(added.tasks[task]) == comparable(rows.count())
