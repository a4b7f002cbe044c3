"""The sample corpus: what its generator writes, and what samples/README.md says of it."""

from __future__ import annotations

import calendar
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from tests.tiny import SAMPLES, sample_rows

FILES = ("train", "articles")
BESIDE_NAMES = {"European", *calendar.month_name[1:], *calendar.day_name}
"""Words that have a capital letter inside a sentence and are not names."""


def generate(folder: Path, *flags: str) -> dict[str, bytes]:
    """Run the generator, and read the files that it writes into a folder."""
    command = [sys.executable, str(SAMPLES / "generate.py"), "--output", str(folder), *flags]
    subprocess.run(command, check=True, capture_output=True)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def names_and_rest(rows: pl.DataFrame) -> Iterator[tuple[list[tuple[str, str]], str]]:
    """Names of each text with their labels, and the text with `_` in place of the names."""
    for text, spans in zip(rows["text"], rows["names"].to_list(), strict=True):
        names, rest, at = [], "", 0
        for span in spans:
            names.append((text[span["start"] : span["end"]], span["label"]))
            rest += text[at : span["start"]] + "_"
            at = span["end"]
        yield names, rest + text[at:]


def readme_counts(title: str) -> dict[str, list[int]]:
    """Rows of a table of samples/README.md, by their first cell."""
    readme = (SAMPLES / "README.md").read_text(encoding="utf-8")
    table = re.search(rf"^\| {title} \| train .*\n.*\n((?:\|.*\n)+)", readme, re.MULTILINE)
    assert table is not None
    cells = [line.strip("|").split("|") for line in table[1].splitlines()]
    return {first.strip(" `"): [int(cell) for cell in rest] for first, *rest in cells}


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    """Two runs with one seed write the same files, with the rows of the committed ones."""
    first, second, other = (
        generate(tmp_path / str(number), *flags)
        for number, flags in enumerate(((), (), ("--seed", "1")))
    )

    assert first == second
    assert first.keys() == other.keys()
    assert not set(first.values()) & set(other.values())
    for name in FILES:
        assert pl.read_parquet(tmp_path / "0" / f"{name}.parquet").equals(sample_rows(name))


@pytest.mark.parametrize("file", FILES)
def test_names_have_offsets_of_whole_names(file: str) -> None:
    """Spans are in order and do not overlap, and the marked entity is one of them."""
    rows = sample_rows(file)
    columns = (rows[name].to_list() for name in ("text", "entity", "start", "end", "names"))

    for text, entity, start, end, spans in zip(*columns, strict=True):
        offsets = [(span["start"], span["end"]) for span in spans]
        assert sum(offsets, ()) == tuple(sorted(sum(offsets, ())))
        assert (start, end) in offsets
        assert text[start:end] == entity


@pytest.mark.parametrize("file", FILES)
def test_every_mention_of_a_name_is_gold(file: str) -> None:
    """Without its names a text has no name left, nor a capital letter inside a sentence."""
    rows = list(names_and_rest(sample_rows(file)))
    labels: dict[str, set[str]] = {}
    for names, _ in rows:
        for name, label in names:
            labels.setdefault(name, set()).add(label)
    any_name = re.compile(rf"\b(?:{'|'.join(map(re.escape, labels))})\b")

    assert {len(of_name) for of_name in labels.values()} == {1}
    assert set.union(*labels.values()) == {"person", "organisation", "place"}
    for _, rest in rows:
        assert any_name.search(rest) is None
        inside = re.findall(r"(?<=[^\W\d_][ ]|[,;:_][ ])[^\W\d_]+", rest)
        assert {word for word in inside if word[0].isupper()} <= BESIDE_NAMES


@pytest.mark.parametrize("file", FILES)
def test_stance_agrees_with_the_narratives(file: str) -> None:
    """Gold narratives never contradict the stance; some that the text asserts may be missing."""
    late = "CC: governments act too late"
    rows = sample_rows(file)

    for stance, narratives in zip(rows["stance"], rows["narratives"].to_list(), strict=True):
        others = set(narratives) - {late, "Other"}
        assert stance in ("mixed", "opposes") or not others
        assert stance in ("mixed", "supports") or late not in narratives


def test_readme_counts_the_labels() -> None:
    """The tables of samples/README.md have the label counts of both files."""
    tables = (sample_rows(name) for name in FILES)
    counts = [
        {
            "narrative": Counter(rows["narratives"].explode().drop_nulls()),
            "role": Counter(rows["roles"].explode()),
            "stance": Counter(rows["stance"]),
            "name": Counter(rows["names"].explode().struct.field("label")),
        }
        for rows in tables
    ]

    for title in counts[0]:
        train, articles = (of_file[title] for of_file in counts)
        assert readme_counts(title) == {
            label: [train[label], articles[label]] for label in train | articles
        }
