"""Files and columns that cannot be scored: a clear error, and nothing is written."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result

from schemas.kinds.columns import reserved_columns
from tests.label_tasks import KIND
from tests.tiny import SAMPLES

Write = Callable[..., Path]
Refused = Callable[..., str]
Command = Callable[..., Result]

RESERVED = reserved_columns({"narrative": KIND})
TEXTS = ["Aid is wasted by officials.", "Sanctions hurt us.", "Talks now, or war for ever."]
ARTICLES = SAMPLES / "articles.parquet"


@pytest.fixture
def refused(batch_classify: Command, tmp_path: Path) -> Refused:
    """Runs a command that must fail before it writes anything; returns what it says."""

    def refused(*corpus: str | Path, exit_code: int = 1, **options: Any) -> str:
        output = tmp_path / "scored"
        result = batch_classify(*corpus, output=output, **options)
        assert result.exit_code == exit_code, result.output
        assert "Traceback" not in result.stderr
        assert not output.exists()
        return result.stderr

    return refused


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path, refused: Refused) -> None:
    """The message names the file, here a CSV with the wrong suffix."""
    corpus = tmp_path / "corpus.parquet"
    corpus.write_text("text\n" + "Aid is wasted.\n" * 10, encoding="utf-8")
    said = refused(corpus)

    assert f"{corpus}: not a readable Parquet file" in said
    assert "hint: " in said


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, refused: Refused, share: float) -> None:
    """The message names the file, even if it is empty; a valid file beside it is not scored."""
    raw = ARTICLES.read_bytes()
    corpus = tmp_path / "cut.parquet"
    corpus.write_bytes(raw[: int(len(raw) * share)])
    said = refused(ARTICLES, corpus)

    assert f"{corpus}: not a readable Parquet file" in said
    assert "copied completely" in said


def test_a_column_name_that_is_not_utf8_is_refused(write: Write, refused: Refused) -> None:
    """Such a name results from a damaged byte in the footer."""
    corpus = write({"text": TEXTS, "remarks": TEXTS}, store_schema=False)
    corpus.write_bytes(corpus.read_bytes().replace(b"remarks", b"rem\xffrks"))

    assert f"{corpus}: not a readable Parquet file" in refused(corpus)


def test_a_missing_text_column_is_reported_with_the_nearest_name(
    write: Write, refused: Refused
) -> None:
    """The message lists the columns, and the hint suggests the nearest one."""
    said = refused(write({"texts": TEXTS, "id": [1, 2, 3]}))

    assert "no column 'text'; there are 'texts', 'id'" in said
    assert "did you mean 'texts'?" in said
    assert "--text-column" in said


@pytest.mark.parametrize("option", ["text", "title", "id", "domain", "gold"])
def test_a_column_named_in_an_option_must_exist(
    write: Write, refused: Refused, option: str
) -> None:
    """A typing error in an option is reported, even for a column that is optional by default."""
    said = refused(write({"text": TEXTS, "heading": TEXTS}), **{f"{option}_column": "headng"})

    assert "no column 'headng'" in said
    assert "did you mean 'heading'?" in said


@pytest.mark.parametrize(
    "column", [[1, 2, 3], [["a"], ["b"], ["c"]], [{"a": "b"}] * 3, [True, False, None]], ids=str
)
def test_a_text_column_of_another_type_is_refused(
    write: Write, refused: Refused, column: list[object]
) -> None:
    """Numbers, lists and structs are not text; the message has the type."""
    corpus = write({"text": column})
    said = refused(corpus)

    assert f"{corpus}: column 'text' is {pq.read_schema(corpus).field('text').type}" in said


def test_a_title_that_is_not_text_is_refused(write: Write, refused: Refused) -> None:
    """The title is part of the model's input, so it must be text, too."""
    assert "column 'title' is int64, not text" in refused(
        write({"text": TEXTS, "title": [1, 2, 3]})
    )


@pytest.mark.parametrize("names", [["text", "a", "a"], ["text", "text", "b"]], ids=str)
def test_duplicate_column_names_are_refused(
    write: Write, refused: Refused, names: list[str]
) -> None:
    """Two columns of one name are ambiguous, even if they are not the text column."""
    corpus = write(pa.Table.from_arrays([pa.array(TEXTS)] * 3, names=names))

    assert re.search(r"column names must be unique; duplicates: '(a|text)'", refused(corpus))


@pytest.mark.parametrize("name", RESERVED)
def test_columns_that_predictions_add_are_refused(
    write: Write, refused: Refused, name: str
) -> None:
    """A column of the corpus is neither overwritten nor duplicated."""
    corpus = write({"text": TEXTS, name: TEXTS})
    said = refused(corpus)

    assert f"{corpus}: has columns that predictions add themselves: {name!r}" in said
    assert ("--gold-column labels" in said) == (name == "labels")


@pytest.mark.parametrize("name", sorted({*RESERVED} - {"labels"}))
def test_only_labels_may_be_gold_among_reserved_names(
    write: Write, refused: Refused, name: str
) -> None:
    """A gold column `status` would conflict with that of the predictions."""
    corpus = write({"text": TEXTS, name: [["Other"]] * 3})

    assert "predictions add themselves" in refused(corpus, gold_column=name)


def test_a_hive_key_that_predictions_add_is_refused(write: Write, refused: Refused) -> None:
    """A hive key becomes a column, so its name must not be reserved."""
    lake = write({"text": TEXTS}, "lake/status=1/a.parquet").parents[1]

    assert "predictions add themselves: 'status'" in refused(lake)


def test_renamed_gold_labels_must_not_conflict(write: Write, refused: Refused) -> None:
    """`labels` becomes `gold_labels`; if that column exists already, one must be renamed."""
    gold = [["Other"]] * 3
    corpus = write({"text": TEXTS, "labels": gold, "gold_labels": gold})
    said = refused(corpus, gold_column="labels")

    assert "'gold_labels', which exists already" in said


def test_files_with_contradictory_column_types_are_refused(
    write: Write, refused: Refused, tmp_path: Path
) -> None:
    """A column that is a number in one file and text in another has no common type."""
    write({"text": TEXTS, "n": [1, 2, 3]}, "many/a.parquet")
    write({"text": TEXTS, "n": TEXTS}, "many/b.parquet")
    said = refused(tmp_path / "many")

    assert "column 'n' has no type that fits its values in all files" in said
    assert f"int64 in {tmp_path}/many/a.parquet, string in {tmp_path}/many/b.parquet" in said


def test_a_folder_without_parquet_is_refused(tmp_path: Path, refused: Refused) -> None:
    """No file is an error, not an empty result."""
    folder = tmp_path / "empty"
    folder.mkdir()
    (folder / "_hidden.parquet").write_bytes(b"")

    assert f"{folder}: no Parquet files here" in refused(folder)


def test_a_glob_that_matches_nothing_is_refused(tmp_path: Path, refused: Refused) -> None:
    """The hint is about quoting; the error comes even beside a valid file."""
    said = refused(ARTICLES, f"{tmp_path}/2026-*.parquet")

    assert "2026-*.parquet: no Parquet files here" in said
    assert "the glob matches nothing" in said


def test_a_mistyped_path_is_reported_with_the_nearest_name(write: Write, refused: Refused) -> None:
    """The hint suggests the file with the most similar name."""
    corpus = write({"text": TEXTS}, "articles.parquet")

    assert "did you mean 'articles.parquet'?" in refused(corpus.with_name("artcles.parquet"))


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("", "the name of a corpus is empty"),
        (" ", "the name of a corpus is empty"),
        ("nosuch://bucket/a.parquet", "unknown protocol 'nosuch'"),
    ],
)
def test_invalid_entries_are_refused(refused: Refused, entry: str, expected: str) -> None:
    """An empty name does not score the working folder, and a wrong URL is explained."""
    assert expected in refused(entry)


def test_a_missing_corpus_argument_is_a_usage_error(refused: Refused) -> None:
    """Exit 2, as for every invalid command line."""
    assert "Missing argument 'CORPUS...'" in refused(exit_code=2)


def test_a_file_name_that_is_not_utf8_is_refused(write: Write, refused: Refused) -> None:
    """Such a name cannot be written to a Parquet string."""
    corpus = write({"text": TEXTS})
    odd = corpus.with_name("\udcff.parquet")
    corpus.rename(odd)

    assert "a file name that is not UTF-8" in refused(odd)


def test_entity_framing_needs_integer_offsets(write: Write, refused: Refused) -> None:
    """`start` and `end` must exist, with a type that can represent integers."""
    columns = {"text": TEXTS, "entity": ["Aid", "Sanctions", "Talks"], "end": [3, 9, 5]}

    assert "no column 'start'" in refused(write(columns), task="entity_framing")
    assert "column 'start' is bool; character offsets are integers" in refused(
        write({**columns, "start": [True, True, True]}), task="entity_framing"
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_page_is_reported_with_file_and_row(
    sample: pa.Table,
    write: Write,
    tmp_path: Path,
    batch_classify: Command,
    contents: Callable[[Path], dict[str, bytes]],
    seed: int,
) -> None:
    """Flipped bytes in the second row group: exit 1, and earlier parts stay complete."""
    corpus = write(pa.concat_tables([sample] * 22), row_group_size=1024, compression="zstd")
    raw = bytearray(corpus.read_bytes())
    text = pq.read_metadata(corpus).row_group(1).column(2)
    place = text.dictionary_page_offset + 200 + random.Random(seed).randrange(400)
    raw[place : place + 100] = bytes(byte ^ 0x5A for byte in raw[place : place + 100])
    corpus.write_bytes(raw)
    result = batch_classify(corpus, output=tmp_path / "scored", chunk_rows=1024)

    assert result.exit_code == 1
    assert "Traceback" not in result.stderr
    assert f"{corpus}: rows from 1024 on cannot be decoded" in result.stderr
    assert [name for name in contents(tmp_path / "scored") if not name.startswith(".")] == [
        "predictions/part-00000.parquet"
    ]
