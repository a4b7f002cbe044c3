"""Reader of Reuters-21578; the stories here are our own, in the public format."""

import gzip
from pathlib import Path

import pytest

from schemas.config.models import DataConfig, TaskConfig, task_model
from schemas.errors import DataError
from schemas.kinds import KINDS
from schemas.kinds.token import TokenKind
from schemas.text.arrow_text import BadText
from trainer.data.readers import read_part
from trainer.data.readers.reuters import Story, read_stories


def story(
    number: int,
    text: str,
    *,
    topics: tuple[str, ...] = ("tea",),
    split: str = "TRAIN",
    has_topics: str = "YES",
    kind: str = "",
) -> str:
    """One story in the format of the files."""
    listed = "".join(f"<D>{topic}</D>" for topic in topics)
    return (
        f'<REUTERS TOPICS="{has_topics}" LEWISSPLIT="{split}" CGISPLIT="TRAINING-SET" '
        f'OLDID="{number + 5000}" NEWID="{number}">\n<DATE>1-JAN-1987 10:00:00.00</DATE>\n'
        f"<TOPICS>{listed}</TOPICS>\n<PLACES><D>nowhere</D></PLACES>\n<PEOPLE></PEOPLE>\n"
        f"<ORGS></ORGS>\n<EXCHANGES></EXCHANGES>\n<COMPANIES></COMPANIES>\n<UNKNOWN> \n"
        f"&#5;&#5;&#5;C T\n&#22;&#22;&#1;f0001&#31;reute</UNKNOWN>\n"
        f"<TEXT{kind}>&#2;\n{text}\n&#3;</TEXT>\n</REUTERS>\n"
    )


def normal(title: str, body: str) -> str:
    """The content of a story with title and body."""
    return (
        f"<TITLE>{title}</TITLE>\n<DATELINE>    OURTOWN, Jan 1 - </DATELINE><BODY>{body}\n Reuter\n"
    ).replace("Reuter\n", "</BODY>")


def write(folder: Path, *stories: str, name: str = "reut2-000.sgm") -> Path:
    """Write stories to one file, gzipped if its name ends in .gz."""
    content = ('<!DOCTYPE lewis SYSTEM "lewis.dtd">\n' + "".join(stories)).encode("latin-1")
    (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder


def read(folder: Path, split: str = "TRAIN") -> list[Story]:
    """The stories of one part."""
    return list(read_stories(folder, split))


def test_story_is_title_blank_line_and_body(tmp_path: Path) -> None:
    """Place, date and control codes are not part of the text."""
    write(tmp_path, story(7, normal("TEA CROP GROWS", "Growers said\nthe crop is good.")))

    assert read(tmp_path) == [
        Story("training/7", "TEA CROP GROWS\n\nGrowers said\nthe crop is good.", ("tea",))
    ]


def test_parts_are_distinguished(tmp_path: Path) -> None:
    """Training stories, test stories, and stories of neither part."""
    write(
        tmp_path,
        story(1, normal("ONE", "First.")),
        story(2, normal("TWO", "Second."), split="TEST"),
        story(3, normal("THREE", "Third."), split="NOT-USED"),
        story(4, normal("FOUR", "Fourth."), has_topics="NO"),
        story(5, normal("FIVE", "Fifth."), has_topics="BYPASS", split="TEST"),
    )

    assert [found.identifier for found in read(tmp_path)] == ["training/1"]
    assert [found.identifier for found in read(tmp_path, "TEST")] == ["test/2"]


def test_brief_story_is_its_title(tmp_path: Path) -> None:
    """A story of type BRIEF has no body."""
    brief = story(1, "<TITLE>TEA UP TWO CTS</TITLE>\n", kind=' TYPE="BRIEF"')
    write(tmp_path, brief)

    assert [found.text for found in read(tmp_path)] == ["TEA UP TWO CTS"]


def test_unprocessed_story_is_its_raw_text(tmp_path: Path) -> None:
    """A story of type UNPROC has neither title nor body, and is read as raw text."""
    raw = story(1, "TEA TABLE\n  lot 1   20.5\n  lot 2   19.0\n", kind=' TYPE="UNPROC"')
    write(tmp_path, raw)

    assert [found.text for found in read(tmp_path)] == ["TEA TABLE\n  lot 1   20.5\n  lot 2   19.0"]


def test_duplicate_topics_count_once(tmp_path: Path) -> None:
    """Topics keep their order; places are not topics."""
    write(tmp_path, story(1, normal("T", "B."), topics=("tea", "cocoa", "tea")))

    assert read(tmp_path)[0].topics == ("tea", "cocoa")


def test_entities_are_decoded(tmp_path: Path) -> None:
    """Escaped characters are decoded once, in title and body."""
    write(tmp_path, story(1, normal("A &lt;ACME> &amp; CO", "Fell &lt;5 pct &amp;lt; more.")))

    assert read(tmp_path)[0].text == "A <ACME> & CO\n\nFell <5 pct &lt; more."


def test_story_may_have_no_topics(tmp_path: Path) -> None:
    """The list of topics may be empty or missing."""
    write(
        tmp_path,
        story(1, normal("T", "B."), topics=()),
        story(2, normal("U", "C."), topics=()).replace("<TOPICS></TOPICS>\n", ""),
    )

    assert [found.topics for found in read(tmp_path)] == [(), ()]


def test_gzipped_and_plain_files_read_alike(tmp_path: Path) -> None:
    """The same stories, in both forms, in the order of the file names."""
    for name in ("plain", "packed"):
        (tmp_path / name).mkdir()
    first, second = story(1, normal("ONE", "First.")), story(2, normal("TWO", "Café."))
    write(tmp_path / "plain", second, name="reut2-001.sgm")
    write(tmp_path / "plain", first)
    write(tmp_path / "packed", second, name="reut2-001.sgm.gz")
    write(tmp_path / "packed", first, name="reut2-000.sgm.gz")

    plain = read(tmp_path / "plain")
    assert plain == read(tmp_path / "packed")
    assert [found.identifier for found in plain] == ["training/1", "training/2"]


def test_file_in_both_forms_is_read_once(tmp_path: Path) -> None:
    """An unpacked file beside its archive does not duplicate its stories."""
    only = story(1, normal("ONE", "First."))
    write(tmp_path, only)
    write(tmp_path, only, name="reut2-000.sgm.gz")

    assert len(read(tmp_path)) == 1


def test_folder_without_files_is_refused(tmp_path: Path) -> None:
    """The error for an empty or missing folder names the expected files."""
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match=r"no reut2-\*\.sgm"):
            read(folder)


@pytest.mark.parametrize("name", ["reut2-000.sgm", "reut2-000.sgm.gz"])
def test_file_without_stories_is_refused(tmp_path: Path, name: str) -> None:
    """The error names the file."""
    write(tmp_path, "nothing here", name=name)

    with pytest.raises(DataError, match=rf"{name}: contains no <REUTERS> stories"):
        read(tmp_path)


def test_damaged_archive_is_refused(tmp_path: Path) -> None:
    """The error for a truncated archive, or a file that is not one, names the file."""
    path = tmp_path / "reut2-000.sgm.gz"
    for content in (gzip.compress(b"<REUTERS " * 999)[:-30], b"not an archive"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"reut2-000\.sgm\.gz: cannot be read"):
            read(tmp_path)


def test_training_rows_are_training_stories_with_topics(tmp_path: Path) -> None:
    """Test stories and stories without topics are not training rows, and there is no title."""
    write(
        tmp_path,
        story(1, normal("ONE", "First."), topics=("tea", "cocoa")),
        story(2, normal("TWO", "Second."), topics=()),
        story(3, normal("THREE", "Third."), split="TEST"),
    )
    data = DataConfig(path=tmp_path, format="reuters21578")
    rows = read_part(data, TaskConfig(data=(data,)), "train")

    assert [article.text for article in rows.articles] == ["ONE\n\nFirst."]
    assert rows.articles[0].title is None
    assert rows.gold == [["tea", "cocoa"]]
    assert rows.ids == ["training/1"]


def test_there_is_no_validation_part(tmp_path: Path) -> None:
    """Requesting it is an error with a hint."""
    write(tmp_path, story(1, normal("ONE", "First.")))
    data = DataConfig(path=tmp_path, format="reuters21578", validation_value="dev")

    with pytest.raises(DataError, match="leave validation_value out"):
        read_part(data, TaskConfig(data=(data,)), "validation")


def test_topics_are_gold_values_of_the_kind_of_the_task(tmp_path: Path) -> None:
    """A list of labels, one label, or nothing; a story of two topics has no one label."""
    both = story(2, normal("TWO", "Second."), topics=("tea", "oil"))
    write(tmp_path, story(1, normal("ONE", "First.")), both)
    data = DataConfig(path=tmp_path, format="reuters21578")
    gold = {
        kind: list(read_part(data, task_model(kind)(kind=kind, data=(data,)), "train").gold)
        for kind in KINDS
        if kind != TokenKind.NAME
    }
    with pytest.raises(DataError, match="needs a list of structs with start, end and label"):
        read_part(data, task_model(TokenKind.NAME)(kind=TokenKind.NAME, data=(data,)), "train")

    assert gold["multilabel"] == gold["nearest"] == [["tea"], ["tea", "oil"]]
    assert gold["multiclass"][0] == "tea"
    assert isinstance(gold["multiclass"][1], BadText)
    assert gold["embedding"] == [(), ()]
