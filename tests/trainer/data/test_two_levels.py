"""Gold values of two-level labels are complete wherever training reads them."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import numpy as np
import polars as pl
import pytest
from tokenizers import Tokenizer

from schemas.config.models import TrainingRun
from schemas.errors import ConfigError
from schemas.tasks.parents import parents_of
from schemas.text.tokens import TextTokenizer
from tests.trainer.conftest import MakeRun, Row
from trainer.checkpoint.reader import Checkpoint
from trainer.data.dataset import load_fold_tests, load_tasks
from trainer.data.task_data import TaskData
from trainer.training.loop import train

Overrides: TypeAlias = tuple[str, ...]

PARENTS = ("tasks.topics.parents.oil=energy", "tasks.topics.parents.grain=farming")
FOLD = ("fold.index=0", "fold.of=3")


def loaded(run: TrainingRun, tokenizer: Tokenizer) -> TaskData:
    """The data of the only task."""
    return load_tasks(run, TextTokenizer(tokenizer, max_tokens=24))["topics"]


def test_data_with_fine_labels_alone_have_coarse_ones(
    make_run: MakeRun, tokenizer: Tokenizer
) -> None:
    """Parents that occur in no row are labels, in every count and in the held-out rows."""
    data = loaded(make_run(*PARENTS), tokenizer)
    column = {label: index for index, label in enumerate(data.labels)}
    counts = dict(zip(data.labels, data.positives, strict=True))

    assert set(data.labels) == {"oil", "energy", "grain", "farming", "ships"}
    for rows in (data.train, data.validation):
        targets = np.asarray(rows.targets)
        assert targets is rows.labels
        assert (targets[:, column["energy"]] == targets[:, column["oil"]]).all()
    assert counts["energy"] == counts["oil"] > 0
    assert all(("energy" in gold) == ("oil" in gold) for gold in data.heldout.gold)


def test_coarse_labels_of_the_data_count_too(
    make_run: MakeRun, corpus: Path, rows: list[Row], tokenizer: Tokenizer
) -> None:
    """A row may name a coarse label alone; together with a fine one it counts once."""
    before = loaded(make_run(*PARENTS), tokenizer)
    more = [{**row, "labels": ["energy", *row["labels"]]} for row in rows]
    pl.DataFrame(more).write_parquet(corpus)
    data = loaded(make_run(*PARENTS), tokenizer)
    at = data.labels.index("energy")

    assert data.train.labels[:, at].all()
    assert before.positives[before.labels.index("energy")] < data.positives[at]


def test_the_fold_to_be_tested_on_is_complete(make_run: MakeRun, tokenizer: Tokenizer) -> None:
    """Test rows of a cross-validation have the coarse labels of their fine ones."""
    run = make_run(*PARENTS, *FOLD)
    labels = ("oil", "energy", "grain", "farming", "ships")
    test = load_fold_tests(run, {"topics": labels}, TextTokenizer(tokenizer, max_tokens=24))[
        "topics"
    ]

    assert test.rows.labels[:, 0].any()
    assert (test.rows.labels[:, 0] == test.rows.labels[:, 1]).all()


def test_listed_labels_need_no_row_of_a_coarse_one(make_run: MakeRun, tokenizer: Tokenizer) -> None:
    """A listed coarse label whose fine labels occur is no label without a training row."""
    listed = 'tasks.topics.labels=["oil", "energy", "grain", "farming", "ships"]'
    data = loaded(make_run(listed, *PARENTS), tokenizer)

    assert data.labels == ("oil", "energy", "grain", "farming", "ships")


def test_a_parent_of_an_unknown_label_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    """The message names the label that was probably meant."""
    run = make_run("tasks.topics.parents.oils=energy", "tasks.topics.head=mean")

    with pytest.raises(ConfigError, match="did you mean 'oil'") as caught:
        train(run, tmp_path / "out")
    assert "tasks.topics.parents: 'oils' is no label of the data" in str(caught.value)


def test_fine_labels_without_a_row_are_left_out(make_run: MakeRun, tmp_path: Path) -> None:
    """One list of parents serves data sets that each have some of the labels."""
    also = ("tasks.topics.parents.zinc=metals", "train.epochs=1")
    trained = Checkpoint.open(train(make_run(*PARENTS, *also), tmp_path / "out").folder)

    task = trained.info.tasks["topics"]
    assert "zinc" not in task.labels
    assert set(parents_of(task.options)) < set(task.labels)


def test_training_without_parents_ignores_levels(make_run: MakeRun, tmp_path: Path) -> None:
    """A checkpoint of one level says nothing of parents; one of two levels does."""
    still = ("train.epochs=1",)
    flat = Checkpoint.open(train(make_run(*still), tmp_path / "flat").folder)
    deep = Checkpoint.open(train(make_run(*still, *PARENTS), tmp_path / "deep").folder)

    assert "parents" not in flat.files.info.read_text(encoding="utf-8")
    assert '"parents"' in deep.files.info.read_text(encoding="utf-8")
