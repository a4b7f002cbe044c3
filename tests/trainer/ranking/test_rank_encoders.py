"""Ranking encoders that nobody has trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from matplotlib import image
from tokenizers import Tokenizer

from schemas.config.models import DataConfig
from schemas.errors import DataError, UsageError
from tests.tiny import make_encoder
from trainer.cli import main
from trainer.ranking import Ranking, rank_encoders
from trainer.ranking.neighbours import decide_by_neighbours


def test_the_most_votes_win_and_equal_ones_go_to_the_nearer() -> None:
    """Of five neighbours three decide; of two and two that of the nearest one."""
    angles = np.deg2rad([0, 1, 2, 3, 40, 41])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    labels = np.eye(2, dtype=np.bool_)[[1, 0, 0, 0, 1, 1]]

    assert decide_by_neighbours(vectors, labels, 3)[0].tolist() == [True, False]
    assert decide_by_neighbours(vectors, labels, 4)[4].tolist() == [True, False]
    assert decide_by_neighbours(vectors, labels, 1)[4].tolist() == [False, True]
    by_two = decide_by_neighbours(vectors, labels, 2)
    assert by_two[1].tolist() in ([True, False], [False, True])
    assert by_two[4].tolist() == [False, True]  # its nearest is row 5


def test_rows_with_several_labels_get_those_of_more_than_half() -> None:
    """Also none, where no label has a majority."""
    angles = np.deg2rad([0, 1, 2, 3])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    labels = np.array([[1, 1], [1, 1], [1, 0], [0, 0]], np.bool_)

    decided = decide_by_neighbours(vectors, labels, 3)

    assert decided[3].tolist() == [True, True]
    assert decided[0].tolist() == [True, False]


def test_scores_are_those_of_scikit_learn(tmp_path: Path, corpus: Path, encoder: Path) -> None:
    """Leave-one-out accuracy of a classifier over the same vectors, without repeated texts."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer
    from sklearn.model_selection import LeaveOneOut, cross_val_predict
    from sklearn.neighbors import KNeighborsClassifier

    rows = pl.read_parquet(corpus).with_columns(pl.col("labels").list.first()).drop("title")
    twice = pl.concat([rows, rows[:5]])
    twice.write_parquet(tmp_path / "topics.parquet")

    ranking = rank_encoders(
        DataConfig(path=tmp_path / "topics.parquet"), [str(encoder)], neighbours=3, max_tokens=32
    )

    layers = Transformer(str(encoder), max_seq_length=32)
    peer = SentenceTransformer(modules=[layers, Pooling(layers.get_word_embedding_dimension())])
    classifier = KNeighborsClassifier(3, metric="cosine", algorithm="brute")
    gold = rows["labels"].to_numpy()
    decided = cross_val_predict(
        classifier, peer.encode(rows["text"].to_list()), gold, cv=LeaveOneOut()
    )
    by_pooling = {one.pooling: one for one in ranking.encoders}
    assert ranking.rows == len(rows)
    assert by_pooling["mean"].accuracy == pytest.approx(np.mean(decided == gold), abs=0.045)
    assert set(by_pooling) == {"cls", "mean"}


def test_command_writes_a_table_and_a_picture(
    tmp_path: Path, corpus: Path, encoder: Path, tokenizer: Tokenizer
) -> None:
    """The best encoder comes first; rows of other parts are not read."""
    rows = pl.read_parquet(corpus)
    parts = rows.with_columns(split=pl.Series(["train"] * 30 + ["test"] * 18))
    parts.write_parquet(tmp_path / "parts.parquet")
    make_encoder(tmp_path / "other", "electra", tokenizer=tokenizer)
    words = ["--encoder", str(encoder), "--encoder", str(tmp_path / "other")]
    words += ["--output", str(tmp_path / "ranking"), "--max-tokens", "24"]

    result = CliRunner().invoke(main, ["rank-encoders", str(tmp_path / "parts.parquet"), *words])

    assert result.exit_code == 0, result.output
    ranking = Ranking.model_validate_json((tmp_path / "ranking" / "encoders.json").read_text())
    scores = [one.score for one in ranking.encoders]
    assert ranking.rows == 30
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)
    assert f"| {scores[0]:.3f} |" in result.output
    assert "![Scores](encoders.png)" in (tmp_path / "ranking" / "encoders.md").read_text()
    assert image.imread(tmp_path / "ranking" / "encoders.png").shape[0] > 100


def test_data_that_cannot_be_compared_are_refused(
    tmp_path: Path, corpus: Path, encoder: Path
) -> None:
    """Too few rows, and no labels at all."""
    rows = pl.read_parquet(corpus)
    rows[:4].write_parquet(tmp_path / "few.parquet")
    unlabelled = rows.with_columns(labels=pl.Series([[]] * len(rows), dtype=pl.List(pl.String)))
    unlabelled.write_parquet(tmp_path / "none.parquet")

    with pytest.raises(UsageError, match="4 different texts; 5 neighbours need more"):
        rank_encoders(DataConfig(path=tmp_path / "few.parquet"), [str(encoder)])
    with pytest.raises(DataError, match="no row has a label"):
        rank_encoders(DataConfig(path=tmp_path / "none.parquet"), [str(encoder)])
