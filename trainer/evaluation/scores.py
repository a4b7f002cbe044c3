"""What a set of decisions is worth: overall, by frequency of the labels, by row, by label."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, model_validator
from sklearn.metrics import average_precision_score, roc_auc_score

from schemas.arrays import BoolArray, Float32Array
from schemas.decision.levels import ONE_LEVEL, LabelTree
from schemas.decision.metrics import Hits, LabelScores
from schemas.markdown import markdown_table, percent, score_text
from trainer.evaluation.intervals import F1Intervals, f1_intervals

NO_VALUE = "(none)"
"""Where rows are counted whose domain or language is null or blank."""

Metric = Callable[[BoolArray, Float32Array], float]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FrequencyBands(_Record):
    """Bounds, in training rows, between frequent, middling and rare labels."""

    head: int = Field(default=35, ge=1)
    """A label with this many training rows or more is of the head."""
    tail: int = Field(default=8, ge=0)
    """A label with this many or fewer is of the tail."""

    @model_validator(mode="after")
    def _apart(self) -> FrequencyBands:
        if self.tail >= self.head:
            raise ValueError(f"tail {self.tail} must be below head {self.head}")
        return self

    def split(self, positives: Sequence[int]) -> dict[str, list[int]]:
        """Label columns of each band, by the band's name. positives: training rows a label."""
        rows = np.asarray(positives)
        members = {
            f"head (>= {self.head})": rows >= self.head,
            f"medium ({self.tail + 1} to {self.head - 1})": (rows > self.tail) & (rows < self.head),
            f"tail (<= {self.tail})": rows <= self.tail,
        }
        return {name: np.flatnonzero(inside).tolist() for name, inside in members.items()}


class RankingScores(_Record):
    """What no threshold enters; None where undefined.

    A label needs a gold row for an average precision, and one without it too for a ROC-AUC; the
    macro means leave the others out. roc_auc_labels, average_precision_labels: labels counted.
    """

    micro_roc_auc: float | None
    macro_roc_auc: float | None
    roc_auc_labels: int
    micro_average_precision: float | None
    macro_average_precision: float | None
    average_precision_labels: int


class BandScores(_Record):
    """Scores of the labels of one frequency band; None where it has no label."""

    labels: int
    gold_rows: int
    micro_f1: float | None
    macro_f1: float | None
    intervals: F1Intervals


class LabelRow(_Record):
    """One label. gold_rows, predicted_rows: rows that have it, and rows that it was given to."""

    label: str
    training_rows: int
    gold_rows: int
    predicted_rows: int
    precision: float
    recall: float
    f1: float
    average_precision: float | None


class Evaluation(_Record):
    """Everything that is measured of one set of decisions.

    bands: by frequency in training. by_gold_labels: rows with no gold label, with one, and with
    several, each where there are such rows. labels: in label order. domains, languages: by name,
    empty where rows have none; their macro-F1 counts labels that do not occur there as 0.
    """

    overall: LabelScores
    intervals: F1Intervals
    confidence: float
    ranking: RankingScores
    bands: dict[str, BandScores]
    by_gold_labels: dict[str, LabelScores]
    labels: tuple[LabelRow, ...]
    domains: dict[str, LabelScores] = {}
    languages: dict[str, LabelScores] = {}

    def as_markdown(self) -> str:
        """Tables of everything but the single labels; see `labels_as_markdown`."""
        return "\n".join([self._overall_table(), *self._level_table(), *self._group_tables()])

    def labels_as_markdown(self) -> str:
        """A table with one row a label, the most frequent in training first."""
        rows = [
            [
                each.label,
                f"{each.training_rows:,}",
                f"{each.gold_rows:,}",
                *map(score_text, (each.precision, each.recall, each.f1, each.average_precision)),
            ]
            for each in sorted(self.labels, key=lambda each: -each.training_rows)
        ]
        return markdown_table(
            ["label", "training rows", "gold rows", "precision", "recall", "F1", "AP"], rows
        )

    def _overall_table(self) -> str:
        inside = f"{percent(self.confidence)} interval"
        rows = [
            ["all labels", str(len(self.labels)), *_f1_cells(self.overall, self.intervals)],
            *(
                [name, str(band.labels), *_f1_cells(band, band.intervals)]
                for name, band in self.bands.items()
            ),
        ]
        return markdown_table(
            ["training rows a label", "labels", "micro-F1", inside, "macro-F1", inside], rows
        )

    def _level_table(self) -> list[str]:
        """Scores of coarse and of fine labels, where labels have two levels."""
        levels = self.overall.levels
        if levels is None:
            return []
        metrics = ("micro_f1", "macro_f1", "samples_f1", "exact_match")
        return [
            markdown_table(
                ["level", "micro-F1", "macro-F1", "samples F1", "exact match"],
                [
                    [name, *(score_text(getattr(scores, metric)) for metric in metrics)]
                    for name, scores in (("coarse", levels.coarse), ("fine", levels.fine))
                ],
            )
        ]

    def _group_tables(self) -> list[str]:
        groups = {
            "gold labels a row": self.by_gold_labels,
            "domain": self.domains,
            "language": self.languages,
        }
        heading = ["rows", "micro-F1", "samples F1", "exact match"]
        return [
            markdown_table(
                [name, *heading],
                [
                    [
                        key,
                        f"{scores.rows:,}",
                        *map(score_text, (scores.micro_f1, scores.samples_f1, scores.exact_match)),
                    ]
                    for key, scores in group.items()
                ],
            )
            for name, group in groups.items()
            if len(group) > 1  # a single one is all rows
        ]


def evaluate(
    gold: BoolArray,
    probabilities: Float32Array,
    decided: BoolArray,
    *,
    labels: Sequence[str],
    positives: Sequence[int],
    domains: Sequence[str | None] | None = None,
    languages: Sequence[str | None] | None = None,
    tree: LabelTree = ONE_LEVEL,
    bands: FrequencyBands | None = None,
    resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Evaluation:
    """Measure decisions against gold labels.

    gold, decided: (rows, labels) bool. probabilities: (rows, labels) float32, for the ranking.
    labels: names in column order. positives: training rows of each label, for the bands.
    domains, languages: one a row, or None if rows have none.
    tree: levels of the labels, for the overall scores. bands: None is `FrequencyBands()`.
    resamples: draws of the bootstrap intervals; with 0 there are none.
    """
    columns = (bands or FrequencyBands()).split(positives)
    intervals = f1_intervals(
        gold,
        decided,
        [range(len(labels)), *columns.values()],
        resamples=resamples,
        seed=seed,
        confidence=confidence,
    )
    counts = gold.sum(axis=1)
    by_count = {"none": counts == 0, "one": counts == 1, "several": counts > 1}
    return Evaluation(
        overall=Hits.count(gold, decided, tree).scores(),
        intervals=intervals[0],
        confidence=confidence,
        ranking=ranking_scores(gold, probabilities),
        bands={
            name: _band(gold[:, chosen], decided[:, chosen], inside)
            for (name, chosen), inside in zip(columns.items(), intervals[1:], strict=True)
        },
        by_gold_labels={
            name: _scores(gold[rows], decided[rows])
            for name, rows in by_count.items()
            if rows.any()
        },
        labels=_label_scores(gold, probabilities, decided, labels, positives),
        domains=_by_value(gold, decided, domains),
        languages=_by_value(gold, decided, languages),
    )


def ranking_scores(gold: BoolArray, probabilities: Float32Array) -> RankingScores:
    """ROC-AUC and average precision, micro and macro. gold, probabilities: (rows, labels)."""
    roc_auc = _by_label(roc_auc_score, gold, probabilities, _has_both)
    precision = _by_label(average_precision_score, gold, probabilities, _has_gold)
    pairs, flat = gold.ravel(), probabilities.ravel()
    return RankingScores(
        micro_roc_auc=_share(roc_auc_score, pairs, flat) if _has_both(pairs) else None,
        macro_roc_auc=_mean(roc_auc),
        roc_auc_labels=sum(value is not None for value in roc_auc),
        micro_average_precision=(
            _share(average_precision_score, pairs, flat) if _has_gold(pairs) else None
        ),
        macro_average_precision=_mean(precision),
        average_precision_labels=sum(value is not None for value in precision),
    )


def _by_label(
    metric: Metric,
    gold: BoolArray,
    probabilities: Float32Array,
    defined: Callable[[BoolArray], bool],
) -> list[float | None]:
    """A metric of each label's column, None where it is not defined."""
    return [
        _share(metric, gold[:, label], probabilities[:, label]) if defined(gold[:, label]) else None
        for label in range(gold.shape[1])
    ]


def _share(metric: Metric, gold: npt.NDArray[np.bool_], probabilities: Float32Array) -> float:
    """A metric without the last bit that its sum may lie above 1."""
    return min(float(metric(gold, probabilities)), 1.0)


def _has_gold(gold: npt.NDArray[np.bool_]) -> bool:
    return bool(gold.any())


def _has_both(gold: npt.NDArray[np.bool_]) -> bool:
    return bool(gold.any() and not gold.all())


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _scores(gold: BoolArray, decided: BoolArray) -> LabelScores:
    return Hits.count(gold, decided).scores()


def _band(gold: BoolArray, decided: BoolArray, intervals: F1Intervals) -> BandScores:
    scores = _scores(gold, decided) if gold.shape[1] else None
    return BandScores(
        labels=gold.shape[1],
        gold_rows=int(gold.any(axis=1).sum()),
        micro_f1=None if scores is None else scores.micro_f1,
        macro_f1=None if scores is None else scores.macro_f1,
        intervals=intervals,
    )


def _label_scores(
    gold: BoolArray,
    probabilities: Float32Array,
    decided: BoolArray,
    labels: Sequence[str],
    positives: Sequence[int],
) -> tuple[LabelRow, ...]:
    hits = Hits.count(gold, decided)
    gold_rows, predicted_rows = hits.gold_rows(), decided.sum(axis=0)
    precision, recall, f1 = hits.label_precision(), hits.label_recall(), hits.label_f1()
    average_precision = _by_label(average_precision_score, gold, probabilities, _has_gold)
    return tuple(
        LabelRow(
            label=label,
            training_rows=positives[at],
            gold_rows=int(gold_rows[at]),
            predicted_rows=int(predicted_rows[at]),
            precision=float(precision[at]),
            recall=float(recall[at]),
            f1=float(f1[at]),
            average_precision=average_precision[at],
        )
        for at, label in enumerate(labels)
    )


def _by_value(
    gold: BoolArray, decided: BoolArray, values: Sequence[str | None] | None
) -> dict[str, LabelScores]:
    """Scores of the rows of each domain or language, by name."""
    if values is None:
        return {}
    names = np.array([value if value and value.strip() else NO_VALUE for value in values])
    return {
        str(name): _scores(gold[names == name], decided[names == name]) for name in np.unique(names)
    }


def _f1_cells(scores: LabelScores | BandScores, intervals: F1Intervals) -> list[str]:
    cells = []
    for value, inside in (
        (scores.micro_f1, intervals.micro_f1),
        (scores.macro_f1, intervals.macro_f1),
    ):
        bounds = "–" if inside is None else f"{inside.low:.3f} to {inside.high:.3f}"
        cells += [score_text(value), bounds]
    return cells
