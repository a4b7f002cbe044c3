"""Word vectors in GloVe's formats, and a tokenizer with nearly the word rules of GloVe.

GloVe: Pennington, Socher, Manning (2014), GloVe: Global Vectors for Word Representation, EMNLP.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from schemas.arrays import Float32Array
from schemas.errors import EncoderError
from trainer.model.cnn_bilstm import CnnBilstmConfig, CnnBilstmModel

PAD, UNKNOWN, START = SPECIAL = ("[PAD]", "[UNK]", "[CLS]")
"""Special tokens, which precede the words. Every text begins with START, so that none is empty."""

MAX_WORDS = 400_000
"""Maximum number of words, the most frequent ones: all of GloVe 6B."""

_TOKEN = "|".join(
    [
        r"\p{L}(?:\.\p{L})+\.?",  # u.s.
        r"\p{N}+(?:[.,:/]\p{N}+)*",  # 1,000.5
        r"[\p{L}\p{M}\p{N}]+?(?=n't\b)|n't\b",  # did, n't
        r"'(?:s|re|ve|ll|d|m)\b",
        r"[\p{L}\p{M}\p{N}]+",
        r"\S",  # punctuation marks, one by one
    ]
)
"""Pattern of a token: nearly the Penn Treebank rules of GloVe. Those do not split hyphenated words;
here they are split, which leaves fewer words unknown."""


@dataclass(frozen=True)
class WordVectors:
    """Words and their vectors, the most frequent word first.

    vectors: (words, embedding) float32.
    """

    words: tuple[str, ...]
    vectors: Float32Array


def read_vectors(path: Path, *, max_words: int = MAX_WORDS) -> WordVectors:
    """Read the first `max_words` words.

    path: a text file with a word and its numbers per line, or a folder with one such `.txt`, or
    with one `.npy` of the vectors and one `.parquet` whose first column has the words.
    Raises EncoderError if it is neither, or is damaged.
    """
    try:
        table = _read_text(path, max_words) if path.is_file() else _read_folder(path, max_words)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise EncoderError(f"{path}: word vectors cannot be read: {error}") from error
    words, vectors = table.words, table.vectors
    if vectors.ndim != 2 or not vectors.size or len(words) != len(vectors):
        raise EncoderError(f"{path}: {len(words)} words, but vectors of shape {vectors.shape}")
    if len({*SPECIAL, *words}) < len(SPECIAL) + len(words):
        raise EncoderError(f"{path}: a word is duplicate, or is one of {', '.join(SPECIAL)}")
    if not np.isfinite(vectors).all():
        raise EncoderError(f"{path}: a vector is not finite")
    return table


def make_tokenizer(words: tuple[str, ...]) -> Tokenizer:
    """A tokenizer that lower-cases, splits into words and punctuation marks, and looks these up.

    The special tokens have the first ids.
    """
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Lowercase(), normalizers.Replace("\u2019", "'")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_TOKEN), "removed", invert=True)
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, SPECIAL.index(START))]
    )
    return tokenizer


def make_encoder(vectors: WordVectors) -> CnnBilstmModel:
    """A CNN-BiLSTM over the vectors, with all other weights initialized by torch's random numbers.

    [PAD] and [CLS] are zero, [UNK] is the mean of all words.
    """
    rows, embedding_size = len(SPECIAL) + len(vectors.words), vectors.vectors.shape[1]
    model = CnnBilstmModel(CnnBilstmConfig(vocab_size=rows, embedding_size=embedding_size))
    table = np.zeros((rows, embedding_size), np.float32)
    table[SPECIAL.index(UNKNOWN)] = vectors.vectors.mean(axis=0)
    table[len(SPECIAL) :] = vectors.vectors
    with torch.no_grad():
        model.embeddings.weight.copy_(torch.from_numpy(table))
    return model


def _read_folder(folder: Path, max_words: int) -> WordVectors:
    arrays, words, texts = (sorted(folder.glob(f"*.{end}")) for end in ("npy", "parquet", "txt"))
    if len(arrays) == len(words) == 1:
        vectors = np.load(arrays[0], mmap_mode="r", allow_pickle=False)
        names = pq.read_table(words[0]).column(0)
        if len(names) != len(vectors):
            raise ValueError(f"{len(names)} words, but {len(vectors)} vectors")
        first_words = tuple(str(name) for name in names[:max_words].to_pylist())
        return WordVectors(first_words, np.array(vectors[:max_words], dtype=np.float32))
    if len(texts) == 1:
        return _read_text(texts[0], max_words)
    raise ValueError("expected a text file, a folder with one .txt, or one .npy and one .parquet")


def _read_text(path: Path, max_words: int) -> WordVectors:
    words: list[str] = []
    rows: list[Float32Array] = []
    for number, (word, values) in enumerate(islice(_lines(path), max_words), start=1):
        try:
            rows.append(np.array(values, dtype=np.float32))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
        words.append(word)
    if not rows or len({len(row) for row in rows}) > 1:
        raise ValueError("expected a word and the same number of values in every line")
    return WordVectors(tuple(words), np.stack(rows))


def _lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    with path.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            word, *values = line.rstrip("\r\n").split(" ")
            yield word, values
