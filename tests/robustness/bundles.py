"""A small bundle for the fuzzer and the torture test."""

from __future__ import annotations

from pathlib import Path

from exporter.bundle.export import export_checkpoint
from schemas.config.files import load_config
from tests.tiny import KINDS_TASKS, make_encoder, make_tokenizer, write_config
from trainer.training.loop import train


def tiny_bundle(folder: Path) -> Path:
    """Train and export a bundle with tasks of every kind: two small layers, fast, low quality."""
    folder.mkdir(parents=True)
    encoder = make_encoder(folder / "encoder", tokenizer=make_tokenizer())
    config = load_config(write_config(folder / "config.toml", encoder, epochs=1, extra=KINDS_TASKS))
    train(config, folder / "checkpoint")
    export_checkpoint(folder / "checkpoint", folder / "bundle", precisions=["fp32"])
    return folder / "bundle"
