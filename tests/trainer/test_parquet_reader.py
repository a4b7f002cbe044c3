"""What reading labelled Parquet promises."""

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.config import DataConfig, TaskConfig
from schemas.errors import DataError
from schemas.text import Article
from trainer.readers import Part, read_part
from trainer.readers.rows import LabelledRows, concatenate

COLUMNS: dict[str, list[Any]] = {
    "text": ["Acme fell", "Beta rose", "Gamma stood"],
    "title": ["Down", None, "Still"],
    "labels": [["oil"], [], ["oil", "grain"]],
    "split": ["train", "test", "dev"],
    "entity": ["Acme", "Beta", "Gamma"],
    "start": [0, 0, 0],
    "end": [4, 4, 5],
}
ALL = {name: values for name, values in COLUMNS.items() if name != "split"}


def write(folder: Path, columns: dict[str, Any]) -> Path:
    """Write columns as a Parquet file."""
    pl.DataFrame(columns).write_parquet(folder / "a.parquet")
    return folder / "a.parquet"


def read(
    path: Path, *, part: Part = "train", entity_markers: bool = False, **settings: Any
) -> LabelledRows:
    """Read one part of a file."""
    data = DataConfig(path=path, **settings)
    return read_part(data, TaskConfig(data=(data,), entity_markers=entity_markers), part)


def refusal(path: Path, *, entity_markers: bool = False, **settings: Any) -> str:
    """The message that data is refused with; it names the file."""
    with pytest.raises(DataError) as caught:
        read(path, entity_markers=entity_markers, **settings)
    assert str(path) in caught.value.message
    return str(caught.value)


def test_rows_come_in_file_order(tmp_path: Path) -> None:
    """Without a split column every row is a training row."""
    rows = read(write(tmp_path, ALL))

    assert rows.articles == [
        Article("Acme fell", "Down"),
        Article("Beta rose", None),
        Article("Gamma stood", "Still"),
    ]
    assert rows.gold == [["oil"], [], ["oil", "grain"]]
    assert rows.groups is None


def test_spans_are_read_for_tasks_that_mark_them(tmp_path: Path) -> None:
    """Entity, start and end come along where the task marks entities, and else not."""
    rows = read(write(tmp_path, ALL), entity_markers=True)

    assert rows.articles[2] == Article("Gamma stood", "Still", "Gamma", 0, 5)


def test_title_may_be_missing(tmp_path: Path) -> None:
    """Data without a title column has no titles."""
    path = write(tmp_path, {"text": ["a"], "labels": [["oil"]]})

    assert read(path).articles == [Article("a", None)]


def test_label_may_be_one_string(tmp_path: Path) -> None:
    """A string column gives one label a row, and null gives none."""
    path = write(tmp_path, {"text": ["a", "b"], "labels": ["oil", None]})

    assert read(path).gold == [["oil"], []]


def test_null_labels_are_no_labels(tmp_path: Path) -> None:
    """A null list, and nulls within a list, name no label."""
    path = write(tmp_path, {"text": ["a", "b", "c"], "labels": [None, ["oil", None], [None]]})

    assert read(path).gold == [[], ["oil"], []]


def test_other_column_names_can_be_given(tmp_path: Path) -> None:
    """Every column has a setting."""
    path = write(tmp_path, {"body": ["a"], "head": ["h"], "topics": [["oil"]], "story": [7]})

    rows = read(
        path,
        text_column="body",
        title_column="head",
        labels_column="topics",
        group_column="story",
    )

    assert rows.articles == [Article("a", "h")]
    assert rows.gold == [["oil"]]
    assert rows.groups == [7]


def test_parts_are_told_apart(tmp_path: Path) -> None:
    """Training and validation rows are those that the split column names, and no others."""
    path = write(tmp_path, COLUMNS)

    train = read(path, validation_value="dev")
    validation = read(path, part="validation", validation_value="dev")

    assert [article.text for article in train.articles] == ["Acme fell"]
    assert [article.text for article in validation.articles] == ["Gamma stood"]


def test_named_split_column_must_be_there(tmp_path: Path) -> None:
    """A split column that the config names, or needs for validation, cannot be missing."""
    path = write(tmp_path, {**ALL, "part": ["train"] * 3})

    assert "no column 'parts'" in refusal(path, split_column="parts")
    assert "no column 'split'" in refusal(path, validation_value="dev")


def test_split_of_numbers_is_told(tmp_path: Path) -> None:
    """A split column that cannot be compared with the named value is an error with its name."""
    assert "split" in refusal(write(tmp_path, {**COLUMNS, "split": [0, 1, 2]}))


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"text": "txt"}, "text"),
        ({"labels": "lables"}, "labels"),
        ({"start": "strat"}, "start"),
        ({"entity": "entities"}, "entity"),
    ],
)
def test_missing_column_suggests_the_nearest(
    tmp_path: Path, given: dict[str, str], wanted: str
) -> None:
    """A missing column is told with the columns there are and the nearest of them."""
    path = write(tmp_path, {given.get(name, name): values for name, values in ALL.items()})
    message = refusal(path, entity_markers=True)

    assert f"no column {wanted!r}; there are" in message
    assert f"did you mean {given[wanted]!r}?" in message


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("text", [1, 2, 3]),
        ("text", [b"a", b"b", b"c"]),
        ("text", [["a"], ["b"], ["c"]]),
        ("title", [1, 2, 3]),
        ("labels", [1, 2, 3]),
        ("labels", [[1], [2], [3]]),
        ("entity", [1, 2, 3]),
        ("start", ["0", "0", "0"]),
        ("end", [4.0, 4.0, 5.0]),
        ("end", [True, True, True]),
    ],
)
def test_column_of_another_type_is_refused(tmp_path: Path, name: str, values: list[Any]) -> None:
    """A column of the wrong type is told with its name and its type, before any row is used."""
    path = write(tmp_path, {**ALL, name: values})

    assert f"column {name!r} is" in refusal(path, entity_markers=True)


def test_offsets_may_be_any_whole_numbers(tmp_path: Path) -> None:
    """Offsets of 32 bits, signed or not, are offsets."""
    frame = pl.DataFrame(ALL).with_columns(
        pl.col("start").cast(pl.UInt32), pl.col("end").cast(pl.Int32)
    )
    frame.write_parquet(tmp_path / "a.parquet")

    rows = read(tmp_path / "a.parquet", entity_markers=True)

    assert (rows.articles[0].start, rows.articles[0].end) == (0, 4)


def test_columns_not_needed_may_be_of_any_type(tmp_path: Path) -> None:
    """What the task does not read is not judged."""
    path = write(tmp_path, {**ALL, "start": ["x"] * 3, "title": [1, 2, 3]})
    data = DataConfig(path=path)

    rows = read_part(data, TaskConfig(data=(data,), title=False), "train")

    assert rows.articles[0] == Article("Acme fell")


def test_domain_and_language_come_along_where_there_are_any(tmp_path: Path) -> None:
    """Under their usual names or given ones; a row may have none."""
    plain = write(tmp_path, {**ALL, "domain": ["a.example", None, "b.example"]})
    assert read(plain).domains == ["a.example", None, "b.example"]
    assert read(plain).languages is None
    named = write(tmp_path, {**ALL, "site": ["a.example"] * 3, "tongue": ["en", "de", None]})
    rows = read(named, domain_column="site", language_column="tongue")

    assert rows.domains == ["a.example"] * 3
    assert rows.languages == ["en", "de", None]
    assert rows.take([2, 1]).languages == [None, "de"]


def test_domains_may_be_categories(tmp_path: Path) -> None:
    """A dictionary-encoded column gives its strings."""
    frame = pl.DataFrame({**ALL, "domain": ["a", "b", "a"]})
    frame.with_columns(pl.col("domain").cast(pl.Categorical)).write_parquet(tmp_path / "a.parquet")

    assert read(tmp_path / "a.parquet").domains == ["a", "b", "a"]


def test_domain_that_is_no_text_counts_only_if_it_is_named(tmp_path: Path) -> None:
    """A column that happens to be called `domain` is left alone; a named one must be there."""
    path = write(tmp_path, {**ALL, "domain": [1, 2, 3]})

    assert read(path).domains is None
    assert "column 'domain' is Int64, not text" in refusal(path, domain_column="domain")
    assert "no column 'lang'" in refusal(path, language_column="lang")


def test_data_sets_with_and_without_domains_are_joined(tmp_path: Path) -> None:
    """Rows of a data set without the column have none."""
    first = read(write(tmp_path, {**ALL, "domain": ["a", "b", "c"]}))
    second = read(write(tmp_path, ALL))
    rows = concatenate([first, second])

    assert rows.domains == ["a", "b", "c", None, None, None]
    assert rows.languages is None
    assert len(rows) == len(rows.gold) == 6


@pytest.mark.parametrize("content", [b"", b"text,labels\na,b\n", b"PAR1 cut short"])
def test_file_that_is_not_parquet_is_told(tmp_path: Path, content: bytes) -> None:
    """An empty, foreign or truncated file is an error with its name."""
    (tmp_path / "a.parquet").write_bytes(content)

    assert "cannot be read" in refusal(tmp_path / "a.parquet")


def test_missing_file_is_told(tmp_path: Path) -> None:
    """A path that leads nowhere is told with how paths are meant."""
    assert "relative to the config file" in refusal(tmp_path / "none.parquet")


def test_text_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    """Bytes in a string column that are no UTF-8 are an error with the file's name."""
    broken = pa.StringArray.from_buffers(
        1, pa.py_buffer(b"\x00\x00\x00\x00\x02\x00\x00\x00"), pa.py_buffer(b"\xff\xfe")
    )
    pq.write_table(
        pa.table({"text": broken, "labels": pa.array([["oil"]])}), tmp_path / "a.parquet"
    )

    assert "cannot be read" in refusal(tmp_path / "a.parquet")


def test_page_that_is_damaged_is_told(tmp_path: Path) -> None:
    """A whole footer over spoilt pages is an error with the file's name."""
    path = tmp_path / "a.parquet"
    words = [f"word {number}" for number in range(2000)]
    pl.DataFrame({"text": words, "labels": [["oil"]] * 2000}).write_parquet(path)
    content = bytearray(path.read_bytes())
    content[40:400] = bytes(360)
    path.write_bytes(content)

    assert "cannot be read" in refusal(path)
