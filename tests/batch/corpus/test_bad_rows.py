"""Rows that have nothing to score, or cannot be scored: a status or a reason, never a crash."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import Result

Write = Callable[..., Path]
Score = Callable[..., pa.Table]
Command = Callable[..., Result]

BYTES = [b"good", b"\xff\xfe", b"\xed\xa0\x80", b"caf\xc3", None, b"fine"]
"""UTF-8, a wrong first byte, a lone surrogate, a character cut short, null, UTF-8."""
REASONS = {
    1: "not UTF-8: byte 0xff at position 0 (invalid start byte)",
    2: "not UTF-8: byte 0xed at position 0 (invalid continuation byte)",
    3: "not UTF-8: byte 0xc3 at position 3 (unexpected end of data)",
}


def disguised(kind: str) -> pa.Array:
    """BYTES in an Arrow column of that type, unchecked as a careless writer leaves them."""
    column = pa.array(BYTES, pa.binary())
    if kind == "binary":
        return column
    if kind == "string":
        null, offsets, values = column.buffers()
        return pa.StringArray.from_buffers(len(BYTES), offsets, values, null)
    if kind == "string_view":
        return pa.array(BYTES, pa.binary_view()).view(pa.string_view())
    return column.dictionary_encode()


def test_null_empty_and_blank_texts_are_empty(write: Write, score: Score) -> None:
    """They have the status `empty`, no labels, no probabilities and no tokens."""
    blank = [None, "", " ", "\n\t\r", "\u2003\u00a0"]
    titles = ["A title does not make an article."] * len(blank)
    scored = score(write({"text": blank, "title": titles}))

    assert scored.column("status").to_pylist() == ["empty"] * len(blank)
    assert scored.column("labels").to_pylist() == [[]] * len(blank)
    assert scored.column("probabilities").to_pylist() == [None] * len(blank)
    assert scored.column("tokens").to_pylist() == [0] * len(blank)


def test_a_text_column_without_a_type_is_empty(write: Write, score: Score) -> None:
    """What pandas writes for a column of nothing but None."""
    scored = score(write({"text": pa.nulls(2), "title": pa.nulls(2)}))

    assert scored.column("status").to_pylist() == ["empty", "empty"]


def test_texts_without_a_word_are_scored(write: Write, score: Score) -> None:
    """Control characters, zero-width space and BOM leave no token, which is no crash."""
    scored = score(write({"text": ["\x00", "\u200b\u200b", "\ufeff", "\U0010ffff", "a\x00b"]}))

    assert scored.column("status").to_pylist() == ["ok"] * 5
    assert min(scored.column("tokens").to_pylist()) == 2


def test_special_tokens_in_a_text_are_plain_text(write: Write, score: Score) -> None:
    """An article that spells [SEP] or an entity marker is longer, not another input."""
    scored = score(write({"text": ["aid [SEP] [PAD] aid", "aid [ENTITY]x[/ENTITY]", "aid aid"]}))
    tokens = scored.column("tokens").to_pylist()

    assert scored.column("status").to_pylist() == ["ok"] * 3
    assert tokens[0] > tokens[2] + 2
    assert tokens[1] > tokens[2] + 2


@pytest.mark.parametrize("kind", ["binary", "string", "string_view", "dictionary"])
def test_bytes_that_are_not_utf8_go_to_quarantine(
    write: Write, score: Score, tmp_path: Path, kind: str
) -> None:
    """With file, row and reason, in whatever Arrow type they hide; the others are scored."""
    corpus = write({"text": disguised(kind), "article_id": list("abcdef")})
    scored = score(corpus, max_quarantined=1, output=tmp_path / "scored")
    quarantine = pq.read_table(tmp_path / "scored" / "quarantine" / "part-00000.parquet")

    assert scored.column("article_id").to_pylist() == ["a", "e", "f"]
    assert scored.column("status").to_pylist() == ["ok", "empty", "ok"]
    assert quarantine.to_pylist() == [
        {"source_file": str(corpus), "source_row": row, "reason": REASONS[row], "article_id": name}
        for row, name in zip(REASONS, "bcd", strict=True)
    ]


def test_a_title_that_is_not_utf8_goes_to_quarantine(write: Write, score: Score) -> None:
    """The model would read the title, so the row cannot be scored."""
    corpus = write({"text": ["aid"] * 6, "title": disguised("binary"), "n": range(6)})

    assert score(corpus, max_quarantined=1).column("n").to_pylist() == [0, 4, 5]


def test_the_id_column_goes_to_quarantine(write: Write, score: Score, tmp_path: Path) -> None:
    """Under its own name and type, so that the article can be found, if there is one."""
    corpus = write({"body id": [7, 8], "text": pa.array([b"\xff", b"aid"])})
    score(corpus, max_quarantined=1, id_column="body id", output=tmp_path / "with")
    score(corpus, max_quarantined=1, output=tmp_path / "without")
    found = pq.read_table(tmp_path / "with" / "quarantine" / "part-00000.parquet")
    plain = pq.read_schema(tmp_path / "without" / "quarantine" / "part-00000.parquet")

    assert found.column("body id").to_pylist() == [7]
    assert plain.names == ["source_file", "source_row", "reason"]


def test_an_id_column_called_reason_is_not_doubled(
    write: Write, score: Score, tmp_path: Path
) -> None:
    """Quarantine files keep column names that differ."""
    corpus = write({"reason": [7, 8], "text": pa.array([b"\xff", b"aid"])})
    score(corpus, max_quarantined=1, id_column="reason", output=tmp_path / "scored")
    found = pq.read_schema(tmp_path / "scored" / "quarantine" / "part-00000.parquet")

    assert found.names == ["source_file", "source_row", "reason"]


def test_a_text_of_ten_megabytes_is_cut(write: Write, score: Score) -> None:
    """It scores like its own beginning and does not hold the run up."""
    text = "Aid is wasted by officials. " * 375_000
    scored = score(write({"text": [text, text[:5000], "aid"]}))
    probabilities = scored.column("probabilities").to_pylist()

    assert len(text) > 10_000_000
    assert scored.column("status").to_pylist() == ["truncated", "truncated", "ok"]
    assert probabilities[0] == probabilities[1]


def test_zero_rows_give_one_empty_part(
    sample: pa.Table, write: Write, score: Score, tmp_path: Path
) -> None:
    """Readers find every column with its type, a report and exit 0."""
    full = score(write(sample))
    scored = score(write(sample.slice(0, 0)), output=tmp_path / "scored")
    record = json.loads((tmp_path / "scored" / "run.json").read_text(encoding="utf-8"))

    assert scored.schema == full.schema
    assert scored.num_rows == 0
    assert record["counts"]["rows"] == 0
    assert (tmp_path / "scored" / "report.html").exists()


def test_zero_rows_beside_others_do_not_matter(
    sample: pa.Table, write: Write, score: Score, tmp_path: Path
) -> None:
    """An empty file in a folder adds nothing, before and after full ones."""
    for name, rows in (("a", 0), ("b", 5), ("c", 0)):
        write(sample.slice(0, rows), f"many/{name}.parquet")

    assert score(tmp_path / "many").column("source_row").to_pylist() == list(range(5))


def test_zero_rows_with_gold_are_no_division_by_zero(
    sample: pa.Table, write: Write, score: Score
) -> None:
    """A gold column of no rows is as good as any."""
    assert score(write(sample.slice(0, 0)), gold_column="narratives").num_rows == 0


@pytest.mark.parametrize("chunk_rows", [2, 100])
def test_gold_may_be_null(write: Write, score: Score, tmp_path: Path, chunk_rows: int) -> None:
    """Rows without gold, even whole chunks of them, are left out of the comparison."""
    gold = pa.array([["Other"], [], None, None, None, None], pa.list_(pa.string()))
    corpus = write({"text": ["aid", "war"] * 3, "domain": ["UA"] * 6, "gold": gold})
    score(corpus, gold_column="gold", chunk_rows=chunk_rows, output=tmp_path / "scored")
    report = json.loads((tmp_path / "scored" / "report.json").read_text(encoding="utf-8"))

    assert report["overall"]["gold"]["rows"] == 2


SPANS = [
    ("Hero", 0, 4, None),
    ("Hero", 5, 4, "inverted or empty: start 5, end 4"),
    ("Hero", 2, 2, "inverted or empty: start 2, end 2"),
    ("Hero", -1, 3, "entity offsets -1 to 3 lie outside the text of 10 characters"),
    ("Hero", 0, 11, "entity offsets 0 to 11 lie outside the text of 10 characters"),
    ("Hero", None, 4, "entity offsets are missing"),
    ("Hero", 0, None, "entity offsets are missing"),
    ("Hero", 1, 5, "text[1:5] is 'ero ', not the entity 'Hero'"),
    (None, 5, 10, None),
    ("Hero", 2**40, 2**40 + 4, "lie outside the text"),
]


def test_wrong_entity_offsets_go_to_quarantine(write: Write, score: Score, tmp_path: Path) -> None:
    """Each with its own reason; rows around them are scored."""
    entity, start, end, reasons = zip(*SPANS, strict=True)
    columns = {"text": ["Hero saves"] * len(SPANS), "entity": entity, "start": start, "end": end}
    options = {"task": "entity_framing", "max_quarantined": 1, "output": tmp_path / "scored"}
    scored = score(write(columns), **options)
    quarantine = pq.read_table(tmp_path / "scored" / "quarantine" / "part-00000.parquet")
    found = zip(quarantine.column("source_row"), quarantine.column("reason"), strict=True)

    assert scored.column("source_row").to_pylist() == [0, 8]
    assert scored.column("status").to_pylist() == ["ok", "ok"]
    assert all(str(reasons[row.as_py()]) in reason.as_py() for row, reason in found)
    assert quarantine.num_rows == len(SPANS) - 2


def test_offsets_of_an_empty_text_do_not_matter(write: Write, score: Score) -> None:
    """A blank article is `empty` for entity framing too, whatever its offsets."""
    columns = {"text": [None, " "], "entity": ["Hero", None], "start": [9, None], "end": [1, None]}
    scored = score(write(columns), task="entity_framing")

    assert scored.column("status").to_pylist() == ["empty", "empty"]


def test_too_many_quarantined_rows_end_with_exit_3(
    write: Write, batch_classify: Command, tmp_path: Path
) -> None:
    """The run is finished and says so, today and when the same command is run again."""
    corpus = write({"text": pa.array([b"aid", b"\xff", b"war", b"talks"])})
    results = [
        batch_classify(corpus, output=tmp_path / "scored", max_quarantined=0.24) for _ in range(2)
    ]

    assert [result.exit_code for result in results] == [3, 3]
    assert "1 of 4 rows are in quarantine, more than the allowed share of 0.24" in results[0].stderr
    assert (tmp_path / "scored" / "run.json").exists()


def test_the_allowed_share_of_quarantined_rows_is_inclusive(write: Write, score: Score) -> None:
    """A quarter may be in quarantine where a quarter is allowed."""
    corpus = write({"text": pa.array([b"aid", b"\xff", b"war", b"talks"])})

    assert score(corpus, max_quarantined=0.25).num_rows == 3
