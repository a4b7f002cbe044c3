"""Gold labels that are not what they seem are refused before anything is scored."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result

from batch.corpus.gold import gold_targets, read_gold_column
from schemas.kinds import KINDS
from schemas.tasks.parents import NO_PARENTS
from tests.label_tasks import KIND

Write = Callable[..., Path]
Command = Callable[..., Result]

TEXTS = ["Aid is wasted by officials.", "Sanctions hurt us.", "Talks now, or war for ever."]

MISTAKES: dict[str, tuple[Any, str]] = {
    "another case": ([["Other"], [], ["other"]], "row 2: .* it looks like 'Other'"),
    "a blank": ([["Other"], ["Other "], []], "row 1: .* U\\+0020 against nothing"),
    "another alphabet form": ([[], ["\uff2fther"], []], "row 1: .* U\\+FF2F against U\\+004F"),
    "JSON": (['["Other"]', "[]", "Other"], "row 0: .* is a list written as text"),
    "Python": (["Other", "['Other', 'Other']", None], "row 1: .* is a list written as text"),
    "separators": (["Other", "Other, Other", None], "row 1: .* is a list written as text"),
}


@pytest.mark.parametrize("ignore", [False, True], ids=["", "unknown labels ignored"])
@pytest.mark.parametrize("name", MISTAKES)
def test_mistaken_label_is_refused(
    write: Write, batch_classify: Command, tmp_path: Path, name: str, ignore: bool
) -> None:
    """With its row and what is wrong, also where labels that the model does not know are ignored:
    it would count as a label that the model never finds.
    """
    labels, message = MISTAKES[name]
    corpus = write({"text": TEXTS, "labels": labels})
    flags = ["--ignore-unknown-gold"] * ignore
    result = batch_classify(corpus, *flags, output=tmp_path / "scored", gold_column="labels")

    assert result.exit_code == 1, result.output
    assert re.search(message, result.stderr.replace("\n", " ")), result.stderr
    assert not (tmp_path / "scored").exists()


def test_label_that_is_not_utf8_costs_its_row(
    write: Write, batch_classify: Command, tmp_path: Path
) -> None:
    """The row is quarantined with the reason, the others are scored and compared."""
    labels = pa.array([[b"Other"], [b"Other", b"\xff"], []])
    corpus, output = write({"text": TEXTS, "labels": labels}), tmp_path / "scored"
    result = batch_classify(corpus, output=output, gold_column="labels", max_quarantined=1)
    quarantined = pq.read_table(output / "quarantine").to_pylist()

    assert result.exit_code == 0, result.output
    assert [row["source_row"] for row in quarantined] == [1]
    assert "gold column 'labels': not UTF-8: byte 0xff" in quarantined[0]["reason"]
    assert pq.read_table(output / "predictions").num_rows == 2


def test_unknown_label_can_be_ignored(
    write: Write, batch_classify: Command, tmp_path: Path
) -> None:
    """A label that is like none that the model knows is left out of the scores."""
    corpus = write({"text": TEXTS, "labels": [["Other"], ["zzzzzz"], None]})
    output = tmp_path / "scored"
    refused = batch_classify(corpus, output=output, gold_column="labels")
    result = batch_classify(corpus, "--ignore-unknown-gold", output=output, gold_column="labels")

    assert "'zzzzzz', which is not a label of the model; it has" in refused.stderr
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("labels", "labelled"),
    [
        (pa.array([["Other"], None, []]), [True, False, True]),
        (pa.array(["Other", None, ""]), [True, False, False]),
        (pa.array([b"Other", None, b" "]), [True, False, False]),
        (pa.array([[], None, []], pa.list_(pa.null())), [True, False, True]),
    ],
    ids=["lists", "strings", "binary", "empty lists"],
)
def test_null_is_not_labelled(labels: pa.Array, labelled: list[bool]) -> None:
    """Null, and blank in a column of single labels, is not counted; an empty list is."""
    kind = KINDS[KIND]
    targets, is_labelled = gold_targets(
        kind, read_gold_column(kind, labels), ("Other",), NO_PARENTS
    )

    assert is_labelled.tolist() == labelled
    assert np.asarray(targets)[~is_labelled].sum() == 0
