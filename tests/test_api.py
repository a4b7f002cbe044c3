"""What the Python API promises: the scores of batch-classify, to the last bit, without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from batch.cli import main
from narrascan import Article, NarrascanError, Scorer
from tests.tiny import SAMPLES

TEXTS = ["Aid is wasted by officials.", " ", None, "Talks now, or war for ever. " * 60]


def test_scores_are_those_of_batch_classify(bundle: Path, tmp_path: Path) -> None:
    """Labels, the bits of the probabilities, tokens and status, for plain and for long texts."""
    corpus, output = tmp_path / "corpus.parquet", tmp_path / "scored"
    rows = pq.read_table(SAMPLES / "articles.parquet", columns=["text"])["text"].to_pylist()[:20]
    pq.write_table(pa.table({"text": [*TEXTS, *rows]}), corpus)
    words = [str(corpus), "--task", "narrative", "--bundle", str(bundle), "--output", str(output)]
    assert CliRunner().invoke(main, words).exit_code == 0
    expected = pq.read_table(output / "predictions").to_pylist()
    predictions = Scorer(bundle, task="narrative").score([*TEXTS, *rows])

    assert [one.status for one in predictions[:4]] == ["ok", "empty", "empty", "truncated"]
    for row, one in zip(expected, predictions, strict=True):
        assert (row["labels"], row["tokens"], row["status"]) == (
            list(one.labels),
            one.tokens,
            one.status,
        )
        assert row["probabilities"] == (one.probabilities and list(one.probabilities.items()))


def test_a_title_and_an_entity_are_read_where_the_task_does(bundle: Path) -> None:
    """An Article has them; a span that does not fit is an error that names the text."""
    narrative, framing = (Scorer(bundle, task=task) for task in ("narrative", "entity_framing"))
    text = "Kyiv talks to Paris."
    with_title = narrative.score([Article(text, title="Sanctions"), text])
    spans = framing.score([Article(text, start=0, end=4), Article(text, start=14, end=19)])

    assert with_title[0].tokens > with_title[1].tokens
    assert spans[0].probabilities != spans[1].probabilities
    with pytest.raises(NarrascanError, match="text 1: entity offsets are missing"):
        framing.score([Article(text, start=0, end=4), text])


def test_no_texts_give_no_predictions(bundle: Path) -> None:
    """An empty batch of a data frame is ordinary."""
    scorer = Scorer(str(bundle), task="narrative")

    assert scorer.score([]) == scorer.score(np.array([], dtype=object)) == []  # type: ignore[arg-type]
    assert len(scorer.labels) > 3


def test_what_is_not_there_is_refused(bundle: Path) -> None:
    """With the errors of the command line."""
    with pytest.raises(NarrascanError, match="narative"):
        Scorer(bundle, task="narative")
    with pytest.raises(NarrascanError, match="no bundle here"):
        Scorer(bundle / "nowhere", task="narrative")


def test_the_api_loads_no_training_stack(bundle: Path) -> None:
    """A worker of a cluster needs neither torch nor transformers."""
    code = (
        "import sys; from narrascan import Scorer; "
        f"print(len(Scorer({str(bundle)!r}, task='narrative').score(['a'])), "
        "*sorted({'torch', 'transformers', 'onnx', 'polars'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert shown.stdout.split() == ["1"]
