"""The layouts of SemEval-2025 Task 10, as Parquet."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from bench.systems.semeval import main, place_entity, read_official, read_tables

DOCUMENT = "Title\r\n\r\nBob met Ann.\r\nAnn left Rome.\r\n"


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A document in each of two languages; line ends of two characters, one with a mark first."""
    for language, name, text in (
        ("EN", "EN_CC_100001.txt", DOCUMENT),
        ("RU", "RU-URW-7.txt", "\ufeff" + DOCUMENT),
    ):
        documents, labels = tmp_path / "raw-documents" / language, tmp_path / "labels" / language
        documents.mkdir(parents=True)
        labels.mkdir(parents=True)
        (documents / name).write_bytes(text.encode("utf-8"))
        (labels / "subtask-1-annotations.txt").write_text(
            f"{name}\tRome\t33\t36\tInnocent\tVictim\tScapegoat\n{name}\tAnn\t15\t17\tProtagonist\tRebel\n"
        )
        (labels / "subtask-2-annotations.txt").write_text(
            f"{name}\tCC: Fears;CC: Plots\tCC: Fears: Doom;CC: Fears: Doom;CC: Plots: Other\n"
        )
    return tmp_path


def test_the_official_layout_becomes_rows(official: Path) -> None:
    """Ends are exclusive, offsets count the text as it is, and labels are there once."""
    narratives, roles = read_official(official)

    assert narratives["labels_fine"][0].to_list() == ["CC: Fears: Doom", "CC: Plots: Other"]
    assert narratives["language"].to_list() == ["EN", "RU"]
    assert narratives["domain"].to_list() == ["CC", "UA"]
    assert "\r" not in "".join(narratives["text"])
    for row in roles.iter_rows(named=True):
        assert row["text"][row["start"] : row["end"]] == row["entity"]
    assert roles["labels"].to_list() == [["Victim", "Scapegoat"], ["Rebel"]] * 2
    assert roles["main_role"].to_list() == ["Innocent", "Protagonist"] * 2


@pytest.mark.parametrize(
    ("start", "place"),
    [
        (15, 15),  # the text as it is
        (21, 20),  # near the second one
        (23, 20),  # line ends of two characters
    ],
)
def test_an_entity_is_placed_where_it_is(start: int, place: int) -> None:
    """By either way of counting line ends, or at the nearest place that has it."""
    text, first, end = place_entity(DOCUMENT, "Ann", start, start + 3)

    assert text[first:end] == "Ann"
    assert first == place


def test_an_entity_that_is_not_there_keeps_its_numbers() -> None:
    """Nothing is invented."""
    assert place_entity("Bob left.", "Ann", 2, 5)[1:] == (2, 5)


def test_tables_of_the_founding_document_become_the_same_rows(tmp_path: Path) -> None:
    """Labels of entities are separated by commas, narratives by semicolons; ends are exclusive."""
    pl.DataFrame(
        {
            "Filename": ["a.txt", "b.txt"],
            "Domain": ["UA", "CC"],
            "Language": ["HI", "EN"],
            "Translated_Text": ["Ann left Rome.", "Bob stayed."],
        }
    ).write_csv(tmp_path / "train-all-articles.csv")
    pl.DataFrame(
        {
            "Filename": ["a.txt", "b.txt"],
            "Translated_Entity": ["Rome", None],
            "Start": [9, None],
            "End": [13, None],
            "Label": ["Victim, Scapegoat", None],
        }
    ).write_csv(tmp_path / "train-S1-labels.csv")
    pl.DataFrame(
        {
            "Filename": ["a.txt", "b.txt"],
            "Narrative": ["URW: Praise;URW: Fears", "Other"],
            "Subnarrative": ["URW: Praise: Might", None],
        }
    ).write_csv(tmp_path / "train-S2-labels.csv")

    narratives, roles = read_tables(tmp_path)

    assert narratives["labels"].to_list() == [["URW: Praise", "URW: Fears"], ["Other"]]
    assert narratives["labels_fine"].to_list() == [["URW: Praise: Might"], ["Other"]]
    assert narratives["domain"].to_list() == ["UA", "CC"]
    assert narratives["language"].to_list() == ["HI", "EN"]
    assert roles["labels"].to_list() == [["Victim", "Scapegoat"]]
    assert roles.select("start", "end", "entity").row(0) == (9, 13, "Rome")


def test_the_command_writes_both_tables(official: Path, tmp_path: Path) -> None:
    """And names the line of an annotation that it cannot read."""
    output = tmp_path / "parquet"
    result = CliRunner().invoke(main, [str(official), "--output", str(output)])
    assert result.exit_code == 0, result.output
    assert len(pl.read_parquet(output / "roles.parquet")) == 4

    file = official / "labels" / "EN" / "subtask-1-annotations.txt"
    file.write_text("EN_CC_100001.txt\tRome\n")
    result = CliRunner().invoke(main, [str(official), "--output", str(output)])
    assert result.exit_code == 1
    assert f"{file}, line 1" in result.output.replace("\n", "")
