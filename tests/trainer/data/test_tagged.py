"""Words with tags: CoNLL files, and Parquet with lists of words and tags."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from schemas.config.models import DataConfig, TaskConfig, task_model
from schemas.errors import DataError
from schemas.kinds.multilabel import MultilabelKind
from schemas.kinds.token import TokenKind
from trainer.data.readers import read_part
from trainer.data.readers.rows import LabelledRows
from trainer.data.readers.tagged import gold_of_tags

CONLL = """-DOCSTART- -X- O O

EU NNP I-NP I-ORG
rejects VBZ I-VP O
German JJ I-NP I-MISC
call NN I-NP O

Peter NNP I-NP I-PER
Blackburn NNP I-NP I-PER
Paris NNP I-NP B-LOC
Rome NNP I-NP B-LOC
"""
"""In IOB1, as the files of CoNLL 2003 are."""

EXPECTED = [
    ("EU rejects German call", [("EU", "ORG"), ("German", "MISC")]),
    ("Peter Blackburn Paris Rome", [("Peter Blackburn", "PER"), ("Paris", "LOC"), ("Rome", "LOC")]),
]


def task(kind: str = TokenKind.NAME, **data: object) -> TaskConfig:
    """A task of a kind over some data."""
    return task_model(kind).model_validate({"kind": kind, "data": [data]})


def spans(rows: LabelledRows) -> list[tuple[str, list[tuple[str, str]]]]:
    """Text of each row, and the characters and the label of each span."""
    return [
        (article.text or "", [((article.text or "")[s.start : s.end], s.label) for s in gold])
        for article, gold in zip(rows.articles, rows.gold, strict=True)
    ]


def read(config: TaskConfig, part: str = "train") -> LabelledRows:
    """The rows of a part of its first data set."""
    data: DataConfig = config.data[0]
    return read_part(data, config, part)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["eng.train", "eng.train.gz"])
def test_conll_file_is_read(tmp_path: Path, name: str) -> None:
    """Sentences are articles; documents begin without a sentence of their own."""
    path = tmp_path / name
    path.write_bytes(gzip.compress(CONLL.encode()) if name.endswith("gz") else CONLL.encode())
    rows = read(task(path=path, format="conll"))

    assert spans(rows) == EXPECTED
    assert rows.row_names == [f"{path}, sentence at line 3", f"{path}, sentence at line 8"]
    assert rows.ids == [f"{name}:3", f"{name}:8"]


def test_parts_of_a_folder_are_files(tmp_path: Path) -> None:
    """Their names are the values of the split."""
    (tmp_path / "eng.train").write_text(CONLL)
    (tmp_path / "eng.testa").write_text("Rome NNP I-NP I-LOC\n")
    config = task(
        path=tmp_path, format="conll", train_value="eng.train", validation_value="eng.testa"
    )

    assert spans(read(config)) == EXPECTED
    assert spans(read(config, "validation")) == [("Rome", [("Rome", "LOC")])]


def test_words_and_tags_of_parquet_are_read(tmp_path: Path) -> None:
    """A null row is left out; IOB2 gives the same spans."""
    words = [text.split() for text, _ in EXPECTED]
    tags = [["B-ORG", "O", "B-MISC", "O"], ["B-PER", "I-PER", "B-LOC", "B-LOC"]]
    table = pa.table({"tokens": [*words, ["a"]], "tags": [*tags, None]})
    pq.write_table(table, tmp_path / "a.parquet")
    rows = read(task(path=tmp_path, text_column="tokens", labels_column="tags"))

    assert spans(rows) == EXPECTED


def test_spans_of_parquet_are_read(tmp_path: Path) -> None:
    """Offsets are characters of the text; other fields of the structs are ignored."""
    entities = [[{"start": 3, "end": 7, "label": "LOC", "score": 0.5}], [], None]
    pq.write_table(pa.table({"text": ["In Rome", "b", "c"], "e": entities}), tmp_path / "a.parquet")
    rows = read(task(path=tmp_path, labels_column="e"))

    assert spans(rows) == [("In Rome", [("Rome", "LOC")]), ("b", [])]


def test_spans_behind_the_text_are_an_error(tmp_path: Path) -> None:
    """As when offsets count bytes; the message has the file, the row and both lengths."""
    entities = [[], [{"start": 0, "end": 6, "label": "PER"}]]
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["In Rome", "Zoé A"], "e": entities}), path)
    with pytest.raises(DataError, match=r"row 1: .*from 0 to 6 .* text of 5 characters") as raised:
        read(task(path=tmp_path, labels_column="e"))

    assert "count characters, not bytes" in str(raised.value.hint)


@pytest.mark.parametrize(
    ("key", "value"), [("entity_markers", True), ("truncation", "head_tail")], ids=str
)
def test_texts_are_read_plainly_from_their_beginning(key: str, value: object) -> None:
    """Markers and ends of texts would move the characters of spans."""
    config = {"kind": TokenKind.NAME, "data": [{"path": "a"}], key: value}
    with pytest.raises(ValidationError, match=f"{key}: a task of kind"):
        task_model(TokenKind.NAME).model_validate(config)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("EU NNP I-NP ORG\n", "tag 'ORG', expected O, or B- or I- and a label"),
        ("EU\n", "line 1: 'EU' has no tag"),
        ("\n\n", "has no sentences"),
    ],
)
def test_what_is_no_conll_file_is_an_error(tmp_path: Path, content: str, message: str) -> None:
    """The message has the file, the line and what is expected."""
    path = tmp_path / "a.conll"
    path.write_text(content)
    with pytest.raises(DataError) as raised:
        read(task(path=path, format="conll"))

    assert str(path) in str(raised.value)
    assert message in str(raised.value)


def test_tagged_words_are_for_tasks_that_find_spans(tmp_path: Path) -> None:
    """A task with labels of texts is refused; so is a validation part of one file."""
    path = tmp_path / "a.conll"
    path.write_text(CONLL)
    with pytest.raises(DataError, match="for tasks that find spans"):
        read(task(MultilabelKind.NAME, path=path, format="conll"))
    with pytest.raises(DataError, match="is one file"):
        read(task(path=path, format="conll", validation_value="b.conll"), "validation")


def test_as_many_tags_as_words() -> None:
    """Otherwise the row is wrong."""
    with pytest.raises(ValueError, match="2 words and 1 tags"):
        gold_of_tags(["a", "b"], ["O"])
