"""The demo's model beside TF-IDF with a linear support vector machine, on the articles it scored.

Both learn from the same training articles. The baseline takes one threshold, chosen by
cross-validation over all of them; the demo's model chooses thresholds on the share that it held
out.
"""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np
import polars as pl

from bench.training.baselines import fit
from schemas.arrays import BoolArray
from schemas.decision.decide import decide
from schemas.decision.metrics import Hits
from schemas.decision.thresholds import best_threshold, each_fold
from schemas.tasks.task import label_matrix


@click.command(help=__doc__)
@click.argument("scored", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--samples",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=Path("samples"),
    show_default=True,
    help="Folder of the training articles and of those that were scored.",
)
def main(scored: Path, samples: Path) -> None:
    """Print micro-F1 and macro-F1 of both."""
    train, articles = (
        pl.read_parquet(samples / f"{name}.parquet") for name in ("train", "articles")
    )
    labels = tuple(sorted(set(train["narratives"].explode().drop_nulls())))
    training_gold, gold = (
        label_matrix(rows["narratives"].to_list(), labels, source="narratives")
        for rows in (train, articles)
    )
    predicted = pl.read_parquet(scored / "predictions" / "*.parquet")
    joined = articles.select("article_id").join(predicted, on="article_id", validate="1:1")
    ours = label_matrix(joined["narrative_labels"].to_list(), labels, source=str(scored))
    words, pairs = (
        _baseline(_texts(train), training_gold, _texts(articles), pairs=pairs)
        for pairs in (False, True)
    )
    rows = {
        "this model": ours,
        "linear SVM, TF-IDF of words": words,
        "linear SVM, words and pairs": pairs,
    }
    click.echo(f"{f'narratives of {len(articles)} articles':28} micro-F1  macro-F1")
    for name, decided in rows.items():
        scores = Hits.count(gold, decided).scores()
        click.echo(f"{name:28} {scores.micro_f1:8.3f}  {scores.macro_f1:8.3f}")


def _baseline(texts: list[str], gold: BoolArray, others: list[str], *, pairs: bool) -> BoolArray:
    """Decisions of the baseline for other texts, at the threshold that suits unseen folds best."""
    unseen = np.zeros(gold.shape, np.float32)
    for tested in each_fold(len(texts)):
        training_gold = gold[~tested]
        used = training_gold.any(axis=0)  # a label may have no row outside the fold
        training_texts = [texts[row] for row in np.flatnonzero(~tested)]
        fitted = fit("tfidf-svm", training_texts, training_gold[:, used], pairs=pairs)
        tested_texts = [texts[row] for row in np.flatnonzero(tested)]
        unseen[np.ix_(tested, used)] = fitted.score(tested_texts)
    threshold = np.full(gold.shape[1], best_threshold(unseen, gold), np.float32)
    return decide(fit("tfidf-svm", texts, gold, pairs=pairs).score(others), threshold)


def _texts(rows: pl.DataFrame) -> list[str]:
    return [f"{title}. {text}" for title, text in rows.select("title", "text").iter_rows()]


if __name__ == "__main__":
    main()
