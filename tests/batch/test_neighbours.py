"""What `--neighbours` promises: the nearest training texts, by their ids, with similarities."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from exporter.bundle.inspection import BundleReport
from exporter.cli import main as export_classifier
from narrascan import NarrascanError, Scorer
from schemas.decision.neighbours import NEIGHBOURS_TYPE
from tests.batch.neighbours_bundle import (
    HELD_OUT,
    LONG_ID,
    NEIGHBOURS,
    REPEATED,
    WITHOUT_ID,
    train_neighbours,
    training_rows,
)
from tests.tiny import SAMPLES
from trainer.checkpoint.reader import Checkpoint
from trainer.model.nearest_head import NearestHead

Command = Callable[..., Result]
Score = Callable[..., pa.Table]
Write = Callable[..., Path]

NAMED = {"task": "topic", "neighbours": True}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """A checkpoint with references."""
    return train_neighbours(tmp_path_factory.mktemp("neighbours"), encoder)


@pytest.fixture(scope="module")
def near_bundle(trained: Path) -> Path:
    """Its bundle in fp32."""
    folder = trained.parent / "bundle"
    words = [str(trained), "--output", str(folder), "--precision", "fp32"]
    result = CliRunner().invoke(export_classifier, words)
    assert result.exit_code == 0, result.output
    return folder


def ids_of(scored: pa.Table, column: str = "neighbours") -> list[list[str]]:
    """Ids of the neighbours of each row."""
    return [[one["id"] for one in row] for row in scored[column].to_pylist()]


def similarities_of(scored: pa.Table) -> list[list[float]]:
    """Similarities of the neighbours of each row."""
    return [[one["similarity"] for one in row] for row in scored["neighbours"].to_pylist()]


def reference_ids(bundle: Path) -> tuple[str, ...]:
    """Ids that the file has."""
    references = BundleReport.of(bundle).tasks["topic"].references
    assert references is not None
    return references.ids


def test_neighbours_are_those_that_numpy_finds(
    sample: pa.Table, write: Write, score: Score, trained: Path, near_bundle: Path
) -> None:
    """By cosines of the vectors of another task, less the mean of the references."""
    head = Checkpoint.open(trained).model.head("topic")
    assert isinstance(head, NearestHead)
    corpus = write(sample)
    vectors = np.stack(score(corpus, task="vectors", bundle=near_bundle)["embedding"].to_pylist())
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True) - head.mean.numpy()
    cosines = vectors @ head.vectors.numpy().T / np.linalg.norm(vectors, axis=1, keepdims=True)
    nearest = (-cosines).argsort(axis=1, kind="stable")[:, :NEIGHBOURS]
    scored = score(corpus, bundle=near_bundle, **NAMED)

    ids = reference_ids(near_bundle)
    assert scored.schema.field("neighbours").type == NEIGHBOURS_TYPE
    assert ids_of(scored) == [[ids[number] for number in row] for row in nearest]
    assert np.array(similarities_of(scored)) == pytest.approx(
        np.take_along_axis(cosines, nearest, axis=1), abs=1e-5
    )


def test_a_reference_names_itself_first(near_bundle: Path) -> None:
    """With similarity 1, by its id; a text that is there twice by that of its first row."""
    rows = training_rows()[: -HELD_OUT - 1]
    scorer = Scorer(near_bundle, task="topic", device="cpu", neighbours=True)
    first = [one.neighbours[0] for one in scorer.score(rows["text"].to_list())]
    ids, expected = [one.id for one in first], rows["article_id"].to_list()
    special = (WITHOUT_ID, LONG_ID)

    assert [one.similarity for one in first] == pytest.approx([1.0] * len(rows), abs=1e-5)
    assert max(one.similarity for one in first) <= 1.0
    assert [one for row, one in enumerate(ids) if row not in special] == [
        one for row, one in enumerate(expected) if row not in special
    ]
    assert ids[WITHOUT_ID] == f"rows.parquet:{WITHOUT_ID}"
    assert ids[LONG_ID].startswith("x" * 160 + "…#")
    assert ids[REPEATED] == expected[REPEATED]
    assert len(reference_ids(near_bundle)) == len(rows)
    assert "again" not in reference_ids(near_bundle)


def test_other_columns_are_those_of_a_run_without_neighbours(
    sample: pa.Table, write: Write, score: Score, near_bundle: Path
) -> None:
    """To the last bit, whatever else the run scores; the column follows those of its task."""
    corpus = write(sample)
    plain = score(corpus, task="topic", bundle=near_bundle)
    named = score(corpus, bundle=near_bundle, **NAMED)
    joint = score(corpus, task="vectors,topic", bundle=near_bundle, neighbours=True)

    assert named.drop_columns(["neighbours"]).equals(plain)
    assert joint["topic_neighbours"].equals(named["neighbours"])
    assert joint["topic_probabilities"].equals(plain["probabilities"])
    names = named.column_names
    assert names[names.index("labels") :][:3] == ["labels", "probabilities", "neighbours"]
    assert "vectors_neighbours" not in joint.column_names


def test_rows_without_text_have_no_neighbours(
    sample: pa.Table, write: Write, score: Score, near_bundle: Path
) -> None:
    """The column is null where a row was not scored; others keep theirs."""
    texts = sample["text"].to_pylist()[:6]
    whole = score(write({"text": texts}), bundle=near_bundle, **NAMED)
    holes = [texts[0], None, texts[2], " ", texts[4], texts[5]]
    scored = score(write({"text": holes}, "holes.parquet"), bundle=near_bundle, **NAMED)
    expected = whole["neighbours"].to_pylist()

    assert scored["neighbours"].to_pylist() == [
        None if row in (1, 3) else one for row, one in enumerate(expected)
    ]


def test_the_cache_keeps_runs_with_and_without_neighbours_apart(
    sample: pa.Table, write: Write, score: Score, near_bundle: Path, tmp_path: Path
) -> None:
    """One folder serves both, in any order."""
    corpus, options = write(sample), {"bundle": near_bundle, "cache": tmp_path / "cache"}
    expected = score(corpus, bundle=near_bundle, **NAMED)
    plain, *named = (
        score(corpus, **options, **one) for one in ({"task": "topic"}, NAMED, NAMED, NAMED)
    )

    assert all(one.equals(expected) for one in named)
    assert plain.equals(expected.drop_columns(["neighbours"]))


def test_the_option_is_part_of_the_run(
    sample: pa.Table, write: Write, batch_classify: Command, near_bundle: Path, tmp_path: Path
) -> None:
    """run.json has it, and a folder of a run without it is refused."""
    corpus, options = write(sample), {"bundle": near_bundle, "output": tmp_path / "scored"}
    first = batch_classify(corpus, **options, task="topic")
    config = json.loads((tmp_path / "scored" / "run.json").read_text())["config"]
    second = batch_classify(corpus, **options, **NAMED)

    assert first.exit_code == 0, first.output
    assert config["neighbours"] is False
    assert second.exit_code == 1
    assert "options.neighbours: was False, is True" in second.stderr


@pytest.mark.parametrize("more", [{}, {"dry_run": True}], ids=str)
def test_a_task_without_references_is_a_usage_error(
    sample: pa.Table,
    write: Write,
    batch_classify: Command,
    near_bundle: Path,
    tmp_path: Path,
    more: dict[str, Any],
) -> None:
    """Exit 2; the message says which kind can name neighbours, and nothing is written."""
    options = {"bundle": near_bundle, "output": tmp_path / "scored", "neighbours": True, **more}
    result = batch_classify(write(sample), task="vectors", **options)

    assert result.exit_code == 2
    assert "no reference texts in 'vectors'" in result.stderr
    assert "tasks of kind 'nearest' have them" in result.stderr
    assert "leave out --neighbours" in result.stderr
    assert not (tmp_path / "scored").exists()
    with pytest.raises(NarrascanError, match="no reference texts"):
        Scorer(near_bundle, task="vectors", device="cpu", neighbours=True)


def test_a_dry_run_names_no_neighbours_but_runs(
    sample: pa.Table, write: Write, batch_classify: Command, near_bundle: Path
) -> None:
    """The estimate is made with the outputs of the run."""
    result = batch_classify(write(sample), bundle=near_bundle, dry_run=True, **NAMED)

    assert result.exit_code == 0, result.output


def test_the_name_is_reserved_only_with_the_option(
    sample: pa.Table, write: Write, batch_classify: Command, score: Score, near_bundle: Path
) -> None:
    """A corpus may have such a column, but not beside that of the run."""
    names = ["who lives near"] * len(sample)
    corpus = write(sample.append_column("Neighbours", pa.array(names)))
    kept = score(corpus, task="topic", bundle=near_bundle)
    refused = batch_classify(corpus, bundle=near_bundle, **NAMED)

    assert kept["Neighbours"].to_pylist() == names
    assert refused.exit_code == 1
    assert "Neighbours" in refused.stderr


def test_the_python_api_names_the_same_neighbours(
    sample: pa.Table, write: Write, score: Score, near_bundle: Path
) -> None:
    """Pairs of id and similarity, to the bit; none without the option, or for an empty text."""
    texts = sample["text"].to_pylist()
    scored = score(write(sample), bundle=near_bundle, **NAMED)["neighbours"].to_pylist()
    scorer = Scorer(near_bundle, task="topic", device="cpu", neighbours=True)
    *named, empty = scorer.score([*texts, None])
    plain = Scorer(near_bundle, task="topic", device="cpu").score(texts[:2])

    assert [[one._asdict() for one in prediction.neighbours] for prediction in named] == scored
    assert empty.neighbours == ()
    assert [one.neighbours for one in plain] == [(), ()]
    assert [one.labels for one in plain] == [one.labels for one in named[:2]]


def test_ids_stay_with_a_recalibrated_bundle(near_bundle: Path, tmp_path: Path) -> None:
    """The card says how many texts can be named, and shows an id."""
    words = ["recalibrate", near_bundle, "--task", "topic", "--labels-column", "narratives"]
    words += ["--data", SAMPLES / "articles.parquet", "--output", tmp_path / "new"]
    result = CliRunner().invoke(export_classifier, [str(word) for word in words])
    ids = reference_ids(near_bundle)

    assert result.exit_code == 0, result.output
    assert reference_ids(tmp_path / "new") == ids
    for folder in (near_bundle, tmp_path / "new"):
        card = (folder / "MODEL_CARD.md").read_text()
        assert f"{len(ids)} texts" in card
        assert f"`{ids[0]}`" in card
