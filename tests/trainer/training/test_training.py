"""What a training run promises: what it writes, and when it refuses."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import polars as pl
import pyarrow.parquet as pq
import pytest
from accelerate import Accelerator
from click.testing import CliRunner, Result
from matplotlib import image
from safetensors.torch import load_file
from tokenizers import Tokenizer

from schemas.config.models import TrainingRun
from schemas.decision.metrics import F1Scores
from schemas.errors import CheckpointError, ConfigError, TrainingError
from schemas.kinds import KINDS
from schemas.kinds.multilabel import MultilabelOptions
from schemas.text.model_text import MARKERS
from schemas.text.tokens import TextTokenizer
from tests.label_tasks import KIND, options_of
from trainer.checkpoint.reader import Checkpoint, CheckpointFiles, heldout_schema
from trainer.cli import main
from trainer.data.dataset import load_tasks
from trainer.evaluation.held_out import predict
from trainer.kinds import TRAINER_KINDS
from trainer.training.loop import train

Row: TypeAlias = dict[str, Any]
MakeRun: TypeAlias = Callable[..., TrainingRun]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but those that hold times."""
    timed = {"history.json", "curves.png"}
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in timed
    }


def epochs(folder: Path) -> list[dict[str, Any]]:
    """The epochs of history.json without what was timed."""
    timed = {"seconds", "articles_per_s", "tokens_per_s"}
    stored = json.loads((folder / "history.json").read_text())["epochs"]
    return [{key: value for key, value in epoch.items() if key not in timed} for epoch in stored]


def command(config: Path, output: Path, *options: str) -> Result:
    """Run `train-classifier`."""
    return CliRunner().invoke(main, [str(config), "--output", str(output), *options])


def test_checkpoint_folder_is_whole(make_run: MakeRun, tmp_path: Path) -> None:
    """Weights, tokenizer, facts, held-out rows, a sample of the training rows' ids, reference,
    history and curves; nothing else."""
    train(make_run(), tmp_path / "out")

    assert {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*")} == {
        "checkpoint.json",
        "config.json",
        "curves.png",
        "heldout",
        "heldout/topics.parquet",
        "history.json",
        "model.safetensors",
        "reference.json",
        "sample",
        "sample/topics.parquet",
        "tokenizer.json",
    }


def test_checkpoint_opens_again(make_run: MakeRun, tmp_path: Path) -> None:
    """The folder alone gives back model, tokenizer and facts, and these agree."""
    train(make_run(), tmp_path / "out")
    checkpoint = Checkpoint.open(tmp_path / "out")
    about = checkpoint.info.tasks["topics"]

    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert set(checkpoint.model.state_dict()) == set(stored)
    assert sorted(about.labels) == ["grain", "oil", "ships"]
    assert checkpoint.info.max_tokens == 24
    assert about.training.loss == "ntr-fl"
    assert options_of(about.options) == MultilabelOptions()
    assert about.training.config_sha256 == checkpoint.info.config_sha256
    articles, gold = checkpoint.heldout("topics")
    assert len(gold) == len(articles)
    assert {label for row in gold for label in row} == set(about.labels)
    assert about.training.train_rows + len(articles) == 48


def test_held_out_rows_are_those_that_were_not_trained_on(
    make_run: MakeRun, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    """The Parquet file for the exporter has the validation rows, with every column it needs."""
    run = make_run()
    train(run, tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "heldout" / "topics.parquet")
    text_tokenizer = TextTokenizer(Tokenizer.from_str(tokenizer.to_str()), max_tokens=24)
    expected = load_tasks(run, text_tokenizer)["topics"].heldout

    assert table.schema.equals(heldout_schema(KIND))
    assert table["text"].to_pylist() == [article.text for article in expected.articles]
    assert table["title"].to_pylist() == [article.title for article in expected.articles]
    assert table["gold"].to_pylist() == list(expected.gold)


def test_history_has_every_epoch(make_run: MakeRun, tmp_path: Path) -> None:
    """Loss, validation scores and metric of each epoch, and a rate that ends at zero."""
    train(make_run("train.epochs=3"), tmp_path / "out")
    history = epochs(tmp_path / "out")

    assert [epoch["epoch"] for epoch in history] == [1, 2, 3]
    assert history[0]["loss"]["topics"] > history[-1]["loss"]["topics"] > 0
    assert history[-1]["learning_rate"] == 0
    for epoch in history:
        scores = epoch["validation"]["topics"]
        assert epoch["metric"] == pytest.approx((scores["micro_f1"] + scores["macro_f1"]) / 2)


def test_curves_are_a_picture(make_run: MakeRun, tmp_path: Path) -> None:
    """The curves open as an image that is not blank."""
    train(make_run(), tmp_path / "out")
    pixels = image.imread(tmp_path / "out" / "curves.png")

    assert pixels.shape[0] > 300
    assert pixels.shape[1] > 800
    assert pixels.min() < 0.5 < pixels.max()


def test_reference_describes_the_training_rows(make_run: MakeRun, tmp_path: Path) -> None:
    """Label shares, labels a row and token quantiles of the training rows."""
    train(make_run(), tmp_path / "out")
    reference = json.loads((tmp_path / "out" / "reference.json").read_text())["topics"]
    about = Checkpoint.open(tmp_path / "out").info.tasks["topics"]

    rows = reference["rows"]
    assert rows == about.training.train_rows
    assert [round(share * rows) for share in reference["label_share"].values()] == list(
        about.training.positives
    )
    assert list(reference["label_share"]) == list(about.labels)
    assert sum(reference["labels_a_row"].values()) == rows
    assert max(reference["token_quantiles"].values()) <= 24


def held_out_scores(checkpoint: Checkpoint, run: TrainingRun) -> F1Scores:
    """Scores of a checkpoint on its held-out rows, as epochs are scored."""
    data = load_tasks(run, TextTokenizer(checkpoint.tokenizer, max_tokens=24))["topics"]
    path = checkpoint.model.path("topics")
    outputs = predict(
        path,
        KINDS[KIND].output(path.head.width),
        data.validation,
        pad_id=0,
        max_tokens=24,
        bf16=False,
        accelerator=Accelerator(),
    )
    objective = TRAINER_KINDS[KIND].objective(run.tasks["topics"])
    assert objective is not None
    return objective.score(run.tasks["topics"], data, outputs)


def test_weights_are_those_of_the_epoch_that_is_kept(make_run: MakeRun, tmp_path: Path) -> None:
    """They score what that epoch scored."""
    # What is added after the last epoch is part of the weights, but not of the scores of epochs.
    overrides = (
        "train.epochs=4",
        "train.learning_rate=2e-2",
        "tasks.topics.lexical_features=false",
    )
    train(make_run(*overrides), tmp_path / "out")
    checkpoint = Checkpoint.open(tmp_path / "out")
    kept = epochs(tmp_path / "out")[checkpoint.info.best_epoch - 1]

    scores = held_out_scores(checkpoint, make_run())
    assert scores.model_dump() == pytest.approx(kept["validation"]["topics"])


@pytest.mark.parametrize("lexical", [False, True])
def test_words_count_where_the_encoder_has_not_learned(
    make_run: MakeRun, tmp_path: Path, lexical: bool
) -> None:
    """Lexical features find topics that their words give away, without the encoder's help."""
    still = ("train.epochs=1", "train.learning_rate=1e-12")
    run = make_run(*still, f"tasks.topics.lexical_features={str(lexical).lower()}")
    train(run, tmp_path / "out")
    checkpoint = Checkpoint.open(tmp_path / "out")
    term = checkpoint.model.head("topics").lexical

    assert term is not None
    assert bool(term.feature_count) == lexical
    assert (held_out_scores(checkpoint, run).model_dump()["micro_f1"] > 0.8) == lexical


def test_same_seed_gives_the_same_weights(make_run: MakeRun, tmp_path: Path) -> None:
    """Two runs of one config are equal to the last bit; another seed is another model."""
    for name, seed in (("first", 3), ("again", 3), ("other", 4)):
        train(make_run(f"seed={seed}"), tmp_path / name)

    assert contents(tmp_path / "first") == contents(tmp_path / "again")
    assert epochs(tmp_path / "first") == epochs(tmp_path / "again")
    other, first = (tmp_path / name / "model.safetensors" for name in ("other", "first"))
    assert other.read_bytes() != first.read_bytes()


def test_test_rows_change_nothing(
    make_run: MakeRun, corpus: Path, rows: list[Row], tmp_path: Path
) -> None:
    """Other rows in the test part give the same checkpoint, byte for byte."""
    train_rows = [{**row, "split": "train"} for row in rows]
    for name, text in (("first", "Tests say this."), ("second", "Tests say that.")):
        test_row = {**rows[0], "text": text, "labels": [f"label of {name}"], "split": "test"}
        pl.DataFrame([test_row, *train_rows]).write_parquet(corpus)
        train(make_run(), tmp_path / name)

    assert contents(tmp_path / "first") == contents(tmp_path / "second")


def test_divergence_ends_the_run(make_run: MakeRun, tmp_path: Path) -> None:
    """A loss that is no number is reported with its task and step; nothing is published."""
    with pytest.raises(TrainingError, match=r"task 'topics': .* the loss is nan in epoch 1, step"):
        train(make_run("train.learning_rate=1e30", "train.warmup_share=0"), tmp_path / "out")

    assert not (tmp_path / "out" / "checkpoint.json").exists()


def test_two_tasks_share_one_encoder(config_file: Path, corpus: Path, tmp_path: Path) -> None:
    """Each task has its head, its held-out rows and its curve; markers are in the tokenizer."""
    frame = pl.read_parquet(corpus)
    marked = frame.with_columns(
        entity=pl.col("text").str.head(3),
        start=pl.lit(0),
        end=pl.lit(3),
        labels=pl.col("labels").list.slice(0, 1),
    )
    marked.write_parquet(tmp_path / "marked.parquet")
    with config_file.open("a") as file:
        file.write("[tasks.roles]\nentity_markers = true\ntitle = false\nloss.name = 'bce'\n")
        file.write("[[tasks.roles.data]]\npath = 'marked.parquet'\n")
    result = command(config_file, tmp_path / "out")
    assert result.exit_code == 0, result.output

    checkpoint = Checkpoint.open(tmp_path / "out")
    assert list(checkpoint.info.tasks) == ["topics", "roles"]
    assert checkpoint.info.tasks["roles"].text.entity_markers
    assert checkpoint.info.tasks["roles"].training.loss == "bce"
    assert {article.start for article in checkpoint.heldout("roles")[0]} == {0}
    assert all(checkpoint.tokenizer.token_to_id(marker) is not None for marker in MARKERS)
    assert set(epochs(tmp_path / "out")[0]["loss"]) == {"topics", "roles"}


def test_finished_folder_is_left_alone(make_run: MakeRun, corpus: Path, tmp_path: Path) -> None:
    """The same command again changes no byte and reads no data; it only tidies up."""
    train(make_run(), tmp_path / "out")
    before = contents(tmp_path / "out")
    history = (tmp_path / "out" / "history.json").read_bytes()
    (tmp_path / "out" / "state" / "run").mkdir(parents=True)  # a kill just before the end
    run = make_run()
    corpus.unlink()
    train(run, tmp_path / "out")

    assert contents(tmp_path / "out") == before
    assert (tmp_path / "out" / "history.json").read_bytes() == history
    assert not (tmp_path / "out" / "state").exists()


def test_folder_of_another_config_is_refused(make_run: MakeRun, tmp_path: Path) -> None:
    """A checkpoint of another config is not overwritten by accident."""
    train(make_run(), tmp_path / "out")
    before = contents(tmp_path / "out")

    with pytest.raises(CheckpointError, match=r"another config\nhint: .*--overwrite"):
        train(make_run("seed=9"), tmp_path / "out")
    assert contents(tmp_path / "out") == before


def test_overwrite_starts_again(make_run: MakeRun, config_file: Path, tmp_path: Path) -> None:
    """With `overwrite` the folder ends up as if it had been empty, after other tasks too."""
    train(make_run("train.epochs=1"), tmp_path / "out")
    config_file.write_text(config_file.read_text().replace("topics", "themes"))
    train(make_run("train.epochs=1", "seed=9"), tmp_path / "out", overwrite=True)
    train(make_run("train.epochs=1", "seed=9"), tmp_path / "fresh")

    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


@pytest.mark.parametrize("wrong", ["loss.name=nope", "labels=['gold', 'oil']", "data.0.path=none"])
def test_failed_overwrite_keeps_the_old_checkpoint(
    config_file: Path, corpus: Path, tmp_path: Path, wrong: str
) -> None:
    """A run that cannot begin does not cost the checkpoint that was there."""
    assert command(config_file, tmp_path / "out", "--set", "train.epochs=1").exit_code == 0
    before = contents(tmp_path / "out")
    result = command(config_file, tmp_path / "out", "--overwrite", "--set", f"tasks.topics.{wrong}")

    assert result.exit_code == 1
    assert contents(tmp_path / "out") == before


def test_wrong_losses_are_reported_before_data_is_read(config_file: Path, tmp_path: Path) -> None:
    """An unknown loss and an unknown parameter are both reported before missing data."""
    with config_file.open("a") as file:
        file.write("[tasks.roles.loss]\nname = 'db'\nparameters = {gama = 1.0}\n")
        file.write("[[tasks.roles.data]]\npath = 'missing.parquet'\n")
    result = command(config_file, tmp_path / "out", "--set", "tasks.topics.loss.name=bec")

    assert result.exit_code == 1
    assert "tasks.topics.loss: unknown loss 'bec'; expected one of: asl, bce, cb" in result.output
    assert "tasks.roles.loss: loss 'db' has no parameter 'gama'" in result.output
    assert "missing.parquet" not in result.output


def test_more_tokens_than_positions_are_refused(make_run: MakeRun, tmp_path: Path) -> None:
    """A limit that the encoder cannot take is reported before training; its own limit is taken."""
    with pytest.raises(ConfigError, match=r"encoder\.max_tokens: 131 is more than the 130"):
        train(make_run("encoder.max_tokens=131"), tmp_path / "out")
    train(make_run("encoder.max_tokens=130", "train.epochs=1"), tmp_path / "out")

    assert Checkpoint.open(tmp_path / "out").info.max_tokens == 130


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("encoder.source=package:no-such-encoder", "no installed package 'no-such-encoder'"),
        ("tasks.topics.data.0.path=none.parquet", "none.parquet: no file or folder of this name"),
        ("tasks.topics.data.0.text_column=body", "no column 'body'"),
    ],
)
def test_command_reports_errors_without_a_traceback(
    config_file: Path, corpus: Path, tmp_path: Path, override: str, message: str
) -> None:
    """An error that a user can act on is a message and exit code 1, and leaves no folder."""
    result = command(config_file, tmp_path / "out", "--set", override)

    assert result.exit_code == 1
    assert result.output.splitlines()[-1] or result.output
    assert "Error: " in result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


def test_command_says_where_everything_is(
    config_file: Path, corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At its end the command names the checkpoint, the curves and the next command."""
    with caplog.at_level(logging.INFO):
        result = command(config_file, tmp_path / "out")

    assert result.exit_code == 0
    assert f"checkpoint: {tmp_path / 'out'}" in result.output
    assert f"export-classifier {tmp_path / 'out'}" in result.output
    assert "epoch 2 of 2, topics: loss" in caplog.text


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json"])
def test_damaged_checkpoint_is_reported(
    make_run: MakeRun, corpus: Path, tmp_path: Path, name: str
) -> None:
    """A checkpoint whose file was cut short is refused when it is opened."""
    train(make_run("train.epochs=1"), tmp_path / "out")
    path = tmp_path / "out" / name
    path.write_bytes(path.read_bytes()[:100])

    with pytest.raises(CheckpointError, match="cannot be loaded"):
        Checkpoint.open(tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "schema_version 2 is newer than 1"),
        ({"max_tokens": None}, "max_tokens"),
        ({"tasks": {}}, None),
    ],
)
def test_checkpoint_facts_are_checked(
    make_run: MakeRun, tmp_path: Path, change: dict[str, object], message: str | None
) -> None:
    """A newer or incomplete checkpoint.json is refused."""
    files = train(make_run("train.epochs=1"), tmp_path / "out")
    stored = json.loads(files.info.read_text())
    files.info.write_text(json.dumps({**stored, **change}))

    with pytest.raises(CheckpointError, match=message):
        Checkpoint.open(tmp_path / "out")


def test_folder_without_a_checkpoint_says_how_to_make_one(tmp_path: Path) -> None:
    """An empty folder is no checkpoint; one with a state is an unfinished one."""
    with pytest.raises(CheckpointError, match="make one with `train-classifier"):
        Checkpoint.open(tmp_path)
    CheckpointFiles(tmp_path).state.mkdir()
    with pytest.raises(CheckpointError, match="stopped early"):
        Checkpoint.open(tmp_path)
