"""Nothing of a test part is touched before the final evaluation: training is the same without."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import polars as pl
import pytest
from tokenizers import Tokenizer

from schemas.config.models import TrainingRun
from schemas.text.tokens import TextTokenizer
from trainer.data.dataset import load_fold_tests
from trainer.training.loop import train

Row: TypeAlias = dict[str, Any]
MakeRun: TypeAlias = Callable[..., TrainingRun]

BRIEF = ("train.epochs=1",)
FOLD = ("fold.index=1", "fold.of=4")

POISON: list[Row] = [
    {"text": "wheat silo harvest plain", "labels": ["ships"]},
    {"text": "refinery crude", "labels": ["a label that no other row has", " ", ""]},
    {"text": None, "labels": None},
    {"text": "\u0000 [SEP] [ENTITY]", "labels": [None]},
]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a checkpoint but those that hold times."""
    timed = {"history.json", "curves.png"}
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in timed
    }


def write(corpus: Path, rows: list[Row]) -> None:
    """Replace the corpus."""
    pl.DataFrame(rows, infer_schema_length=None).write_parquet(corpus)


def story(number: int, split: str, text: str, topics: str) -> str:
    """One Reuters story with the given inside of TOPICS and TEXT."""
    return (
        f'<REUTERS TOPICS="YES" LEWISSPLIT="{split}" NEWID="{number}">\n{topics}\n{text}\n'
        "</REUTERS>\n"
    )


def reuters(rows: list[Row], test: list[str]) -> str:
    """An SGML file: every row a training story, and test stories in between."""
    stories = []
    for number, row in enumerate(rows):
        topics = "".join(f"<D>{label}</D>" for label in row["labels"])
        text = f"<TEXT><TITLE>{row['title']}</TITLE><BODY>{row['text']}</BODY></TEXT>"
        stories.append(story(number, "TRAIN", text, f"<TOPICS>{topics}</TOPICS>"))
        stories += test[number : number + 1]
    return '<!DOCTYPE lewis SYSTEM "lewis.dtd">\n' + "".join(stories)


@pytest.fixture
def ours(tokenizer: Tokenizer) -> TextTokenizer:
    """The tokenizer that training cuts texts with."""
    return TextTokenizer(Tokenizer.from_str(tokenizer.to_str()), max_tokens=24)


def test_parquet_rows_of_the_test_value_change_no_byte(
    make_run: MakeRun, corpus: Path, rows: list[Row], tmp_path: Path
) -> None:
    """Whatever stands in rows of another split value, the checkpoint is the same, byte for byte."""
    trained = [{**row, "split": "train"} for row in rows]
    test = {"text": "A text of the test part.", "labels": ["oil"], "split": "test"}
    write(corpus, [row for each in trained[:4] for row in (each, test)] + trained[4:])
    train(make_run(*BRIEF), tmp_path / "clean")
    damaged = [{**test, **poison} for poison in POISON]
    mixed = [row for pair in zip(trained[:4], damaged, strict=True) for row in pair]
    write(corpus, mixed + trained[4:])
    train(make_run(*BRIEF), tmp_path / "poisoned")

    assert contents(tmp_path / "poisoned") == contents(tmp_path / "clean")


def test_reuters_test_stories_change_no_byte(
    make_run: MakeRun, rows: list[Row], tmp_path: Path
) -> None:
    """Test stories with unreadable topics, without text or with none at all train the same."""
    folder = tmp_path / "sgml"
    folder.mkdir()
    settings = (
        *BRIEF,
        "tasks.topics.data.0.format=reuters21578",
        f"tasks.topics.data.0.path={folder}",
    )
    path = folder / "reut2-000.sgm"
    body = "<TEXT><TITLE>T</TITLE><BODY>B.</BODY></TEXT>"
    path.write_text(reuters(rows, [story(900, "TEST", body, "<TOPICS><D>oil</D></TOPICS>")] * 4))
    train(make_run(*settings), tmp_path / "clean")
    damaged = [
        story(900, "TEST", body, "<TOPICS><D>never trained</D><D> </D></TOPICS>"),
        story(901, "TEST", body, "<TOPICS><D>oil</TOPICS>"),
        story(902, "TEST", "<TEXT><BODY>\x01&#5;&bogus;<BODY>", ""),
        story(903, "TEST", "", "<TOPICS></D></D>"),
    ]
    path.write_text(reuters(rows, damaged))
    train(make_run(*settings), tmp_path / "poisoned")
    path.write_text(reuters(rows, []))
    train(make_run(*settings), tmp_path / "without")

    clean = contents(tmp_path / "clean")
    assert contents(tmp_path / "poisoned") == clean
    assert contents(tmp_path / "without") == clean


def test_texts_of_a_fold_change_no_byte(
    make_run: MakeRun, corpus: Path, rows: list[Row], ours: TextTokenizer, tmp_path: Path
) -> None:
    """Other texts in the rows of the tested fold leave the fold's checkpoint as it is."""
    run = make_run(*BRIEF, *FOLD)
    train(run, tmp_path / "clean")
    tested = rows_tested(rows, run, ours)
    write(
        corpus,
        [{**row, "text": f"poison {at}"} if at in tested else row for at, row in enumerate(rows)],
    )
    train(run, tmp_path / "poisoned")

    assert 6 <= len(tested) <= 18
    assert rows_tested(rows, run, ours) == set()  # the poison has taken the place of all of them
    assert contents(tmp_path / "poisoned") == contents(tmp_path / "clean")


def test_fold_trains_as_if_its_rows_were_not_there(
    make_run: MakeRun, corpus: Path, rows: list[Row], ours: TextTokenizer, tmp_path: Path
) -> None:
    """A fold's weights are those of a run on a file that lacks its test rows, labels and all."""
    run = make_run(*BRIEF, *FOLD)
    train(run, tmp_path / "fold")
    tested = rows_tested(rows, run, ours)
    write(corpus, [row for at, row in enumerate(rows) if at not in tested])
    train(make_run(*BRIEF), tmp_path / "without")

    fold, without = (contents(tmp_path / name) for name in ("fold", "without"))
    assert fold.pop("checkpoint.json") != without.pop("checkpoint.json")  # it names the config
    assert fold == without


def rows_tested(rows: list[Row], run: TrainingRun, tokenizer: TextTokenizer) -> set[int]:
    """Numbers of the original rows that stand in the tested fold now."""
    labels = sorted({label for row in rows for label in row["labels"]})
    test = load_fold_tests(run, {"topics": labels}, tokenizer)["topics"].labelled
    found = {article.text for article in test.articles}
    return {at for at, row in enumerate(rows) if row["text"] in found}
