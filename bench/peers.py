"""Classifiers of transformers to compare with: the same encoder, untrained heads."""

from __future__ import annotations

from pathlib import Path

from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    PreTrainedTokenizerFast,
)

from schemas.bundle.folder import Bundle
from schemas.bundle.metadata import ArtefactMetadata
from trainer.model.encoders import locate


def peer_model(metadata: ArtefactMetadata, folder: Path) -> Path:
    """Save the encoder of a bundle with an untrained classification head of transformers."""
    source = locate(metadata.encoder.source)
    model = AutoModelForSequenceClassification.from_pretrained(
        source,
        num_labels=len(metadata.labels),
        problem_type="multi_label_classification",
        trust_remote_code=False,
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, trust_remote_code=False).save_pretrained(folder)
    return folder


def random_peer(bundle: Path, folder: Path, *, config: BertConfig) -> Path:
    """Save a classifier with random weights, and the tokenizer of a bundle."""
    AutoModelForSequenceClassification.from_config(config, trust_remote_code=False).save_pretrained(
        folder
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(Bundle.open(bundle).files.tokenizer),
        model_input_names=["input_ids", "attention_mask"],
        pad_token="[PAD]",
    )
    tokenizer.save_pretrained(folder)
    return folder
