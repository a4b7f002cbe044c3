"""Tiny real parts for tests: an encoder with random weights, a tokenizer, a config, a corpus."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel

from schemas.kinds.embedding import EmbeddingKind
from schemas.kinds.multiclass import MulticlassKind
from schemas.kinds.nearest import NearestKind
from schemas.kinds.token import TokenKind
from trainer.model.cnn_bilstm import CnnBilstmConfig

if TYPE_CHECKING:
    import polars as pl

SAMPLES = Path(__file__).parents[1] / "samples"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
POSITIONS = 130

SIZES: dict[str, dict[str, object]] = {
    "bert": {},
    CnnBilstmConfig.model_type: {},
    "roberta": {"pad_token_id": 0},
    "xlm-roberta": {"pad_token_id": 0},
    "mpnet": {"pad_token_id": 0},
    "electra": {"embedding_size": 32},
    "distilbert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    "deberta-v2": {
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 32,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "position_biased_input": False,
    },
    "modernbert": {
        "pad_token_id": 0,
        "cls_token_id": 2,
        "sep_token_id": 3,
        "bos_token_id": 2,
        "eos_token_id": 3,
        "reference_compile": False,
    },
}
"""The nine encoder types that export is promised for, with what each needs beside its size."""


TOPICS = {"UA": "Ukraine", "CC": "Climate"}
"""Topics of the samples by the first letters of their narratives."""


def sample_rows(name: str = "articles") -> pl.DataFrame:
    """One of the two committed sample files."""
    import polars as pl

    return pl.read_parquet(SAMPLES / f"{name}.parquet")


def sample_parents() -> dict[str, str]:
    """Topic of each narrative of the samples; `Other` has none."""
    narratives = sample_rows("train")["narratives"].explode().drop_nulls().unique().sort()
    return {label: TOPICS[label[:2]] for label in narratives if label[:2] in TOPICS}


def make_tokenizer() -> Tokenizer:
    """A WordPiece tokenizer of 800 pieces: the letters of the samples and their commonest words.

    Not trained, because training breaks ties differently in every process.
    """
    normalizer, splitter = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    words = Counter(
        word
        for text in pq.read_table(SAMPLES / "train.parquet")["text"].to_pylist()
        for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))
    )
    letters = sorted(set("".join(words)))
    common = sorted(words, key=lambda word: (-words[word], word))
    pieces = dict.fromkeys([*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *common])
    vocabulary = {piece: number for number, piece in enumerate([*pieces][:800])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = splitter
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def make_encoder(folder: Path, model_type: str = "bert", *, tokenizer: Tokenizer) -> Path:
    """Save an encoder of 2 layers and hidden size 32 with random weights, and its tokenizer."""
    sizes: dict[str, object] = {
        "vocab_size": tokenizer.get_vocab_size(),
        "max_position_embeddings": POSITIONS,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "initializer_range": 0.2,  # large, so that scores differ between texts
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    if model_type == "distilbert":
        sizes = {
            k: sizes[k] for k in ("vocab_size", "max_position_embeddings", "initializer_range")
        }
    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **{**sizes, **SIZES[model_type]})
    AutoModel.from_config(config).save_pretrained(folder, safe_serialization=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


TRAIN_FILE = "every-third.parquet"
"""Name of the training rows, which `write_config` writes beside the config."""

PLAIN_TASKS = f"""
[tasks.roles]
loss.name = "db"
[[tasks.roles.data]]
path = "{TRAIN_FILE}"
labels_column = "roles"
[tasks.site]
head = "mean"
loss.name = "db"
[[tasks.site.data]]
path = "{TRAIN_FILE}"
labels_column = "domain"
"""
"""Two more tasks for `write_config`, which read the same text as its task `narrative`."""

ONE_LABEL_TASK = f"""
[tasks.outlet]
kind = "{MulticlassKind.NAME}"
loss.name = "weighted-ce"
decision.calibration = "vector"
[[tasks.outlet.data]]
path = "{TRAIN_FILE}"
labels_column = "domain"
"""
"""A task with one label a row for `write_config`, which reads the same text too."""


VECTOR_TASK = f"""
[tasks.vectors]
kind = "{EmbeddingKind.NAME}"
dimension = 8
layers = 2
[[tasks.vectors.data]]
path = "{TRAIN_FILE}"
"""
"""A task that gives vectors for `write_config`, which reads the same text too."""

VOTED_TASK = f"""
[tasks.topic]
kind = "{NearestKind.NAME}"
neighbours = 7
[[tasks.topic.data]]
path = "{TRAIN_FILE}"
labels_column = "narratives"
"""
"""A task that is decided by nearest texts for `write_config`, which reads the same text too."""

ENTITIES_FILE = "entities.parquet"
"""Name of the data of `SPAN_TASK`, which `write_config` writes beside the config."""

SPAN_TASK = f"""
[tasks.names]
kind = "{TokenKind.NAME}"
loss.name = "weighted-ce"
[[tasks.names.data]]
path = "{ENTITIES_FILE}"
labels_column = "entities"
"""
"""A task that finds names and months for `write_config`, which reads the same text too."""

KINDS_TASKS = ONE_LABEL_TASK + VECTOR_TASK + VOTED_TASK + SPAN_TASK
"""A task of every kind but that of the tasks that `write_config` has anyway."""


MONTHS = re.compile(
    "January|February|March|April|May|June|July|August|September|October|November|December"
)


def entity_column(texts: Sequence[str], names: Sequence[str]) -> pa.Array:
    """Spans of each text: every mention of its name, and months."""
    return pa.array(
        [
            [
                {"start": match.start(), "end": match.end(), "label": label}
                for label, pattern in (("name", re.escape(name)), ("month", MONTHS))
                for match in re.finditer(pattern, text)
            ]
            for text, name in zip(texts, names, strict=True)
        ]
    )


def write_config(path: Path, encoder: Path, *, epochs: int = 2, extra: str = "") -> Path:
    """Write a training config for both sample tasks over a tiny encoder, with a third of the
    samples' rows.
    """
    table = sample_rows("train").gather_every(3).to_arrow()
    pq.write_table(table, path.parent / TRAIN_FILE)
    if ENTITIES_FILE in extra:
        entities = entity_column(table["text"].to_pylist(), table["entity"].to_pylist())
        pq.write_table(table.append_column("entities", entities), path.parent / ENTITIES_FILE)
    path.write_text(
        f"""
schema_version = 1
seed = 1
[encoder]
source = "{encoder}"
max_tokens = 128
[train]
epoch_steps = 1
epochs = {epochs}
learning_rate = 5e-3
precision = "fp32"
{extra}
[tasks.narrative]
loss.name = "db"
[[tasks.narrative.data]]
path = "{TRAIN_FILE}"
labels_column = "narratives"
[tasks.entity_framing]
loss.name = "db"
title = false
entity_markers = true
[[tasks.entity_framing.data]]
path = "{TRAIN_FILE}"
labels_column = "roles"
"""
    )
    return path
