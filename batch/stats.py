"""Statistics of one chunk: counts per domain that add up over chunks and fit in a marker file.

Everything counted here is an integer, so that the sum does not depend on how rows fell into chunks.
The one exception is `Hits.samples_f1_sum`, a float; add chunks in corpus order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.decision import FloatArray
from schemas.metrics import CountArray, Hits
from schemas.tasks import BoolArray

IntArray = npt.NDArray[np.int32] | npt.NDArray[np.int64]

STATUSES = ("ok", "truncated", "empty", "quarantined")
"""What can become of a row: read whole, read in part, nothing to read, could not be scored."""

NO_DOMAIN = "(none)"
"""Where rows are counted whose domain is null or blank."""

TOKEN_EDGES = (16, 32, 64, 128, 192, 256, 384, 512)
"""Upper edges of the token bins, inclusive; one more bin takes what is longer."""

PROBABILITY_BINS = 20
"""Equal bins over [0, 1]; bin i holds [i/20, (i+1)/20), the last one 1.0 too."""

PROBABILITY_UNIT = 1_000_000
"""Probabilities are summed in whole millionths: exact, in whatever order they are added."""

MOST_LABELS_A_ROW = 5
"""The last bin of `labels_a_row` takes this many labels and more."""


@dataclass(frozen=True)
class DomainStats:
    """Counts of the rows of one domain.

    A row is ok, truncated, empty or quarantined; the first two are scored, and only they are in
    tokens, label_counts, the histograms and probability_sum. Empty rows have no label but count in
    `hits`; quarantined rows count nowhere else.

    tokens: sum of the tokens of scored rows.
    token_histogram: (9,) int64, rows whose token count is at most each of TOKEN_EDGES, then longer.
    label_counts: (labels,) int64, rows decided positive.
    probability_histogram: (labels, 20) int64.
    probability_sum: (labels,) int64, in millionths.
    labels_a_row: (6,) int64, rows with 0, 1, 2, 3, 4, and 5 or more labels.
    hits: comparison with gold labels, of rows that have them; None if there was no gold at all.
    """

    rows: int
    ok: int
    truncated: int
    empty: int
    quarantined: int
    tokens: int
    token_histogram: CountArray
    label_counts: CountArray
    probability_histogram: CountArray
    probability_sum: CountArray
    labels_a_row: CountArray
    hits: Hits | None

    @property
    def scored(self) -> int:
        """Rows that the model has read: ok and truncated."""
        return self.ok + self.truncated

    @classmethod
    def zero(cls, labels: int, *, gold: bool) -> DomainStats:
        """Counts of nothing, for `labels` labels."""
        return cls(
            rows=0,
            ok=0,
            truncated=0,
            empty=0,
            quarantined=0,
            tokens=0,
            token_histogram=np.zeros(len(TOKEN_EDGES) + 1, np.int64),
            label_counts=np.zeros(labels, np.int64),
            probability_histogram=np.zeros((labels, PROBABILITY_BINS), np.int64),
            probability_sum=np.zeros(labels, np.int64),
            labels_a_row=np.zeros(MOST_LABELS_A_ROW + 1, np.int64),
            hits=Hits.zero(labels) if gold else None,
        )

    def __add__(self, other: DomainStats) -> DomainStats:
        added: dict[str, Any] = {
            name: getattr(self, name) + getattr(other, name) for name in _COUNTS
        }
        return DomainStats(**added, hits=_add_hits(self.hits, other.hits))

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and lists; histograms without the zeros at their end."""
        return {
            **{name: _plain(getattr(self, name)) for name in _COUNTS},
            "hits": None if self.hits is None else self.hits.to_json(),
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> DomainStats:
        """Read what `to_json` wrote."""
        hits = stored["hits"]
        zero = cls.zero(len(stored["label_counts"]), gold=hits is not None)
        counts: dict[str, Any] = {
            name: _filled(getattr(zero, name), stored[name]) for name in _COUNTS
        }
        return cls(**counts, hits=None if hits is None else Hits.from_json(hits))


_COUNTS = tuple(field.name for field in fields(DomainStats) if field.name != "hits")


@dataclass(frozen=True)
class ChunkStats:
    """Statistics of one chunk, or of many added up, by domain."""

    domains: dict[str, DomainStats]

    def __add__(self, other: ChunkStats) -> ChunkStats:
        merged = dict(self.domains)
        for name, stats in other.domains.items():
            merged[name] = merged[name] + stats if name in merged else stats
        return ChunkStats(merged)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and lists by domain, sorted by name."""
        return {name: self.domains[name].to_json() for name in sorted(self.domains)}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> ChunkStats:
        """Read what `to_json` wrote."""
        return cls({name: DomainStats.from_json(counts) for name, counts in stored.items()})


@dataclass(frozen=True)
class RunStats:
    """Statistics of one chunk, or of many added up, by task."""

    tasks: dict[str, ChunkStats]

    def __add__(self, other: RunStats) -> RunStats:
        merged = dict(self.tasks)
        for task, stats in other.tasks.items():
            merged[task] = merged[task] + stats if task in merged else stats
        return RunStats(merged)

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and lists by task."""
        return {task: stats.to_json() for task, stats in self.tasks.items()}

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> RunStats:
        """Read what `to_json` wrote."""
        return cls({task: ChunkStats.from_json(counts) for task, counts in stored.items()})


def count_rows(
    *,
    domains: Sequence[str | None],
    statuses: Sequence[str],
    tokens: IntArray,
    probabilities: FloatArray,
    decided: BoolArray,
    gold: BoolArray | None = None,
    has_gold: BoolArray | None = None,
) -> ChunkStats:
    """Count the rows of a chunk, domain by domain.

    domains: one a row; None and blank count as NO_DOMAIN.
    statuses: one of STATUSES a row.
    tokens: (rows,) int32 or int64. probabilities: (rows, labels) float32. decided: (rows, labels)
    bool. What they hold for empty and quarantined rows is not looked at.
    gold: (rows, labels) bool, or None if no row has gold labels.
    has_gold: (rows,) bool, rows whose gold labels are known; None means all of them.
    Raises ValueError for a status that is none of the four.
    """
    status = np.asarray(statuses, dtype=np.str_)
    unknown = sorted(set(statuses) - set(STATUSES))
    if unknown:
        raise ValueError(f"unknown status {unknown[0]!r}: expected one of {', '.join(STATUSES)}")
    scored = (status == "ok") | (status == "truncated")
    known = np.ones(len(status), np.bool_) if has_gold is None else has_gold
    counted: dict[str, DomainStats] = {}
    for name, rows in _rows_by_domain(domains):
        read = rows[scored[rows]]
        compared = rows[known[rows] & (status[rows] != "quarantined")]
        counted[name] = DomainStats(
            rows=len(rows),
            **{one: int((status[rows] == one).sum()) for one in STATUSES},
            tokens=int(tokens[read].sum(dtype=np.int64)),
            token_histogram=_token_histogram(tokens[read]),
            label_counts=decided[read].sum(axis=0, dtype=np.int64),
            probability_histogram=_probability_histogram(probabilities[read]),
            probability_sum=_millionths(probabilities[read]),
            labels_a_row=_labels_a_row(decided[read]),
            hits=None
            if gold is None
            else Hits.count(gold[compared], decided[compared] & scored[compared, None]),
        )
    return ChunkStats(counted)


def _rows_by_domain(
    domains: Sequence[str | None],
) -> Iterator[tuple[str, npt.NDArray[np.int64]]]:
    """Yield each domain with its row numbers, ascending; domains in order of appearance."""
    codes: dict[str, int] = {}
    column = np.fromiter(
        (codes.setdefault(_domain_name(domain), len(codes)) for domain in domains),
        dtype=np.int64,
        count=len(domains),
    )
    ordered = np.argsort(column, kind="stable").astype(np.int64)
    sizes = np.bincount(column, minlength=len(codes))
    ends = np.cumsum(sizes)
    for name, start, end in zip(codes, ends - sizes, ends, strict=True):
        yield name, ordered[start:end]


def _domain_name(domain: str | None) -> str:
    return domain if domain is not None and domain.strip() else NO_DOMAIN


def _token_histogram(tokens: IntArray) -> CountArray:
    bins = np.searchsorted(TOKEN_EDGES, tokens, side="left")
    return np.bincount(bins, minlength=len(TOKEN_EDGES) + 1).astype(np.int64)


def _probability_histogram(probabilities: FloatArray) -> CountArray:
    """Count (rows, labels) probabilities in (labels, 20) bins."""
    labels = probabilities.shape[1]
    bins = (probabilities.astype(np.float64) * PROBABILITY_BINS).astype(np.int64)
    bins = np.clip(bins, 0, PROBABILITY_BINS - 1) + np.arange(labels) * PROBABILITY_BINS
    counts = np.bincount(bins.ravel(), minlength=labels * PROBABILITY_BINS)
    return counts.astype(np.int64).reshape(labels, PROBABILITY_BINS)


def _millionths(probabilities: FloatArray) -> CountArray:
    rounded = np.rint(probabilities.astype(np.float64) * PROBABILITY_UNIT).astype(np.int64)
    return np.asarray(rounded.sum(axis=0), dtype=np.int64)


def _labels_a_row(decided: BoolArray) -> CountArray:
    counts = np.minimum(decided.sum(axis=1), MOST_LABELS_A_ROW)
    return np.bincount(counts, minlength=MOST_LABELS_A_ROW + 1).astype(np.int64)


def _add_hits(one: Hits | None, other: Hits | None) -> Hits | None:
    """Add hits; None, a chunk where no row has gold labels, adds nothing."""
    if one is None or other is None:
        return other if one is None else one
    return one + other


def _plain(counts: int | CountArray) -> int | list[Any]:
    """A number or list; two-dimensional counts lose the zeros at the end of each row."""
    if isinstance(counts, int):
        return counts
    if counts.ndim == 1:
        return [int(count) for count in counts]
    return [np.trim_zeros(row, "b").tolist() for row in counts]


def _filled(zero: int | CountArray, stored: Any) -> int | CountArray:
    """Undo `_plain`, to the shape of `zero`."""
    if isinstance(zero, int):
        return int(stored)
    if zero.ndim == 1:
        return np.asarray(stored, dtype=np.int64)
    filled = np.zeros_like(zero)
    for row, counts in zip(filled, stored, strict=True):
        row[: len(counts)] = counts
    return filled
