"""What the report of a task with one label a row promises."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from batch.counting.classes import MOST_CONFUSED
from batch.kinds import BATCH_KINDS
from batch.kinds.multiclass import SHOWN_LABELS, ClassTaskReport
from batch.report.build import TaskFacts, build_report
from batch.report.page import render_html
from batch.report.stats import ChunkStats, RunStats, TaskGold, count_rows
from batch.report.totals import merge_stats
from schemas.arrays import Int64Array
from schemas.decision.classes import NO_CLASS, ClassCalibration
from schemas.kinds.multiclass import Classes, MulticlassKind

KIND = MulticlassKind.NAME
TASK = "stance"
LABELS = ("against", "neutral", "for")


def chunk(
    labels: Sequence[str],
    decided: Int64Array,
    gold: Int64Array | None = None,
    *,
    domains: Sequence[str] | None = None,
    statuses: Sequence[str] | None = None,
) -> ChunkStats:
    """Statistics of some rows; probabilities are 0.7 for the decided label."""
    rows, width = len(decided), len(labels)
    probabilities = np.full((rows, width), 0.3 / max(width - 1, 1), np.float32)
    probabilities[np.arange(rows), np.maximum(decided, 0)] = 0.7
    return count_rows(
        kind=KIND,
        width=width,
        domains=domains or ["a.example"] * rows,
        statuses=statuses or ["ok"] * rows,
        tokens=np.full(rows, 12),
        decided=Classes(tuple(labels), probabilities, decided),
        gold=None if gold is None else TaskGold(gold, gold != NO_CLASS),
    )


def report_of(
    *chunks: ChunkStats, labels: Sequence[str] = LABELS, least: float = 0.0, gold: bool = True
) -> ClassTaskReport:
    """The report of chunks added up."""
    facts = TaskFacts(
        task=TASK,
        kind=KIND,
        labels=tuple(labels),
        decision={
            "least_probability": least,
            "calibration": ClassCalibration.none(len(labels)).model_dump(mode="json"),
        },
        gold_column="stance" if gold else None,
    )
    runs = [RunStats({TASK: one}) for one in chunks]
    report = build_report(merge_stats(lambda: runs).tasks[TASK], facts)
    assert isinstance(report, ClassTaskReport)
    return report


def drawn(rows: int, labels: int, *, seed: int = 0) -> tuple[Int64Array, Int64Array]:
    """Decided labels and gold that agree in half of the rows."""
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, labels, rows)
    return np.where(rng.random(rows) < 0.5, gold, rng.integers(0, labels, rows)), gold


def test_scores_and_confusions_are_those_of_scikit_learn() -> None:
    """Over two chunks, in which not every row has gold."""
    decided, gold = drawn(200, 3)
    known = np.where(np.arange(200) % 5 == 0, NO_CLASS, gold)
    parts = (slice(0, 70), slice(70, 200))
    report = report_of(*(chunk(LABELS, decided[part], known[part]) for part in parts))
    compared = known != NO_CLASS
    expected = confusion_matrix(gold[compared], decided[compared])
    section = report.overall

    assert section.gold is not None
    assert section.gold.rows == compared.sum()
    assert section.gold.accuracy == pytest.approx(
        accuracy_score(gold[compared], decided[compared]), abs=1e-6
    )
    assert section.gold.macro_f1 == pytest.approx(
        f1_score(gold[compared], decided[compared], average="macro"), abs=1e-6
    )
    for row, gold_label in enumerate(LABELS):
        for column, label in enumerate(LABELS):
            assert section.rows_of.get((gold_label, label), 0) == expected[row, column]


def test_rows_that_get_no_label_are_counted() -> None:
    """Below the least probability a row has no label, which a gold label makes an error."""
    decided, gold = np.array([0, NO_CLASS, 2, NO_CLASS]), np.array([0, 1, 2, NO_CLASS])
    section = report_of(chunk(LABELS, decided, gold), least=0.4).overall

    assert (section.unlabelled, section.unlabelled_share) == (2, 0.5)
    assert section.rows_of == {
        ("against", "against"): 1,
        ("neutral", None): 1,
        ("for", "for"): 1,
    }
    assert section.gold is not None
    assert section.gold.accuracy == pytest.approx(2 / 3, abs=1e-6)


def test_empty_and_quarantined_rows_have_no_label() -> None:
    """An empty row with gold is compared, as a row without a label; a quarantined one is not."""
    decided, gold = np.array([0, 0, 0]), np.array([0, 0, 0])
    section = report_of(
        chunk(LABELS, decided, gold, statuses=["ok", "empty", "quarantined"])
    ).overall

    assert section.rows_of == {("against", "against"): 1, ("against", None): 1}
    assert section.labels[0].rows == 1


def test_statistics_come_back_from_a_marker() -> None:
    """What a marker contains gives the same report."""
    decided, gold = drawn(50, 3)
    stats = chunk(LABELS, decided, gold, domains=["a", "b"] * 25)
    kind = BATCH_KINDS[KIND]
    packed = kind.pack(stats.tally)
    again = kind.unpack(packed, domains=2, width=3)

    assert kind.pack(again) == packed
    with pytest.raises(ValueError, match="do not fit its domains"):
        kind.unpack({**packed, "confusion": {"type": "u1", "values": "AQID"}}, domains=2, width=3)


def test_many_labels_have_no_table_of_confusions() -> None:
    """It would grow with their square; scores are there."""
    labels = [f"label {number}" for number in range(MOST_CONFUSED + 1)]
    decided, gold = drawn(300, len(labels))
    report = report_of(chunk(labels, decided, gold), labels=labels)

    assert report.overall.confusion is None
    assert report.overall.gold is not None
    assert render_html(report)


def test_page_shows_gold_by_given_label() -> None:
    """The confusion table has the counts of the most frequent labels; no threshold without one."""
    labels = [f"label {number:02}" for number in range(SHOWN_LABELS + 5)]
    decided, gold = drawn(2000, len(labels))
    page = render_html(report_of(chunk(labels, decided, gold), labels=labels))
    (table,) = re.findall(r'<table class="heat confusion.*?</table>', page, re.DOTALL)
    right = int((decided[gold == 0] == 0).sum())

    assert table.count('<th scope="row">') == SHOWN_LABELS
    assert f">{right}</td>" in table
    assert "accuracy" in page
    assert "Threshold</th>" not in page
    assert "samples F1" not in page


def test_page_shows_the_least_probability_where_there_is_one() -> None:
    """The column is called as for other tasks."""
    decided, _ = drawn(40, 3)
    page = render_html(report_of(chunk(LABELS, decided), least=0.4, gold=False))

    assert "Threshold</th>" in page
    assert "confusion" not in page.split("</style>")[1]
    assert "<dt>Accuracy</dt>" not in page


def test_domains_that_are_counted_together_have_confusions() -> None:
    """Every domain's table adds up to that of all."""
    decided, gold = drawn(90, 3)
    domains = [f"{number % 3}.example" for number in range(90)]
    report = report_of(chunk(LABELS, decided, gold, domains=domains))
    sums: dict[tuple[str, str | None], int] = {}
    for section in report.domains.values():
        for pair, rows in section.rows_of.items():
            sums[pair] = sums.get(pair, 0) + rows

    assert sums == report.overall.rows_of
