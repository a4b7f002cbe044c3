"""What a task decided by nearest texts promises: the votes that numpy counts, and clear limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from sklearn.neighbors import NearestNeighbors

from exporter.bundle.inspection import BundleReport
from exporter.cli import main as export_classifier
from narrascan import Scorer
from schemas.kinds import nearest
from schemas.kinds.embedding import EmbeddingKind
from schemas.kinds.nearest import NearestKind
from tests.tiny import SAMPLES
from trainer.checkpoint.reader import Checkpoint
from trainer.cli import main as train_classifier
from trainer.model.nearest_head import NearestHead

NEIGHBOURS = 4
TWICE = 100
TEXTS = pl.read_parquet(SAMPLES / "articles.parquet")["text"].to_list()[:60]


def write_config(folder: Path, encoder: Path, options: str = "", data: Path | None = None) -> Path:
    """A config of the vectors of a text, and of topics by its nearest neighbours."""
    path = folder / "nearest.toml"
    source = data or SAMPLES / "train.parquet"
    path.write_text(
        f"""
schema_version = 1
[encoder]
source = "{encoder}"
max_tokens = 64
[train]
epoch_steps = 1
precision = "fp32"
[tasks.vectors]
kind = "{EmbeddingKind.NAME}"
title = false
[[tasks.vectors.data]]
path = "{source}"
[tasks.topic]
kind = "{NearestKind.NAME}"
title = false
neighbours = {NEIGHBOURS}
{options}
[[tasks.topic.data]]
path = "{source}"
labels_column = "narratives"
""",
        encoding="utf-8",
    )
    return path


def run(command: object, *words: object) -> str:
    """Call a command line, and expect exit 0."""
    result = CliRunner().invoke(command, [str(word) for word in words])  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Path:
    """A checkpoint with references; some texts are there twice, the second time without labels."""
    folder = tmp_path_factory.mktemp("nearest")
    rows = pl.read_parquet(SAMPLES / "train.parquet")
    again = rows[:TWICE].with_columns(narratives=pl.lit([], pl.List(pl.String)))
    pl.concat([rows, again]).write_parquet(folder / "rows.parquet")
    config = write_config(folder, encoder, data=folder / "rows.parquet")
    run(train_classifier, config, "--output", folder / "checkpoint")
    return folder / "checkpoint"


@pytest.fixture(scope="module")
def bundle(trained: Path) -> Path:
    """Its bundle."""
    folder = trained.parent / "bundle"
    run(export_classifier, trained, "--output", folder, "--precision", "fp32")
    return folder


def head_of(checkpoint: Path) -> NearestHead:
    """The head with the reference texts."""
    head = Checkpoint.open(checkpoint).model.head("topic")
    assert isinstance(head, NearestHead)
    return head


def test_votes_are_those_of_the_nearest_references(trained: Path, bundle: Path) -> None:
    """By the neighbours that scikit-learn finds, each weighted by its lead over the next one."""
    head = head_of(trained)
    texts = [one.embedding for one in Scorer(bundle, task="vectors", device="cpu").score(TEXTS)]
    centred = np.stack([one for one in texts if one is not None]) - head.mean.numpy()
    labels = head.labels.numpy()
    found = NearestNeighbors(n_neighbors=NEIGHBOURS + 1, metric="cosine").fit(head.vectors.numpy())
    distances, places = found.kneighbors(centred)
    leads = distances[:, -1:] - distances[:, :-1]
    weights = leads / leads.sum(axis=1, keepdims=True)
    expected = (weights[:, :, None] * labels[places[:, :-1]]).sum(axis=1)
    scorer = Scorer(bundle, task="topic", device="cpu")
    votes = [list((one.probabilities or {}).values()) for one in scorer.score(TEXTS)]

    assert np.array(votes) == pytest.approx(expected, abs=2e-3)
    assert np.array(votes).max() > 0.5


def test_references_are_the_different_training_texts(trained: Path, bundle: Path) -> None:
    """A text that is there twice is one reference, with the mean of its labels."""
    head = head_of(trained)
    vectors, labels = head.vectors.numpy(), head.labels.numpy()
    rows = BundleReport.of(bundle).tasks["topic"].training.train_rows

    assert len(vectors) == len(labels) < rows
    assert len(np.unique(vectors, axis=0)) == len(vectors)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert set(np.unique(labels)) == {0.0, 0.5, 1.0}


def test_a_reference_finds_itself(bundle: Path) -> None:
    """The label with the most votes is one of its own."""
    rows = pl.read_parquet(SAMPLES / "train.parquet")[TWICE:]
    rows = rows.filter(pl.col("narratives").list.len() > 0)
    scored = Scorer(bundle, task="topic", device="cpu").score(rows["text"].to_list())
    votes = [one.probabilities or {} for one in scored]
    first = [max(of_text, key=lambda label: of_text[label]) for of_text in votes]

    assert np.mean([one in gold for one, gold in zip(first, rows["narratives"], strict=True)]) > 0.8


def test_training_again_replaces_the_ids(tmp_path: Path, encoder: Path) -> None:
    """Ids are those of the last data; an export without them is refused, with the file."""
    rows = pl.read_parquet(SAMPLES / "train.parquet")[:200]
    config = write_config(tmp_path, encoder, data=tmp_path / "rows.parquet")
    words = [config, "--output", tmp_path / "c"]
    ids = []
    for prefix, more in (("old", []), ("new", ["--overwrite"])):
        renamed = rows.with_columns(article_id=prefix + pl.col("article_id"))
        renamed.write_parquet(tmp_path / "rows.parquet")
        run(train_classifier, *words, *more)
        ids.append(Checkpoint.open(tmp_path / "c").reference_ids("topic"))
    (tmp_path / "c" / "references" / "topic.parquet").unlink()
    refused = CliRunner().invoke(
        export_classifier, [str(tmp_path / "c"), "--output", str(tmp_path / "b")]
    )

    assert ids[1] == tuple(one.replace("old", "new") for one in ids[0])
    assert len(ids[0]) == len(head_of(tmp_path / "c").vectors)
    assert refused.exit_code == 1
    assert str(Path("references", "topic.parquet")) in refused.output


def test_one_label_can_be_asked_for_at_export(trained: Path, tmp_path: Path) -> None:
    """Every text then has the label with the most votes, and no label has a threshold."""
    words = ["--output", tmp_path / "b", "--precision", "fp32", "--set", "topic.one_label=true"]
    run(export_classifier, trained, *words)
    scored = Scorer(tmp_path / "b", task="topic", device="cpu").score(TEXTS)
    card = (tmp_path / "b" / "MODEL_CARD.md").read_text()

    assert all(len(one.labels) == 1 for one in scored)
    for one in scored:
        votes = one.probabilities or {}
        assert votes[one.labels[0]] == max(votes.values())
    assert "the answer is the label with the most votes" in card


def test_thresholds_are_fitted_and_recalibrated(bundle: Path, tmp_path: Path) -> None:
    """A bundle gives what the rule asks for on new rows."""
    words = ["--task", "topic", "--labels-column", "narratives", "--output", tmp_path / "new"]
    words += ["--data", SAMPLES / "articles.parquet"]
    words += ["--set", "thresholds.strategy=fixed", "--set", "thresholds.fixed=0.75"]
    run(export_classifier, "recalibrate", bundle, *words)
    before, after = (
        BundleReport.of(folder).tasks["topic"].model_dump() for folder in (bundle, tmp_path / "new")
    )

    assert set(after["thresholds"]) == {0.75}
    assert before["thresholds"] != after["thresholds"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("layers = 3", "tasks.topic.layers: 3 is more than the 2 layers"),
        (
            'decision.one_label = true\ndecision.thresholds.strategy = "global"',
            "no effect with one_label",
        ),
        ('loss.name = "ce"', "loss"),
    ],
)
def test_options_that_cannot_be_are_refused(
    tmp_path: Path, encoder: Path, options: str, message: str
) -> None:
    """The message names the key."""
    words = [str(write_config(tmp_path, encoder, options)), "--output", str(tmp_path / "c")]
    result = CliRunner().invoke(train_classifier, words)

    assert result.exit_code != 0
    assert message in result.output


def test_too_few_and_too_many_references_are_refused(
    tmp_path: Path, encoder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has both numbers; nothing is written."""
    rows = pl.read_parquet(SAMPLES / "train.parquet").unique("text", maintain_order=True)
    rows[:5].with_columns(narratives=pl.lit("war")).write_parquet(tmp_path / "few.parquet")
    words = ["--output", str(tmp_path / "c")]
    few = CliRunner().invoke(
        train_classifier,
        [str(write_config(tmp_path, encoder, data=tmp_path / "few.parquet")), *words],
    )
    monkeypatch.setattr("trainer.kinds.nearest.MOST_REFERENCES", 100)
    many = CliRunner().invoke(train_classifier, [str(write_config(tmp_path, encoder)), *words])

    assert "4 neighbours need more than 4 different training texts" in few.output
    assert "are too many references; 100 are allowed" in many.output
    assert nearest.MOST_REFERENCES == 20_000
    assert not (tmp_path / "c" / "checkpoint.json").exists()
