"""What a cross-validation promises."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import polars as pl
import pytest
from accelerate import Accelerator
from click.testing import CliRunner
from matplotlib import image

from schemas.config.models import FoldConfig, TrainingRun
from schemas.decision.decide import Calibration, calibrate
from schemas.decision.thresholds import ThresholdRule, find_thresholds
from schemas.errors import CheckpointError, ConfigError, DataError
from schemas.kinds import KINDS
from schemas.kinds.base import corrected
from schemas.kinds.embedding import EmbeddingKind
from schemas.kinds.multiclass import MulticlassKind
from schemas.text.tokens import TextTokenizer
from tests.label_tasks import KIND
from trainer.checkpoint.reader import Checkpoint
from trainer.cli import main
from trainer.crossval import CrossValidation, CrossValidationFiles, cross_validate
from trainer.crossval.results import Spread
from trainer.data.dataset import load_tasks
from trainer.evaluation.held_out import predict

Row: TypeAlias = dict[str, Any]
MakeRun: TypeAlias = Callable[..., TrainingRun]

BRIEF = ("train.epochs=1",)


def write(corpus: Path, rows: list[Row]) -> None:
    """Replace the corpus."""
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(corpus)


def without_times(found: CrossValidation) -> Any:
    """Everything that is measured but seconds."""
    stored = found.model_dump()
    for task in stored["tasks"].values():
        for fold in task["folds"]:
            del fold["training_s"]
    return stored


class InterruptAt(logging.Handler):
    """Presses Ctrl-C when a line is logged for the given time."""

    def __init__(self, text: str, time: int) -> None:
        super().__init__()
        self.text, self.left = text, time

    def emit(self, record: logging.LogRecord) -> None:
        self.left -= self.text in record.getMessage()
        if self.left == 0:
            raise KeyboardInterrupt


@contextmanager
def interrupted_at(text: str, *, time: int) -> Iterator[None]:
    """Stops a run when it logs `text` for the given time."""
    log = logging.getLogger("trainer")
    handler, level = InterruptAt(text, time), log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def test_every_row_is_tested_once(make_run: MakeRun, rows: list[Row], tmp_path: Path) -> None:
    """The folds' test rows are together the rows there are, label by label."""
    (task,) = cross_validate(make_run(*BRIEF), tmp_path / "out", folds=3).tasks.values()

    assert sum(fold.test_rows for fold in task.folds) == len(rows)
    assert {fold.train_rows + fold.validation_rows + fold.test_rows for fold in task.folds} == {48}
    expected = Counter(label for row in rows for label in row["labels"])
    for rule in task.rules:
        assert rule.pooled.overall.rows == len(rows)
        assert {each.label: each.gold_rows for each in rule.pooled.labels} == expected


def test_only_tasks_with_thresholds_are_tested(
    make_run: MakeRun, config_file: Path, corpus: Path, rows: list[Row], tmp_path: Path
) -> None:
    """Tasks without thresholds are trained beside the others, and have no part in the results."""
    write(corpus, [{**row, "topic": row["labels"][0]} for row in rows])
    extra = f"""
        [tasks.topic]
        kind = "{MulticlassKind.NAME}"
        [[tasks.topic.data]]
        path = "corpus.parquet"
        labels_column = "topic"
        [tasks.vectors]
        kind = "{EmbeddingKind.NAME}"
        [[tasks.vectors.data]]
        path = "corpus.parquet"
        """
    config_file.write_text(config_file.read_text(encoding="utf-8") + extra, encoding="utf-8")
    found = cross_validate(make_run(*BRIEF), tmp_path / "out", folds=2)
    folds = [Checkpoint.open(folder) for folder in CrossValidationFiles(tmp_path / "out").folds()]

    assert list(found.tasks) == ["topics"]
    assert [list(fold.info.tasks) for fold in folds] == [["topics", "topic", "vectors"]] * 2


def test_files_hold_what_was_found(make_run: MakeRun, tmp_path: Path) -> None:
    """The JSON reads back, the page has a row for each fold, and the picture is a picture."""
    files = CrossValidationFiles(tmp_path / "out")
    found = cross_validate(make_run(*BRIEF), files.folder, folds=3)

    assert CrossValidation.model_validate_json(files.results.read_text()) == found
    page = files.page.read_text()
    assert all(page.count(f"\n| {fold} |") == 5 for fold in (1, 2, 3))  # three rules, two more
    assert "| grain |" in page
    assert image.imread(files.curves).shape[1] > 1000
    assert not list(files.folder.glob(".*"))


def test_mean_and_deviation_are_over_folds(make_run: MakeRun, tmp_path: Path) -> None:
    """Each metric's spread is that of the folds' scores."""
    (task,) = cross_validate(make_run(*BRIEF), tmp_path / "out", folds=3).tasks.values()
    rule = task.rules[0]

    values = [fold.scores.micro_f1 for fold in rule.folds]
    assert rule.spread["micro_f1"] == Spread.of(values)
    assert Spread.of([0.2, 0.4, 0.6]).mean == pytest.approx(0.4)
    assert Spread.of([0.2, 0.4, 0.6]).deviation == pytest.approx(0.2)
    assert Spread.of([0.2]).deviation is None


def test_thresholds_come_from_the_held_out_rows_of_the_fold(
    make_run: MakeRun, tmp_path: Path
) -> None:
    """Whoever has the fold's checkpoint alone finds the same thresholds."""
    run = make_run(*BRIEF, "tasks.topics.decision.thresholds.strategy=per_label")
    (task,) = cross_validate(run, tmp_path / "out", folds=2).tasks.values()
    checkpoint = Checkpoint.open(tmp_path / "out" / "fold-2")
    tokenizer = TextTokenizer(checkpoint.tokenizer, max_tokens=checkpoint.info.max_tokens)
    fold = run.model_copy(update={"fold": FoldConfig(index=1, of=2)})
    heldout = load_tasks(fold, tokenizer)["topics"].validation
    labels = checkpoint.info.tasks["topics"].labels
    path = checkpoint.model.path("topics")
    outputs = predict(
        path,
        KINDS[KIND].output(path.head.width),
        heldout,
        pad_id=0,
        max_tokens=24,
        bf16=False,
        accelerator=Accelerator(),
    )
    order = [labels.index(label) for label in task.labels]
    unseen = np.stack(corrected(outputs, checkpoint.corrections("topics")))
    probabilities = calibrate(unseen, Calibration.none(len(labels)))[:, order]
    gold = heldout.labels[:, order]

    expected = {
        "micro": ThresholdRule(strategy="global"),
        "macro": ThresholdRule(strategy="global", objective="macro_f1"),
        "config": ThresholdRule(strategy="per_label"),
    }
    assert {rule.name: rule.rule for rule in task.rules} == expected
    for rule in task.rules:
        found = find_thresholds(probabilities, gold, expected[rule.name])
        assert list(rule.folds[1].thresholds) == pytest.approx(found.tolist())


@pytest.mark.parametrize(("line", "time"), [("epoch 1 of 2", 2), ("test rows scored", 1)])
def test_interrupted_call_goes_on_to_the_same_end(
    make_run: MakeRun, tmp_path: Path, line: str, time: int
) -> None:
    """Stopped inside the second fold, or while scoring, it ends in the numbers of a whole one."""
    whole = cross_validate(make_run(), tmp_path / "whole", folds=2)
    with interrupted_at(line, time=time):
        cross_validate(make_run(), tmp_path / "stopped", folds=2)
    first = tmp_path / "stopped" / "fold-1" / "model.safetensors"
    written = first.stat().st_mtime_ns
    assert not CrossValidationFiles(tmp_path / "stopped").results.exists()
    again = cross_validate(make_run(), tmp_path / "stopped", folds=2)

    assert without_times(again) == without_times(whole)
    assert first.stat().st_mtime_ns == written


def test_rare_labels_stay_in_training(
    make_run: MakeRun, corpus: Path, rows: list[Row], tmp_path: Path
) -> None:
    """With fewer rows than folds a label is tested where it can be, and every fold can learn it."""
    rare = [
        {**rows[0], "text": f"A {name} of number {number}.", "labels": [name]}
        for name, count in (("gold", 1), ("tin", 2), ("zinc", 3))
        for number in range(count)
    ]
    write(corpus, rows + rare)
    (task,) = cross_validate(make_run(*BRIEF), tmp_path / "out", folds=5).tasks.values()

    tested = {each.label: each.gold_rows for each in task.rules[0].pooled.labels}
    assert (tested["gold"], tested["tin"], tested["zinc"]) == (0, 2, 3)
    for fold in range(1, 6):
        about = Checkpoint.open(tmp_path / "out" / f"fold-{fold}").info.tasks["topics"]
        assert set(about.labels) == {"grain", "oil", "ships", "gold", "tin", "zinc"}
        assert min(about.training.positives) >= 1


def test_too_few_rows_for_the_folds_are_reported(
    make_run: MakeRun, corpus: Path, rows: list[Row], tmp_path: Path
) -> None:
    """Rows that training cannot do without fill no fold; the file is named."""
    write(corpus, [{**row, "labels": [f"label {at}"]} for at, row in enumerate(rows[:9])])

    with pytest.raises(DataError, match=r"corpus\.parquet: cannot be split into 3 folds"):
        cross_validate(make_run(), tmp_path / "out", folds=3)


def test_data_changed_since_training_is_reported(
    make_run: MakeRun, corpus: Path, rows: list[Row], tmp_path: Path
) -> None:
    """Finished folds are not tested on rows that they may have been trained on."""
    cross_validate(make_run(*BRIEF), tmp_path / "out", folds=2)
    write(corpus, list(reversed(rows)))

    with pytest.raises(CheckpointError, match="'topics' has changed since this fold was trained"):
        cross_validate(make_run(*BRIEF), tmp_path / "out", folds=2)


def test_folder_of_another_run_is_kept_unless_overwritten(
    make_run: MakeRun, tmp_path: Path
) -> None:
    """Another config or number of folds is refused; with `overwrite` nothing of the old is left."""
    cross_validate(make_run(*BRIEF), tmp_path / "out", folds=3)
    with pytest.raises(CheckpointError, match="another config"):
        cross_validate(make_run(*BRIEF), tmp_path / "out", folds=2)
    found = cross_validate(make_run(*BRIEF), tmp_path / "out", folds=2, overwrite=True)

    assert len(found.tasks["topics"].folds) == 2
    assert sorted(path.name for path in (tmp_path / "out").glob("fold-*")) == ["fold-1", "fold-2"]


def test_config_with_a_fold_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    """The folds are set by the cross-validation, and by nobody else."""
    with pytest.raises(ConfigError, match="remove it from the config"):
        cross_validate(make_run("fold.index=0", "fold.of=2"), tmp_path / "out", folds=2)


def test_command_prints_the_summary(config_file: Path, corpus: Path, tmp_path: Path) -> None:
    """`cross-validate` prints one row a threshold rule, and where the files are."""
    words = ["cross-validate", str(config_file), "--folds", "2", "--set", "train.epochs=1"]
    result = CliRunner().invoke(main, [*words, "--output", str(tmp_path / "out")])

    assert result.exit_code == 0, result.output
    assert "topics, mean and deviation over 2 folds:" in result.output
    assert "| One threshold, best macro-F1 |" in result.output
    assert str(tmp_path / "out" / "curves.png") in result.output
    assert json.loads((tmp_path / "out" / "cross-validation.json").read_text())["folds"] == 2


def test_wrong_calls_are_reported(config_file: Path, tmp_path: Path) -> None:
    """One fold is no cross-validation, and a data set that is missing is a message."""
    for words, message in (
        (["--folds", "1"], "x>=2"),
        (["--set", "tasks.topics.data.0.path=none.parquet"], "no file or folder of this name"),
        (["--set", "fold.index=2", "--set", "fold.of=2"], "index 2 must be below of = 2"),
    ):
        command = ["cross-validate", str(config_file), "--output", str(tmp_path / "out"), *words]
        result = CliRunner().invoke(main, command)
        assert result.exit_code in (1, 2)
        assert message in result.output
        assert "Traceback" not in result.output


def test_two_level_labels_are_scored_by_level(make_run: MakeRun, tmp_path: Path) -> None:
    """On every fold and on all test rows together; the page has a table of the levels."""
    parents = ("tasks.topics.parents.oil=energy", "tasks.topics.parents.grain=farming")
    found = cross_validate(make_run(*BRIEF, *parents), tmp_path / "cv", folds=2)
    page = CrossValidationFiles(tmp_path / "cv").page.read_text(encoding="utf-8")
    task = found.tasks["topics"]
    rows = {label.label: label.gold_rows for label in task.rules[0].pooled.labels}

    assert rows["energy"] == rows["oil"] > 0
    for rule in task.rules:
        assert rule.pooled.overall.levels is not None
        assert all(fold.scores.levels is not None for fold in rule.folds)
    assert "| level | micro-F1 | macro-F1 | samples F1 | exact match |" in page
