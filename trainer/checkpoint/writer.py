"""Writing the finished checkpoint folder."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from schemas.arrays import Int32Array
from schemas.bundle.facts import EncoderFacts, TrainingFacts
from schemas.config.models import TrainingRun
from schemas.io.files import atomic_path, write_atomic
from schemas.kinds import KINDS
from schemas.tasks.parents import HasParents, parents_among
from trainer.checkpoint.reader import (
    CheckpointFiles,
    CheckpointInfo,
    CheckpointTask,
    Corrections,
    checkpoint_task_model,
    write_heldout,
    write_references,
    write_sample,
)
from trainer.data.task_data import TaskData
from trainer.evaluation.history import History
from trainer.kinds import TRAINER_KINDS
from trainer.model.encoders import LoadedEncoder

PACKAGES = ("torch", "transformers", "tokenizers", "numpy")
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def publish_checkpoint(
    files: CheckpointFiles,
    config: TrainingRun,
    encoder: LoadedEncoder,
    data: Mapping[str, TaskData],
    history: History,
    best_weights: Path,
    corrections: Corrections,
) -> None:
    """Write everything the exporter needs, `checkpoint.json` last, and drop the run's state."""
    encoder.model.config.save_pretrained(files.folder)
    with atomic_path(files.tokenizer) as temporary:
        encoder.tokenizer.save(str(temporary))
    kinds = {name: task.kind for name, task in config.tasks.items()}
    heldout = {name: task.heldout for name, task in data.items()}
    write_heldout(files, heldout, kinds, corrections)
    write_sample(files, {name: _pieces(task) for name, task in data.items()})
    write_references(files, _reference_ids(data, kinds))
    write_atomic(files.reference, json.dumps(_reference(data), indent=1, ensure_ascii=False))
    with atomic_path(files.weights) as temporary:
        shutil.copyfile(best_weights, temporary)
    info = CheckpointInfo(
        config_sha256=config.sha256(),
        encoder=_encoder_facts(encoder),
        max_tokens=config.encoder.max_tokens,
        pad_id=encoder.pad_id,
        best_epoch=0 if history.best is None else history.best.epoch,
        tasks={name: _task(name, config, task) for name, task in data.items()},
    )
    write_atomic(files.info, info.model_dump_json(indent=1))
    shutil.rmtree(files.state, ignore_errors=True)


def _encoder_facts(encoder: LoadedEncoder) -> EncoderFacts:
    config = encoder.model.config
    return EncoderFacts(
        source=encoder.source,
        model_type=config.model_type,
        hidden=config.hidden_size,
        layers=config.num_hidden_layers,
        parameters=sum(parameter.numel() for parameter in encoder.model.parameters()),
    )


def _task(name: str, config: TrainingRun, data: TaskData) -> CheckpointTask:
    task = config.tasks[name]
    own = set(KINDS[task.kind].Options.model_fields)
    options = KINDS[task.kind].Options.model_validate(task.model_dump(include=own))
    if isinstance(options, HasParents):
        parents = parents_among(options.parents, data.labels)
        options = options.model_copy(update={"parents": parents})
    objective = TRAINER_KINDS[task.kind].objective(task)
    return checkpoint_task_model(task.kind)(
        kind=task.kind,
        labels=data.labels,
        text=data.spec,
        windows=data.windows,
        options=options,
        training=TrainingFacts(
            config_sha256=config.sha256(),
            data_sha256=data.sha256(),
            git_commit=_git_commit(),
            train_rows=len(data.train),
            positives=data.positives,
            loss=None if objective is None else objective.loss_name(task),
            options=options.model_dump(mode="json", exclude={"decision"}),
            versions={package: version(package) for package in PACKAGES},
        ),
    )


def _pieces(data: TaskData) -> list[Int32Array]:
    """Token ids of what the model reads at once of training texts."""
    return [piece.ids for text in data.train.texts for piece in text.pieces]


def _reference_ids(
    data: Mapping[str, TaskData], kinds: Mapping[str, str]
) -> dict[str, Sequence[str]]:
    """Ids of the reference texts, by task, of tasks that have any."""
    return {
        name: TRAINER_KINDS[kinds[name]].reference_ids(task)
        for name, task in data.items()
        if KINDS[kinds[name]].HAS_REFERENCES
    }


def _reference(data: Mapping[str, TaskData]) -> dict[str, dict[str, object]]:
    """Distributions of the training rows, with which a later check of data drift compares."""
    return {name: _distributions(task) for name, task in data.items()}


def _distributions(task: TaskData) -> dict[str, object]:
    lengths = np.asarray(task.train.lengths)
    labels_a_row = Counter(task.train.labels.sum(axis=1).tolist())
    return {
        "rows": len(task.train),
        "label_share": {
            label: count / len(task.train)
            for label, count in zip(task.labels, task.positives, strict=True)
        },
        "labels_a_row": {str(count): labels_a_row[count] for count in sorted(labels_a_row)},
        "token_quantiles": {
            f"{share:g}": float(value)
            for share, value in zip(QUANTILES, np.quantile(lengths, QUANTILES), strict=True)
        },
        "truncated_share": sum(text.truncated for text in task.train.texts) / len(task.train),
    }


def _git_commit() -> str | None:
    """Commit of the folder the run was started in, for the record."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
