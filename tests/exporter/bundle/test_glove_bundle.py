"""The CNN-BiLSTM through the whole house: word vectors, training, export, scoring."""

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from batch.cli import main as batch_main
from exporter.cli import main as export_main
from schemas.bundle.folder import Bundle
from tests.tiny import TRAIN_FILE, make_tokenizer, sample_rows, write_config
from trainer.cli import main as train_main

Scored = dict[str, tuple[bytes, int]]


def run(command: object, *arguments: object) -> None:
    """Run a command line that has to succeed."""
    result = CliRunner().invoke(command, [str(argument) for argument in arguments])  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output


def read_few_rows(config: Path) -> None:
    """Let a config read every fourth row of the samples."""
    rows = config.parent / "train.parquet"
    sample_rows("train").gather_every(4).write_parquet(rows)
    config.write_text(config.read_text().replace(TRAIN_FILE, str(rows)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of both sample tasks over random vectors of the samples' words."""
    folder = tmp_path_factory.mktemp("glove")
    rng = np.random.default_rng(0)
    words = sorted({word for word in make_tokenizer().get_vocab() if word.isalpha()})
    lines = [" ".join([word, *(f"{value:.4f}" for value in rng.normal(size=8))]) for word in words]
    (folder / "vectors.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = write_config(folder / "config.toml", Path(f"glove:{folder / 'vectors.txt'}"), epochs=1)
    read_few_rows(config)
    run(train_main, config, "--output", folder / "checkpoint")
    return folder / "checkpoint"


@pytest.fixture(scope="module")
def bundle(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of that checkpoint, which the gate against torch let pass."""
    output = tmp_path_factory.mktemp("exported") / "bundle"
    run(export_main, trained, "--output", output)
    return output


@pytest.fixture
def score(bundle: Path, tmp_path: Path) -> Callable[..., Scored]:
    """Scores rows and returns each article's bytes of probabilities, and its tokens."""
    runs = iter(range(100))

    def score(rows: pl.DataFrame, *options: object) -> Scored:
        place = tmp_path / str(next(runs))
        place.mkdir()
        rows.write_parquet(place / "corpus.parquet")
        run(
            batch_main,
            place / "corpus.parquet",
            *("--task", "narrative", "--bundle", bundle, "--output", place / "scored"),
            *("--device", "cpu", *options),
        )
        scored = pl.read_parquet(place / "scored" / "predictions" / "*.parquet")
        matrix = [np.array(list(row.values()), np.float32) for row in scored["probabilities"]]
        return {
            name: (row.tobytes(), tokens)
            for name, row, tokens in zip(
                scored["article_id"], matrix, scored["tokens"], strict=True
            )
        }

    return score


@pytest.fixture(scope="module")
def articles() -> pl.DataFrame:
    """48 articles of the samples, cut to many lengths."""
    rng = random.Random(5)
    rows = sample_rows().head(48).select("article_id", "title", "text")
    cut = [text[: rng.randint(10, 450)] for text in rows["text"]]
    return rows.with_columns(text=pl.Series(cut))


def test_bundle_is_made_and_says_what_it_is(bundle: Path) -> None:
    """Every task passed the gate, within its tolerance, under the encoder's type."""
    opened = Bundle.open(bundle)

    assert set(opened.manifest.tasks) == {"narrative", "entity_framing"}
    assert "cnn-bilstm" in (bundle / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_other_rows_and_padding_do_not_change_a_score(
    articles: pl.DataFrame, score: Callable[..., Scored]
) -> None:
    """Order, chunks and other rows leave every bit of a score as it is."""
    alone = score(articles)
    shuffled = score(articles.sample(fraction=1.0, shuffle=True, seed=1), "--chunk-rows", 7)
    few = score(articles.head(5))

    assert len({scores for scores, _ in alone.values()}) == len(alone) == 48
    assert len({tokens for _, tokens in alone.values()}) > 20
    assert shuffled == alone
    assert few == {name: alone[name] for name in few}


def test_number_of_threads_does_not_change_a_score(
    articles: pl.DataFrame, score: Callable[..., Scored]
) -> None:
    """One thread or two, with more rows in a batch than threads."""
    assert score(articles, "--threads", 1) == score(articles, "--threads", 2)


def test_trained_checkpoint_is_an_encoder_to_start_from(trained: Path, tmp_path: Path) -> None:
    """A later run starts from the weights of an earlier one over the same vectors."""
    vectors = f"glove:{trained.parent / 'vectors.txt'}"
    config = write_config(tmp_path / "config.toml", Path(vectors), epochs=1)
    read_few_rows(config)
    run(train_main, config, "--output", tmp_path / "on", "--set", f"encoder.start_from='{trained}'")

    assert (tmp_path / "on" / "checkpoint.json").is_file()
