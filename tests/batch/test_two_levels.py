"""Two-level labels from the config to the report: consistent answers, and scores of both levels."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from batch.cli import main as batch_classify
from exporter.bundle.inspection import BundleReport
from exporter.cli import main as export_classifier
from narrascan import Scorer
from schemas.decision.levels import LabelTree
from schemas.decision.metrics import Hits, LabelScores, LevelScores
from schemas.tasks.parents import with_parents
from schemas.tasks.task import label_matrix
from tests.label_tasks import decision_of
from tests.tiny import TOPICS, sample_parents, write_config
from trainer.cli import main as train_classifier

Contents = Callable[[Path], dict[str, bytes]]
Read = Callable[[Path], pa.Table]
Write = Callable[..., Path]

GOLD = ("--gold-column", "narratives")


def run(command: Any, *words: object) -> Result:
    """Call a command line, and expect exit 0."""
    result = CliRunner().invoke(command, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def parents() -> dict[str, str]:
    """Topic of each narrative of the samples; `Other` has none."""
    return sample_parents()


@pytest.fixture(scope="module")
def two_levels(
    parents: dict[str, str], tmp_path_factory: pytest.TempPathFactory, encoder: Path
) -> Path:
    """The bundle of a task whose data name fine labels only."""
    folder = tmp_path_factory.mktemp("levels")
    config = write_config(folder / "config.toml", encoder, epochs=1)
    table = ", ".join(f"{json.dumps(fine)} = {json.dumps(parents[fine])}" for fine in parents)
    task = "[tasks.narrative]\n"
    text = config.read_text().partition("[tasks.entity_framing]")[0]
    config.write_text(text.replace(task, f"{task}parents = {{ {table} }}\n"))
    run(train_classifier, config, "--output", folder / "checkpoint")
    words = ("--output", folder / "bundle", "--precision", "fp32")
    run(export_classifier, folder / "checkpoint", *words)
    return folder / "bundle"


@pytest.fixture
def corpus(sample: pa.Table, write: Write) -> Path:
    """The sample, in which one article is empty."""
    texts = sample["text"].to_pylist()
    texts[7] = " "
    return write(sample.set_column(2, "text", pa.array(texts)))


def scored(corpus: Path, bundle: Path, output: Path, *words: object) -> Path:
    """Folder of a finished run."""
    task = ("--task", "narrative", "--bundle", bundle, "--device", "cpu")
    run(batch_classify, corpus, *task, *GOLD, "--output", output, *words)
    return output


def levels_of(report: dict[str, Any]) -> LevelScores:
    """Scores by level of a report."""
    scores = LabelScores.model_validate(report["overall"]["gold"])
    assert scores.levels is not None
    return scores.levels


def test_answers_of_every_article_are_consistent(
    corpus: Path, two_levels: Path, parents: dict[str, str], tmp_path: Path, read_parts: Read
) -> None:
    """A fine label is given only with its coarse one, which is never less probable."""
    rows = read_parts(scored(corpus, two_levels, tmp_path / "out") / "predictions").to_pylist()
    given = [set(row["labels"]) for row in rows]

    assert any(labels & set(parents) for labels in given)
    for row, labels in zip(rows, given, strict=True):
        assert {parents[label] for label in labels if label in parents} <= labels
        probabilities = dict(row["probabilities"] or ())
        assert all(
            probabilities[fine] <= probabilities[coarse]
            for fine, coarse in parents.items()
            if probabilities
        )


def test_report_scores_both_levels_against_complete_gold(
    corpus: Path, two_levels: Path, parents: dict[str, str], tmp_path: Path, read_parts: Read
) -> None:
    """Gold that names fine labels counts for coarse ones; all numbers are those of `Hits`."""
    output = scored(corpus, two_levels, tmp_path / "out")
    rows = read_parts(output / "predictions")
    report = json.loads((output / "report.json").read_text(encoding="utf-8"))
    labels = tuple(report["labels"])
    gold, decided = (
        label_matrix([with_parents(row, parents) for row in lists], labels, source="rows")
        for lists in (rows["narratives"].to_pylist(), rows["labels"].to_pylist())
    )
    expected = Hits.count(gold, decided, LabelTree.of(labels, parents)).scores()

    assert report["parents"] == parents
    found = LabelScores.model_validate(report["overall"]["gold"])
    assert found.model_dump(exclude={"levels"}) == pytest.approx(
        expected.model_dump(exclude={"levels"}), abs=1e-6
    )
    assert expected.levels is not None
    for level in ("coarse", "fine"):
        ours, theirs = (getattr(one, level) for one in (levels_of(report), expected.levels))
        assert ours.model_dump() == pytest.approx(theirs.model_dump(), abs=1e-6)


def test_page_shows_both_levels(corpus: Path, two_levels: Path, tmp_path: Path) -> None:
    """Scores of each level, and fine labels below their coarse one."""
    page = (scored(corpus, two_levels, tmp_path / "out") / "report.html").read_text("utf-8")

    assert "Labels have two levels" in page
    assert "Coarse labels alone:" in page
    assert "Fine labels alone:" in page
    assert '<th scope="row" class="strong"><bdi>Climate</bdi></th>' in page


def test_shards_and_small_chunks_give_the_same_bytes(
    corpus: Path, two_levels: Path, tmp_path: Path, contents: Contents
) -> None:
    """Merged shards are the whole run, with the same report."""
    chunks = ("--chunk-rows", 9)
    whole = scored(corpus, two_levels, tmp_path / "whole", *chunks)
    shards = [
        scored(corpus, two_levels, tmp_path / f"shard-{number}", *chunks, "--shard", f"{number}/2")
        for number in (1, 2)
    ]
    run(batch_classify, "merge", *shards, "--output", tmp_path / "merged")

    assert contents(tmp_path / "merged") == contents(whole)


def test_a_resumed_run_gives_the_same_bytes(
    corpus: Path, two_levels: Path, tmp_path: Path, contents: Contents
) -> None:
    """Counts by level come back from the markers of chunks that were finished before."""
    whole = scored(corpus, two_levels, tmp_path / "whole", "--chunk-rows", 9)
    other = Path(shutil.copytree(whole, tmp_path / "other"))
    for name in ("run.json", "report.json", "report.html", ".narrascan/done/00002.json"):
        (other / name).unlink()
    scored(corpus, two_levels, other, "--chunk-rows", 9)

    assert contents(other) == contents(whole)


def test_bundle_says_what_the_levels_are(two_levels: Path, parents: dict[str, str]) -> None:
    """Parents and scores of both levels are in the file, and on the model card."""
    metadata = BundleReport.of(two_levels).tasks["narrative"]
    card = (two_levels / "MODEL_CARD.md").read_text(encoding="utf-8")

    assert decision_of(metadata).parents == parents
    assert set(TOPICS.values()) < set(metadata.labels)
    for scores in (metadata.metrics.validation, metadata.metrics.cross_validated):
        assert isinstance(scores, LabelScores)
        assert scores.levels is not None
    assert "coarse labels alone: micro-F1" in card
    assert "fine labels have one of 2 coarse labels" in card
    assert "| label | coarse label | training rows |" in card


def test_number_of_labels_can_be_limited(
    corpus: Path, two_levels: Path, parents: dict[str, str], tmp_path: Path, read_parts: Read
) -> None:
    """One fine label for every article with text, also recalibrated; report and card say so."""
    limited, again = tmp_path / "limited", tmp_path / "again"
    limits = ("--set", "narrative.fewest_labels=1", "--set", "narrative.most_labels=1")
    plain = ("--output", limited, "--precision", "fp32")
    run(export_classifier, two_levels.parent / "checkpoint", *plain, *limits)
    words = ("--data", corpus, "--labels-column", "narratives", "--output", again)
    run(export_classifier, "recalibrate", limited, "--task", "narrative", *words)
    card = (limited / "MODEL_CARD.md").read_text(encoding="utf-8")

    assert "each text has exactly 1 label, not counting coarse labels that have fine ones" in card
    for bundle in (limited, again):
        output = scored(corpus, bundle, tmp_path / f"{bundle.name}-scored")
        answers = read_parts(output / "predictions")["labels"].to_pylist()
        assert sum(not answer for answer in answers) == 1  # the article without text
        for answer in answers:
            if answer:
                (counted,) = [label for label in answer if label not in TOPICS.values()]
                assert {*answer} - {counted} == {
                    parents[one] for one in (counted,) if one in parents
                }
        page = (output / "report.html").read_text(encoding="utf-8")
        assert "Every scored article gets exactly 1 label, not counting coarse labels" in page
        report = json.loads((output / "report.json").read_text())
        assert (report["fewest_labels"], report["most_labels"]) == (1, 1)


def test_more_labels_than_there_are_cannot_be_asked_for(two_levels: Path, tmp_path: Path) -> None:
    """Export ends with the number that there are, and writes nothing."""
    words = ("--output", tmp_path / "new", "--set", "narrative.fewest_labels=99")
    arguments = [str(word) for word in (two_levels.parent / "checkpoint", *words)]
    result = CliRunner().invoke(export_classifier, arguments)

    assert result.exit_code == 1
    assert "fewest_labels is 99, but the task has" in result.output
    assert not (tmp_path / "new").exists()


def test_python_api_gives_the_same_answers(
    corpus: Path, two_levels: Path, tmp_path: Path, read_parts: Read
) -> None:
    """Labels, and the bits of the probabilities."""
    rows = read_parts(scored(corpus, two_levels, tmp_path / "out") / "predictions").to_pylist()
    table = pq.read_table(corpus)
    texts = [{"text": text} for text in table["text"].to_pylist()]
    untitled = tmp_path / "untitled.parquet"
    pq.write_table(pa.Table.from_pylist(texts), untitled)
    task = ("--task", "narrative", "--bundle", two_levels, "--device", "cpu")
    run(batch_classify, untitled, *task, "--output", tmp_path / "plain")
    expected = read_parts(tmp_path / "plain" / "predictions").to_pylist()
    scorer = Scorer(two_levels, task="narrative", device="cpu")
    answers = scorer.score([row["text"] for row in texts])

    assert len(rows) == len(answers)
    for row, answer in zip(expected, answers, strict=True):
        assert row["labels"] == list(answer.labels)
        assert row["probabilities"] == (answer.probabilities and list(answer.probabilities.items()))


def test_recalibrated_bundle_keeps_its_levels(
    corpus: Path, two_levels: Path, parents: dict[str, str], tmp_path: Path
) -> None:
    """Also with other settings; gold of the new rows is completed before anything is fitted."""
    words = ("--data", corpus, "--labels-column", "narratives", "--output", tmp_path / "new")
    task = ("recalibrate", two_levels, "--task", "narrative")
    run(export_classifier, *task, *words, "--set", "thresholds.strategy=global")
    before, after = (
        BundleReport.of(bundle).tasks["narrative"] for bundle in (two_levels, tmp_path / "new")
    )
    rows = [row for row in pq.read_table(corpus).to_pylist() if row["text"].strip()]
    gold = label_matrix(
        [with_parents(row["narratives"], parents) for row in rows], after.labels, source="rows"
    )

    assert decision_of(after).parents == decision_of(before).parents == parents
    assert len({*decision_of(after).thresholds}) == 1
    assert isinstance(after.metrics.cross_validated, LabelScores)
    assert after.metrics.cross_validated.levels is not None
    assert after.evidence.model_dump()["positives"] == tuple(gold.sum(axis=0).tolist())
