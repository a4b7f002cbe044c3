"""A small bundle for the fuzzer and the torture test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from exporter.bundle.export import export_checkpoint
from schemas.config.files import load_config
from tests.tiny import KINDS_TASKS, make_encoder, make_tokenizer, sample_parents, write_config
from trainer.training.loop import train

WINDOWS = "{ tokens = 32, stride = 20, max_windows = 4 }"
LONG_TEXTS = tuple(
    f"tasks.{task}.windows={WINDOWS}"
    for task in ("narrative", "outlet", "vectors", "topic", "names")
)


def tiny_bundle(folder: Path, settings: Sequence[str] = ()) -> Path:
    """Train and export a bundle with tasks of every kind: two small layers, fast, low quality.

    settings: `KEY=VALUE` that change the config.
    """
    folder.mkdir(parents=True)
    encoder = make_encoder(folder / "encoder", tokenizer=make_tokenizer())
    path = write_config(folder / "config.toml", encoder, epochs=1, extra=KINDS_TASKS)
    config = load_config(path, settings)
    train(config, folder / "checkpoint")
    export_checkpoint(folder / "checkpoint", folder / "bundle", precisions=["fp32"])
    return folder / "bundle"


def robust_bundle(folder: Path) -> Path:
    """The same with all that a task may have: long texts in windows, labels of two levels."""
    pairs = (
        f"{json.dumps(fine)} = {json.dumps(coarse)}" for fine, coarse in sample_parents().items()
    )
    return tiny_bundle(folder, [*LONG_TEXTS, f"tasks.narrative.parents={{ {', '.join(pairs)} }}"])
