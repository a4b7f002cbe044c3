"""What reading labelled Parquet promises."""

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from schemas.config.models import DataConfig, TaskConfig, task_model
from schemas.errors import DataError
from schemas.kinds.nearest import NearestKind
from schemas.text.model_text import Article
from trainer.data.readers import Part, read_part
from trainer.data.readers.rows import LabelledRows, concatenate

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


def refusal(
    path: Path, *, part: Part = "train", entity_markers: bool = False, **settings: Any
) -> str:
    """The message that data is refused with; it names the file."""
    with pytest.raises(DataError) as caught:
        read(path, part=part, entity_markers=entity_markers, **settings)
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
    """A string column gives one label a row; null and blank say that a row is not labelled."""
    path = write(tmp_path, {"text": list("abcd"), "labels": ["oil", None, "", " "]})

    assert read(path).gold == [["oil"]]


def test_null_labels_are_not_labelled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A row with null is left out and counted; an empty list is trained on as none of the labels,
    and a null inside a list is ignored.
    """
    path = write(tmp_path, {"text": list("abcd"), "labels": [None, ["oil", None], [None], []]})
    rows = read(path)

    assert [article.text for article in rows.articles] == ["b", "c", "d"]
    assert rows.gold == [["oil"], [], []]
    assert (
        f"1 of 4 train rows are not labelled: labels is null or blank (first: {path}, row 0)"
        in (caplog.text)
    )


def test_data_without_any_labelled_row_is_refused(tmp_path: Path) -> None:
    """A column of nulls trains nothing."""
    path = write(tmp_path, {"text": ["a", "b"], "labels": [None, None]})

    assert "no train row can be used: 2 of 2 train rows are not labelled" in refusal(path)


TEXT_TYPES = [
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.dictionary(pa.int32(), pa.string()),
]


@pytest.mark.parametrize("kind", TEXT_TYPES, ids=str)
def test_text_of_every_type_is_read(tmp_path: Path, kind: pa.DataType) -> None:
    """Text, title, entity, labels, domain and split are read of every type that scoring reads."""
    table = pa.table({**COLUMNS, "domain": ["a.example", None, "b.example"], "one": list("xyz")})
    for name in ("text", "title", "split", "entity", "domain", "one"):
        values = table[name].combine_chunks()
        is_dictionary = pa.types.is_dictionary(kind)
        values = values.dictionary_encode() if is_dictionary else values.cast(kind)
        table = table.set_column(table.schema.get_field_index(name), name, values)
    if not pa.types.is_dictionary(kind):
        labels = table["labels"].cast(pa.large_list(kind))
        table = table.set_column(table.schema.get_field_index("labels"), "labels", labels)
    path = tmp_path / "a.parquet"
    pq.write_table(table, path)
    rows = read(path, entity_markers=True, validation_value="dev", part="validation")

    assert rows.articles == [Article("Gamma stood", "Still", "Gamma", 0, 5)]
    assert rows.gold == [["oil", "grain"]]
    assert rows.domains == ["b.example"]
    assert read(path, labels_column="one").gold == [["x"]]


def test_polars_categories_and_enums_are_read(tmp_path: Path) -> None:
    """As text, as single labels and as lists of labels."""
    frame = pl.DataFrame({**ALL, "one": ["oil", "", None]})
    frame.with_columns(
        pl.col("text").cast(pl.Categorical),
        pl.col("title").cast(pl.Enum(["Down", "Still"])),
        pl.col("labels").cast(pl.List(pl.Categorical)),
        pl.col("one").cast(pl.Enum(["oil", ""])),
    ).write_parquet(tmp_path / "a.parquet")
    rows = read(tmp_path / "a.parquet")

    assert rows.articles[0] == Article("Acme fell", "Down")
    assert rows.gold == [["oil"], [], ["oil", "grain"]]
    assert read(tmp_path / "a.parquet", labels_column="one").gold == [["oil"]]


def test_lists_of_fixed_size_and_without_type_are_read(tmp_path: Path) -> None:
    """Labels as fixed_size_list, and a list column in which no row has a label."""
    table = pa.table(
        {
            "text": ["a", "b"],
            "pairs": pa.array([["oil", "war"], None], pa.list_(pa.string(), 2)),
            "none": pa.array([[], None], pa.list_(pa.null())),
            "title": pa.nulls(2),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")

    assert read(tmp_path / "a.parquet", labels_column="pairs").gold == [["oil", "war"]]
    assert read(tmp_path / "a.parquet", labels_column="none").gold == [[]]


@pytest.mark.parametrize(
    "name", ["train[v1].parquet", "a*b.parquet", "a?.parquet", "a b.parquet", "%41.parquet",
             "{a,b}.parquet", "a:b.parquet", "a#b.parquet", "no suffix", "\u00e9.parquet"]
)  # fmt: skip
def test_path_is_a_path(tmp_path: Path, name: str) -> None:
    """No character of a path is a pattern or an escape, with a file beside that would match."""
    path = tmp_path / name
    write(tmp_path, ALL).rename(path)
    write(tmp_path, {**ALL, "text": ["x", "y", "z"]}).rename(tmp_path / "aab.parquet")

    assert read(path).articles[0].text == "Acme fell"


def test_pattern_is_not_expanded(tmp_path: Path) -> None:
    """A pattern is no file; the message says so."""
    write(tmp_path, ALL)

    assert "they are not patterns" in refusal(tmp_path / "*.parquet")


def test_folder_gives_all_its_files(tmp_path: Path) -> None:
    """By name, with hive partitions as columns, and without hidden files."""
    lake = tmp_path / "lake[v1]"
    parts = {"split=train/b": "first", "split=train/c": "second", "split=dev/a": "third"}
    for name, text in {**parts, "_late=1/split=train/z": "zero", "_temporary/x": "no"}.items():
        (lake / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path, {"text": [text], "labels": [["oil"]]}).rename(lake / f"{name}.parquet")
    rows = read(lake, validation_value="dev")

    assert [article.text for article in rows.articles] == ["zero", "first", "second"]
    assert rows.row_names[1] == f"{lake}/split=train/b.parquet, row 0"


def test_table_with_a_log_is_refused(tmp_path: Path) -> None:
    """A Delta table may hold files that its log has removed."""
    write(tmp_path, ALL)
    (tmp_path / "_delta_log").mkdir()

    assert "is a table with a log" in refusal(tmp_path)


def test_values_of_the_split_column_are_shown(tmp_path: Path) -> None:
    """A part that no row belongs to is an error with the values that there are, and counts."""
    path = write(tmp_path, {**COLUMNS, "split": ["Train", None, "Train"]})

    assert (
        "no row has 'train' in column 'split'; there are 'Train' (2 rows), None (1 rows)\n"
        "hint: did you mean train_value = 'Train'?"
    ) in refusal(path)
    assert "no row has 'dev'" in refusal(
        path, train_value="Train", validation_value="dev", part="validation"
    )


@pytest.mark.parametrize(("values", "value"), [([1, 2, 1], "1"), ([True, False, True], "true")])
def test_split_may_be_numbers_or_booleans(tmp_path: Path, values: list[Any], value: str) -> None:
    """They are compared as the config writes them."""
    path = write(tmp_path, {**COLUMNS, "split": values})

    assert len(read(path, train_value=value)) == 2
    assert f"there are {value!r} (2 rows)" in refusal(path)


def test_only_rows_of_some_values_are_read(tmp_path: Path) -> None:
    """A row has to have one of the values in each column, whether or not there is a split."""
    columns = {"language": ["EN", "PT", "EN"], "year": [2023, 2024, 2024]}
    path = write(tmp_path, {**ALL, **columns})

    assert read(path, only={"language": ["EN"]}).ids == ["a.parquet:0", "a.parquet:2"]
    assert read(path, only={"language": ["PT", "EN"], "year": ["2024"]}).ids == [
        "a.parquet:1",
        "a.parquet:2",
    ]
    parts = write(tmp_path, {**ALL, **columns, "split": ["train", "train", "dev"]})
    assert read(parts, only={"language": ["EN"]}).ids == ["a.parquet:0"]


def test_only_without_a_row_says_which_values_there_are(tmp_path: Path) -> None:
    """The column that leaves no row is named, with its values; a missing one is an error, too."""
    columns = {"language": ["EN", "PT", "EN"], "year": [2023, 2024, 2023]}
    path = write(tmp_path, {**ALL, **columns})

    assert (
        "no row has 'en' or 'de' in column 'language'; there are 'EN' (2 rows), 'PT' (1 rows)\n"
        "hint: did you mean 'EN'?"
    ) in refusal(path, only={"language": ["en", "de"]})
    assert "no row has all of the values" in refusal(
        path, only={"language": ["EN"], "year": ["2024"]}
    )
    assert "no column 'tongue'" in refusal(path, only={"tongue": ["EN"]})
    assert "no row among those that `only` leaves has 'test' in column 'split'" in refusal(
        write(tmp_path, {**ALL, **columns, "split": ["train", "test", "train"]}),
        only={"language": ["EN"]},
        train_value="test",
    )


def test_only_is_for_data_with_columns(tmp_path: Path) -> None:
    """Other formats have none to choose by."""
    with pytest.raises(ValidationError, match="have no columns to choose by"):
        DataConfig(path=tmp_path, format="conll", only={"language": ("EN",)})


def test_offsets_may_be_floats(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """pandas makes floats of integers where one is missing; that row is left out and counted."""
    path = write(tmp_path, {**ALL, "start": [0.0, None, float("nan")], "end": [4.0, 4.0, 5.0]})
    rows = read(path, entity_markers=True)

    assert [(article.start, article.end) for article in rows.articles] == [(0, 4)]
    assert type(rows.articles[0].start) is int
    assert (
        f"2 of 3 train rows have no offsets: `start` or `end` is null (first: {path}, row 1)"
        in (caplog.text)
    )


@pytest.mark.parametrize("value", [0.5, float("inf")])
def test_offset_that_is_not_whole_is_refused(tmp_path: Path, value: float) -> None:
    """With its row, column and value."""
    path = write(tmp_path, {**ALL, "start": [0.0, value, 0.0]})
    message = refusal(path, entity_markers=True)

    assert f"row 1: column 'start' is {value}, not a whole number" in message


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


def test_parts_are_separated(tmp_path: Path) -> None:
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


def test_split_of_lists_is_refused(tmp_path: Path) -> None:
    """A split column that cannot be compared with a value is an error with its name and type."""
    path = write(tmp_path, {**COLUMNS, "split": [["train"]] * 3})

    assert "column 'split' is large_list" in refusal(path)


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
    """A missing column is reported with the columns there are and the nearest of them."""
    path = write(tmp_path, {given.get(name, name): values for name, values in ALL.items()})
    message = refusal(path, entity_markers=True)

    assert f"no column {wanted!r}; there are" in message
    assert f"did you mean {given[wanted]!r}?" in message


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("text", [1, 2, 3]),
        ("text", [["a"], ["b"], ["c"]]),
        ("title", [1, 2, 3]),
        ("labels", [1, 2, 3]),
        ("labels", [[1], [2], [3]]),
        ("entity", [1, 2, 3]),
        ("start", ["0", "0", "0"]),
        ("end", [True, True, True]),
    ],
)
def test_column_of_another_type_is_refused(tmp_path: Path, name: str, values: list[Any]) -> None:
    """A column of the wrong type is reported with its name and its type, before any row is used."""
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
    assert "column 'domain' is int64, not text" in refusal(path, domain_column="domain")
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
def test_file_that_is_not_parquet_is_reported(tmp_path: Path, content: bytes) -> None:
    """An empty, foreign or truncated file is an error with its name."""
    (tmp_path / "a.parquet").write_bytes(content)

    assert "cannot be read" in refusal(tmp_path / "a.parquet")


def test_missing_file_is_reported(tmp_path: Path) -> None:
    """A path that leads nowhere is reported with how paths are meant."""
    assert "relative to the config file" in refusal(tmp_path / "none.parquet")


@pytest.mark.parametrize("name", ["text", "title", "entity"])
def test_row_that_is_not_utf8_is_left_out(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is counted; the other rows are trained on."""
    values = pa.array([b"\xff\xfe", b"Beta", b"Gamma"]).view(pa.string())
    pq.write_table(pa.table({**ALL, name: values}), tmp_path / "a.parquet")
    rows = read(tmp_path / "a.parquet", entity_markers=True)

    assert len(rows) == 2
    assert "1 of 3 train rows hold bytes that are not UTF-8" in caplog.text


def test_encrypted_file_is_not_damaged(tmp_path: Path) -> None:
    """A file that starts as encrypted ones do is called encrypted."""
    encryption = pytest.importorskip("pyarrow.parquet.encryption")
    key = encryption.create_encryption_properties(footer_key=b"0123456789112345")
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(ALL), path, encryption_properties=key)

    assert "is encrypted" in refusal(path)


def test_page_that_is_damaged_is_reported(tmp_path: Path) -> None:
    """A whole footer over damaged pages is an error with the file's name."""
    path = tmp_path / "a.parquet"
    words = [f"word {number}" for number in range(2000)]
    pl.DataFrame({"text": words, "labels": [["oil"]] * 2000}).write_parquet(path)
    content = bytearray(path.read_bytes())
    content[40:400] = bytes(360)
    path.write_bytes(content)

    assert "cannot be read" in refusal(path)


def read_ids(path: Path, **settings: Any) -> list[str]:
    """Ids of the rows of a file, for a task that names its training texts."""
    data = DataConfig(path=path, **settings)
    task = task_model(NearestKind.NAME).model_validate(
        {"kind": NearestKind.NAME, "title": False, "data": [data]}
    )
    return list(read_part(data, task, "train").ids)


def test_rows_have_ids_for_tasks_that_name_them(tmp_path: Path) -> None:
    """Of text or whole numbers; a row without one is named by its file and row, no folder."""
    texts = write(tmp_path, {**ALL, "article_id": ["n1", None, " "]})
    assert read_ids(texts) == ["n1", "a.parquet:1", "a.parquet:2"]
    assert read(texts).ids == [f"a.parquet:{row}" for row in range(3)]

    numbers = write(tmp_path, {**ALL, "number": [7, 8, 7]})
    assert read_ids(numbers, id_column="number") == ["7", "8", "7"]
    assert read_ids(numbers) == [f"a.parquet:{row}" for row in range(3)]


def test_named_id_column_must_be_there_and_of_a_type_for_ids(tmp_path: Path) -> None:
    """The default may be missing or anything; a kind without references never reads it."""
    path = write(tmp_path, {**ALL, "article_id": [[1], [2], [3]]})

    assert read_ids(path) == [f"a.parquet:{row}" for row in range(3)]
    with pytest.raises(DataError, match="not text or whole numbers"):
        read_ids(path, id_column="article_id")
    with pytest.raises(DataError, match="no column 'artcles'"):
        read_ids(path, id_column="artcles")
    assert len(read(path, id_column="artcles")) == 3
