"""Scores of predictions: from gold values and the columns of `batch-classify` to numbers.

Each counter takes the predictions of one task, with the gold columns of its corpus beside them
(prefix `gold_`), and returns what scores any of their rows, which may repeat.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from schemas.arrays import Int64Array
from schemas.decision.classes import Confusion
from schemas.decision.metrics import Hits
from schemas.decision.spans import SpanHits
from schemas.tasks.task import label_matrix

ScoreRows = Callable[[Int64Array], Mapping[str, float]]
Counter = Callable[[pl.DataFrame], ScoreRows]

GOLD = "gold_"
FIXED = 0.25
"""Fixed threshold of the founding document."""
LEAST_ROWS = 20
"""A probe leaves out values with fewer rows."""
OTHER = "Other"
"""The narrative, and the sub-narrative, of what no other one fits."""


def classes(column: str = "labels") -> Counter:
    """Accuracy, and macro averages over the classes, of tasks with one label."""

    def count(rows: pl.DataFrame) -> ScoreRows:
        gold, decided = rows[GOLD + column].to_list(), rows["label"].to_list()
        numbers = {label: number for number, label in enumerate(sorted({*gold, *decided}))}
        of_gold, of_decided = (
            np.array([numbers[label] for label in labels]) for labels in (gold, decided)
        )

        def score(chosen: Int64Array) -> Mapping[str, float]:
            scores = Confusion.count(of_gold[chosen], of_decided[chosen], len(numbers)).scores()
            return {
                "accuracy": scores.accuracy,
                "macro_f1": scores.macro_f1,
                "macro_precision": scores.macro_precision,
                "macro_recall": scores.macro_recall,
            }

        return score

    return count


def label_sets(column: str = "labels") -> Counter:
    """Share of rows with exactly the right labels, and F1, of tasks whose answers are label sets.

    The gold column has one label a row.
    """

    def count(rows: pl.DataFrame) -> ScoreRows:
        gold = [[label] for label in rows[GOLD + column].to_list()]
        decided = rows["labels"].to_list()
        labels = tuple(sorted({label for row in [*gold, *decided] for label in row}))
        of_gold, of_decided = (
            label_matrix(side, labels, source=column) for side in (gold, decided)
        )

        def score(chosen: Int64Array) -> Mapping[str, float]:
            scores = Hits.count(of_gold[chosen], of_decided[chosen]).scores()
            return {"accuracy": scores.exact_match, "macro_f1": scores.macro_f1}

        return score

    return count


def probe(column: str) -> Counter:
    """How well a logistic regression predicts a gold column from the vectors of the texts, beside
    the share of its most frequent value. Values with fewer than `LEAST_ROWS` rows are left out.

    Cross-validated in three folds of the rows. Reads `embedding`, (rows, dimension) float32.
    """

    def count(rows: pl.DataFrame) -> ScoreRows:
        names = rows[GOLD + column].to_numpy()
        values, number, counts = np.unique(names, return_inverse=True, return_counts=True)
        if (counts >= LEAST_ROWS).sum() < 2:
            raise ValueError(f"{column}: fewer than two values have {LEAST_ROWS} rows to probe for")
        is_probed = counts[number] >= LEAST_ROWS
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
        vectors = rows["embedding"].to_numpy()[is_probed]
        predicted = np.full(len(names), "", names.dtype)
        predicted[is_probed] = cross_val_predict(model, vectors, names[is_probed], cv=3)
        most_frequent = values[counts.argmax()]

        def score(chosen: Int64Array) -> Mapping[str, float]:
            probed = chosen[is_probed[chosen]]
            gold = names[probed]
            return {
                f"{column}_accuracy": float((predicted[probed] == gold).mean()),
                f"{column}_majority": float((gold == most_frequent).mean()),
            }

        return score

    return count


def spans(rows: pl.DataFrame) -> ScoreRows:
    """Micro and macro F1 of whole spans, and the F1 of each label."""
    gold, decided = (
        [[(one["start"], one["end"], one["label"]) for one in row] for row in rows[column]]
        for column in (GOLD + "entities", "entities")
    )
    labels = sorted({label for row in gold for *_, label in row})
    numbers = {label: number for number, label in enumerate(labels)}
    of_gold, of_decided = (
        [
            np.array([(s, e, numbers[label]) for s, e, label in row], np.int64).reshape(-1, 3)
            for row in side
        ]
        for side in (gold, decided)
    )

    def score(chosen: Int64Array) -> Mapping[str, float]:
        hits = SpanHits.count(
            [of_gold[row] for row in chosen], [of_decided[row] for row in chosen], len(labels)
        )
        scores = hits.scores()
        of_labels = dict(zip(labels, hits.label_f1().tolist(), strict=True))
        return {
            "span_f1": scores.micro_f1,
            "macro_span_f1": scores.macro_f1,
            **{f"span_f1_{label}": value for label, value in of_labels.items()},
        }

    return score


def narratives(rows: pl.DataFrame) -> ScoreRows:
    """F1 of a document's label sets, averaged over documents: the official metric of subtask 2.

    A narrative without a sub-narrative has the sub-narrative "Other", and a document without any
    narrative is "Other", as the format of the official predictions asks.
    """
    gold_fine, gold_coarse = rows[GOLD + "labels_fine"].to_list(), rows[GOLD + "labels"].to_list()
    coarse_names = {label for row in gold_coarse for label in row}
    coarse, fine = zip(
        *(_narrative_levels(row, coarse_names) for row in rows["labels"].to_list()), strict=True
    )
    of_documents = {
        "samples_f1_coarse": _set_f1(gold_coarse, coarse),
        "samples_f1_fine": _set_f1(gold_fine, fine),
    }
    return lambda chosen: {name: float(f1[chosen].mean()) for name, f1 in of_documents.items()}


def _narrative_levels(labels: Sequence[str], coarse_names: set[str]) -> tuple[set[str], set[str]]:
    """Narratives and sub-narratives of decided labels."""
    coarse = {label for label in labels if label in coarse_names}
    fine = set(labels) - coarse
    childless = {label for label in coarse if not any(one.startswith(f"{label}: ") for one in fine)}
    fine |= {label if label == OTHER else f"{label}: {OTHER}" for label in childless}
    return coarse or {OTHER}, fine or {OTHER}


def _set_f1(gold: Sequence[Sequence[str]], decided: Sequence[set[str]]) -> np.ndarray:
    return np.array(
        [
            2 * len(set(one) & other) / (len(set(one)) + len(other))
            for one, other in zip(gold, decided, strict=True)
        ]
    )


def roles(main_of: Mapping[str, str]) -> Counter:
    """Official metrics of subtask 1: exact match of the fine roles, their micro F1, and accuracy of
    the main role.

    A mention always has a fine role: the most probable one where none reaches its threshold. Where
    a model knows no main roles, that of the most probable fine role counts.
    main_of: main role of each fine one.
    """
    main_names = set(main_of.values())

    def main_role(chances: Mapping[str, float]) -> str:
        best = max(main_names & chances.keys() or chances, key=chances.__getitem__)
        return main_of.get(best, best)

    def count(rows: pl.DataFrame) -> ScoreRows:
        gold, gold_main = rows[GOLD + "labels"].to_list(), rows[GOLD + "main_role"].to_list()
        probabilities = _probabilities(rows)
        fine = [
            [label for label in row if label not in main_names]
            or [max(chances.keys() - main_names, key=chances.__getitem__)]
            for row, chances in zip(rows["labels"].to_list(), probabilities, strict=True)
        ]
        labels = tuple(sorted({label for row in [*gold, *fine] for label in row}))
        of_gold, of_fine = (label_matrix(side, labels, source="roles") for side in (gold, fine))
        is_main = np.array(
            [one == main_role(each) for one, each in zip(gold_main, probabilities, strict=True)]
        )

        def score(chosen: Int64Array) -> Mapping[str, float]:
            scores = Hits.count(of_gold[chosen], of_fine[chosen]).scores()
            return {
                "exact_match": scores.exact_match,
                "micro_f1": scores.micro_f1,
                "micro_precision": scores.precision,
                "micro_recall": scores.recall,
                "main_role_accuracy": float(is_main[chosen].mean()),
            }

        return score

    return count


def _probabilities(rows: pl.DataFrame) -> list[dict[str, float]]:
    """Probability of each label of each row, whether polars has maps or lists of their entries."""
    return [
        dict(row) if isinstance(row, dict) else {one["key"]: one["value"] for one in row}
        for row in rows["probabilities"].to_list()
    ]


def topics(labels: Sequence[str], medium_column: str | None = None) -> Counter:
    """Micro and macro F1 of a listed set of labels, with exact matches.

    medium_column: gold column of labels that also have a macro F1 of their own.
    """

    def count(rows: pl.DataFrame) -> ScoreRows:
        gold = [[one for one in row if one in labels] for row in rows[GOLD + "labels"].to_list()]
        of_medium = rows[GOLD + medium_column].to_list() if medium_column else []
        is_medium = np.isin(labels, list({label for row in of_medium for label in row}))
        of_gold, of_decided = (
            label_matrix(side, tuple(labels), source="labels")
            for side in (gold, rows["labels"].to_list())
        )

        def score(chosen: Int64Array) -> Mapping[str, float]:
            hits = Hits.count(of_gold[chosen], of_decided[chosen])
            scores = hits.scores()
            of_labels = {
                "micro_f1": scores.micro_f1,
                "macro_f1": scores.macro_f1,
                "exact_match": scores.exact_match,
            }
            if medium_column:
                of_labels["macro_f1_medium"] = float(hits.label_f1()[is_medium].mean())
            return of_labels

        return score

    return count


def label_sets_by(facet: str, *, fine: bool) -> Counter:
    """Micro and macro F1 and exact matches of coarse or fine labels, for each value of a column.

    With the decided labels, and with all that have a probability of 0.25. Macro-F1 is the mean over
    labels that occur, in gold or decided, as the founding document has it.
    """

    def count(rows: pl.DataFrame) -> ScoreRows:
        gold = rows[GOLD + "labels"].to_list()
        names = {label for row in gold for label in row}
        decided = {
            "": rows["labels"].to_list(),
            "_at_0.25": [
                [label for label, value in row.items() if value >= FIXED]
                for row in _probabilities(rows)
            ],
        }
        if fine:
            names |= {one for row in decided[""] for one in row} - {*rows[GOLD + "main_role"]}
        labels = tuple(sorted(names))
        of_gold = label_matrix(gold, labels, source="gold")
        of_decided = {
            suffix: label_matrix(
                [[one for one in row if one in names] for row in side], labels, source="decided"
            )
            for suffix, side in decided.items()
        }
        facets = np.array([value or "" for value in rows[GOLD + facet].to_list()])

        def score(chosen: Int64Array) -> Mapping[str, float]:
            scores = {}
            for value in ["all", *sorted({*facets} - {""})]:
                places = chosen if value == "all" else chosen[facets[chosen] == value]
                for suffix, side in of_decided.items():
                    hits = Hits.count(of_gold[places], side[places])
                    occurs = (of_gold[places] | side[places]).any(axis=0)
                    of_places = hits.scores()
                    macro = float(hits.label_f1()[occurs].mean()) if occurs.any() else 0.0
                    scores[f"micro_f1_{value}{suffix}"] = of_places.micro_f1
                    scores[f"macro_f1_{value}{suffix}"] = macro
                    scores[f"exact_match_{value}{suffix}"] = of_places.exact_match
            return scores

        return score

    return count


def scores_and_deviations(
    score: ScoreRows, rows: int, *, resamples: int = 100
) -> tuple[dict[str, float], dict[str, float]]:
    """Scores of all rows, and how far each would move with other test rows (bootstrap)."""
    every, rng = np.arange(rows, dtype=np.int64), np.random.default_rng(0)
    resampled = [score(rng.choice(every, rows)) for _ in range(resamples)]
    scores = {name: float(value) for name, value in score(every).items()}
    deviations = {name: float(np.std([one[name] for one in resampled])) for name in scores}
    return scores, deviations
