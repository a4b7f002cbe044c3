"""What the report of a task with two-level labels promises."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace

import numpy as np
import pytest

from batch.kinds.multilabel import LabelTaskReport
from batch.report.page import render_html
from batch.report.stats import ChunkStats, RunStats
from schemas.arrays import BoolArray
from schemas.decision.levels import LabelTree
from schemas.decision.metrics import Hits
from schemas.text.short_names import short_name
from tests.batch.report.label_stats import added, count_labels, label_report

LONG = "long " * 60
LABELS = ("energy", "oil", "gas", LONG, "wheat", "barley", "war")
PARENTS = {"oil": "energy", "gas": "energy", "wheat": LONG, "barley": LONG}
TREE = LabelTree.of(LABELS, PARENTS)
SHARES = (0.05, 0.2, 0.1, 0.05, 0.15, 0.0, 0.3)
ROWS = 300


def some_labels(seed: int) -> BoolArray:
    """(rows, labels) complete labels; no row has barley."""
    drawn = np.random.default_rng(seed).random((ROWS, len(LABELS))) < SHARES
    return TREE.decisions(drawn)


def chunk(rows: slice = slice(None), *, gold: bool = True) -> ChunkStats:
    """Statistics of some rows, a third of them of each domain, every tenth without gold."""
    numbers = np.arange(ROWS)[rows]
    decided = some_labels(1)[rows]
    return count_labels(
        domains=[f"site {number % 3}" for number in numbers],
        statuses=["ok"] * len(numbers),
        tokens=np.full(len(numbers), 20),
        probabilities=np.where(decided, np.float32(0.7), np.float32(0.1)),
        decided=decided,
        gold=some_labels(2)[rows] if gold else None,
        has_gold=numbers % 10 > 0 if gold else None,
        tree=TREE,
    )


def report_of(*chunks: ChunkStats, gold: bool = True) -> LabelTaskReport:
    """The report of some chunks."""
    column = "gold" if gold else None
    return label_report(added(*chunks), LABELS, gold_column=column, parents=PARENTS)


def test_scores_by_level_are_those_of_the_compared_rows() -> None:
    """Overall and in each domain, from counts that went through a marker."""
    written = json.loads(json.dumps(RunStats({"narrative": chunk()}).to_json()))
    report = report_of(RunStats.from_json(written).tasks["narrative"])
    rows = np.arange(ROWS)
    chosen = {"": rows % 10 > 0, **{f"site {n}": (rows % 10 > 0) & (rows % 3 == n) for n in (0, 1)}}

    for name, inside in chosen.items():
        section = report.domains[name] if name else report.overall
        expected = Hits.count(some_labels(2)[inside], some_labels(1)[inside], TREE).scores()
        assert section.gold is not None
        assert section.gold.levels is not None
        assert expected.levels is not None
        for level in ("coarse", "fine"):
            ours, theirs = (getattr(one, level) for one in (section.gold.levels, expected.levels))
            assert ours.model_dump() == pytest.approx(theirs.model_dump(), abs=1e-6)


@pytest.mark.parametrize("cut", [0, 1, 100, ROWS])
def test_chunks_add_up(cut: int) -> None:
    """However rows are cut into chunks, the report is the same."""
    whole, parts = report_of(chunk()), report_of(chunk(slice(cut)), chunk(slice(cut, None)))

    assert parts.model_dump_json() == whole.model_dump_json()


def test_report_names_the_parents() -> None:
    """By the names that the report has; a task of one level has none of this."""
    parents = {fine: short_name(coarse) for fine, coarse in PARENTS.items()}
    flat = label_report(added(chunk(gold=False)), LABELS, gold_column=None).model_dump_json()

    assert json.loads(report_of(chunk()).model_dump_json())["parents"] == parents
    assert "parents" not in flat
    assert "levels" not in flat


def test_table_has_fine_labels_below_their_coarse_one() -> None:
    """Coarse labels by frequency, below each its fine ones by frequency, indented."""
    report = report_of(chunk())
    table = [
        (row.label.label, row.is_coarse, row.is_fine) for row in report.nested(report.overall.seen)
    ]

    assert table == [
        ("war", False, False),
        ("energy", True, False),
        ("oil", False, True),
        ("gas", False, True),
        (short_name(LONG), True, False),
        ("wheat", False, True),
    ]


def test_fine_label_alone_in_a_table_names_its_coarse_one() -> None:
    """The table of labels that no article got has a fine label whose coarse one was given."""
    (row,) = report_of(chunk()).nested(report_of(chunk()).overall.unseen)

    assert (row.label.label, row.is_fine, row.coarse) == ("barley", True, short_name(LONG))


@pytest.mark.parametrize("gold", [True, False])
def test_page_shows_both_levels(gold: bool) -> None:
    """Labels are nested; where gold is compared, each section has the scores of both levels."""
    page = render_html(report_of(chunk(gold=gold), gold=gold))
    names = re.findall(r'<th scope="row"[^>]*>(&emsp;&ensp;)?<bdi>(.*?)</bdi>', page)
    indented = {html.unescape(name) for indent, name in names if indent}

    assert indented == set(PARENTS)
    assert page.count("Coarse labels alone:") == page.count("Fine labels alone:") == 4 * gold
    assert "Labels have two levels" in page


def test_levels_of_other_chunks_are_refused() -> None:
    """Markers of one run have the same levels; others are damaged."""
    whole = chunk()
    hits = whole.tally.hits
    levels = replace(hits.levels, fine=(1, 2))
    other = replace(whole, tally=replace(whole.tally, hits=replace(hits, levels=levels)))

    with pytest.raises(ValueError, match="other levels of labels"):
        added(whole, other)
